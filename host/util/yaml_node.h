/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes of a YAML text with their places in it, for the loader and the editor of yaml.h; nobody
 * else includes this. A tree borrows nothing: it stays valid when the text goes away. Nothing is
 * resolved: an alias points to its node, a merge key is a key.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
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
