/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes of a YAML text with their places in it, for the loader and the editor of yaml.h; nobody
 * else includes this. A tree borrows nothing: it stays valid when the text goes away. Nothing is
 * resolved: an alias points to its node, a merge key is a key.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"
#include "base/error.h"
#include "base/macros.h"
#include "util/value.h"

enum yaml_kind {
    YAML_KIND_SCALAR,
    YAML_KIND_LIST,
    YAML_KIND_MAP,
    YAML_KIND_ALIAS,
};

/* Bytes [start, end) of the text. */
struct yaml_span {
    size_t start, end;
};

struct yaml_node {
    enum yaml_kind kind;
    struct yaml_span span; /* with anchor and tag; a block list or map ends with its last item */
    struct value_pos pos;
    enum value_style style; /* of a scalar */
    bool flow;              /* [..] or {..} */
    bool anchored;
    char *tag;                /* as resolved by libyaml, or NULL */
    char *text;               /* of a scalar */
    struct yaml_node **items; /* a map's are key, value, key, value */
    size_t len, cap;
    const struct yaml_node *target; /* of an alias; in the same tree */
    /* after alias expansion */
    size_t count;  /* nodes */
    size_t bytes;  /* of scalars */
    size_t height; /* 1 for a scalar */
};

struct yaml_doc {
    struct yaml_node *root; /* NULL: no document in the text */
    bool has_anchors;
    size_t end; /* where the first document ends: its end of text, "..." or "---" */
};

/* Errors as yaml_load(). */
int yaml_doc_parse(const char *name, const char *text, size_t len, struct yaml_doc *ret,
                   struct error *err);
void yaml_doc_done(struct yaml_doc *doc);
SCOPED_VAL(struct yaml_doc, yaml_doc_done)

/* The tree that a document means. Errors as yaml_load(). @ret_lines may be NULL. */
int yaml_doc_value(const char *name, const struct yaml_doc *doc, jv *ret,
                   struct value_lines **ret_lines, struct error *err);

/*
 * What an untagged scalar of @style means: kind and value; *ret_text (owned, may be NULL for null)
 * is the text for string fields.
 */
jv yaml_scalar_value(const char *text, enum value_style style, char **ret_text);

/*
 * The pieces of yaml_dump() that the editor puts into a text. All borrow @value. A nested block
 * begins on the line where it is put and has its further lines indented by @indent columns; it ends
 * without a newline.
 */
void yaml_put_block(struct buf *out, jv value, size_t indent);
/* On one line, for [..] and {..}. */
void yaml_put_flow(struct buf *out, jv value);
/* A key or another text, quoted if needed; @flow when inside of [..] or {..}. */
void yaml_put_string(struct buf *out, const char *text, bool flow);
/* "key: value" where the value of a block list or map goes to the next lines. */
void yaml_put_entry(struct buf *out, const char *key, jv value, size_t indent);
/* What stands behind "key:" or another place that wants a blank or a new line before the value. */
void yaml_put_after_key(struct buf *out, jv value, size_t indent);
/* True for a list or map with something in it: it cannot stand on the line of its key. */
bool yaml_is_block(jv value);
