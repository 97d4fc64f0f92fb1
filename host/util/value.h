/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Value trees: jv of libjq (immutable, reference-counted: every jv_* call consumes its arguments)
 * with helpers, JSON text, jq programs, and where each node came from.
 *
 * A tree that yaml_load() made comes with a struct value_lines of the same shape. It says for each
 * node at which line and column it stands and, for a scalar, which text a field of type string
 * gets. A reader with a schema walks both side by side:
 *
 *     jv item = jv_object_get(jv_copy(tree), jv_string("mountPoint"));
 *     const struct value_lines *at = value_lines_child(lines, "mountPoint");
 *
 *     string field:  value_text(item, at)          0644 -> "420", 1.50 -> "1.5", 2.0.0 as it is
 *     integer field: value_int(item, at, &number)  8080, "8080", 1.9 -> 1
 *     message:       value_lines_pos(at).line
 */
#pragma once

#include <jv.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/macros.h"

/* jv_free() at the end of the scope: scoped(value_done) jv tree = ... */
static inline void value_done(jv *value)
{
    jv_free(*value);
}
SCOPED_VAL(jv, value_done)

/* Yields the tree and leaves an invalid one in the variable. */
static inline jv value_steal(jv *value)
{
    jv v = *value;

    *value = jv_invalid();
    return v;
}

/* ---- paths: ".mounts[0].location", ".param[\"a b\"]", "." is the root ---- */

/* The path as an array of strings and numbers, as jv_getpath() takes it. Errors: EINVAL. */
int value_path_parse(const char *path, jv *ret, struct error *err);
/* Text of such an array (consumed); caller frees. */
char *value_path_format(jv path) _nonnull_;

/* ---- positions and source texts ---- */

struct value_pos {
    int line;   /* from 1; 0: unknown */
    int column; /* from 1 */
};

enum value_style {
    VALUE_STYLE_NONE, /* a list or map, or not from a text */
    VALUE_STYLE_PLAIN,
    VALUE_STYLE_QUOTED, /* 'x', "x", !!str x */
    VALUE_STYLE_BLOCK,  /* | or > */
    VALUE_STYLE_BINARY, /* !!binary: the text is the decoded bytes, maybe not UTF-8 */
};

struct value_lines; /* one node and those below it */

struct value_lines *value_lines_new(void);
void value_lines_free(struct value_lines *lines);
SCOPED_PTR(struct value_lines, value_lines_free)
/* Sets the position of @path, making the nodes on the way. A path that does not parse is a bug. */
void value_lines_set(struct value_lines *lines, const char *path, struct value_pos pos);

/* The node below, borrowed; NULL if there is none. @lines may be NULL. */
const struct value_lines *value_lines_child(const struct value_lines *lines, const char *key);
const struct value_lines *value_lines_item(const struct value_lines *lines, size_t index);
/* The node of exactly @path, or NULL. */
const struct value_lines *value_lines_at(const struct value_lines *lines, const char *path);

/* Where the value begins, and where its key (0,0 without one). @lines may be NULL. */
struct value_pos value_lines_pos(const struct value_lines *lines);
struct value_pos value_lines_key_pos(const struct value_lines *lines);
/* How the scalar was written. @lines may be NULL. */
enum value_style value_lines_style(const struct value_lines *lines);
/* What a string field gets from this scalar; NULL for null, lists, maps. Borrowed. */
const char *value_lines_text(const struct value_lines *lines);
/* Position of @path, else of its nearest parent. @lines may be NULL. */
struct value_pos value_lines_find(const struct value_lines *lines, const char *path);

/* For those who build the tree: each returns the new node, owned by its parent. */
struct value_lines *value_lines_add_child(struct value_lines *lines, const char *key,
                                          struct value_pos key_pos);
struct value_lines *value_lines_add_item(struct value_lines *lines);
/* @text may be NULL. */
void value_lines_set_scalar(struct value_lines *lines, enum value_style style, const char *text);
void value_lines_set_pos(struct value_lines *lines, struct value_pos pos);
/* Makes @to look like @from but for its position and key; what is below is shared, not copied. */
void value_lines_share(struct value_lines *to, const struct value_lines *from);

/* ---- scalars by the rules of the configuration; both borrow @value, @at may be NULL ---- */

/* What a string field gets: caller frees; NULL for null, lists and maps. */
char *value_text(jv value, const struct value_lines *at);
/* What an integer field gets: truncated; a string counts when it reads as a number. -EINVAL,
 * -ERANGE. */
int value_int(jv value, const struct value_lines *at, int64_t *ret);

/* ---- JSON and jq ---- */

/* Compact JSON without HTML escapes; object keys keep insertion order only if @sort is false. */
char *value_to_json(jv value, bool sort); /* consumes @value; caller frees */
/* The words of libjq in an invalid jv (consumed). Caller frees. */
char *value_invalid_text(jv value);
/* Errors: EINVAL with the parser's words. */
int value_from_json(const char *text, jv *ret, struct error *err);
/*
 * Runs a jq program over @input (consumed) and returns an array of its results. File and
 * environment access are off: such a program fails with "env operations have been disabled" or
 * "file operations have been disabled". Errors: EINVAL (compile or run-time error, the message is
 * jq's).
 */
int value_query(jv input, const char *program, jv *ret_results, struct error *err);
