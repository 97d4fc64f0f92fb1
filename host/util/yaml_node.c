/* SPDX-License-Identifier: Apache-2.0 */
#include "util/yaml_node.h"

#include <assert.h>
#include <string.h>
#include <yaml.h>
#include "base/alloc.h"
#include "util/yaml.h"

/*
 * libyaml's marks count characters; an offset in bytes is found by walking from the last one asked
 * for, since marks come nearly in order.
 */
struct cursor {
    const char *text;
    size_t len;
    size_t chars;
    size_t bytes;
};

struct composer {
    const char *name;
    yaml_parser_t parser;
    struct cursor cursor;
    jv anchors; /* name -> place in anchored */
    struct yaml_node **anchored;
    size_t anchored_len, anchored_cap;
};

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

static size_t byte_offset(struct cursor *cur, size_t chars)
{
    while (cur->chars < chars && cur->bytes < cur->len) {
        cur->bytes++;
        while (cur->bytes < cur->len && is_continuation(cur->text[cur->bytes])) {
            cur->bytes++;
        }
        cur->chars++;
    }
    while (cur->chars > chars && cur->bytes > 0) {
        cur->bytes--;
        while (cur->bytes > 0 && is_continuation(cur->text[cur->bytes])) {
            cur->bytes--;
        }
        cur->chars--;
    }
    return cur->bytes;
}

static struct value_pos pos_of(const yaml_mark_t *mark)
{
    return (struct value_pos){.line = (int)mark->line + 1, .column = (int)mark->column + 1};
}

static void node_free(struct yaml_node *node)
{
    if (!node) {
        return;
    }
    for (size_t i = 0; i < node->len; i++) {
        node_free(node->items[i]);
    }
    free(node->items);
    free(node->tag);
    free(node->text);
    free(node);
}
SCOPED_PTR(struct yaml_node, node_free)

void yaml_doc_done(struct yaml_doc *doc)
{
    node_free(doc->root);
    *doc = (struct yaml_doc){0};
}

/* ---- events ---- */

static int parser_error(const struct composer *c, struct error *err)
{
    const yaml_parser_t *p = &c->parser;

    switch (p->error) {
    case YAML_MEMORY_ERROR:
        return error_set(err, ENOMEM, "%s: not enough memory", c->name);
    case YAML_READER_ERROR: {
        size_t line = 1;

        for (size_t i = 0; i < p->problem_offset && i < c->cursor.len; i++) {
            line += c->cursor.text[i] == '\n';
        }
        return error_set(err, EINVAL, "%s:%zu:1: %s (byte %zu of the text)", c->name, line,
                         p->problem, p->problem_offset);
    }
    default:
        error_set(err, EINVAL, "%s:%zu:%zu: %s%s%s", c->name, p->problem_mark.line + 1,
                  p->problem_mark.column + 1, p->context ? p->context : "", p->context ? ", " : "",
                  p->problem ? p->problem : "not YAML");
        if (p->problem && strstr(p->problem, "found character that cannot start any token")) {
            error_hint(err,
                       "indent with blanks, not tabs, and put quotes around a value that begins "
                       "with a special character");
        }
        return -EINVAL;
    }
}

static int next_event(struct composer *c, yaml_event_t *ret, struct error *err)
{
    if (!yaml_parser_parse(&c->parser, ret)) {
        return parser_error(c, err);
    }
    return 0;
}

static int error_at(const char *name, struct value_pos pos, struct error *err, int code,
                    const char *what, const char *detail)
{
    if (detail) {
        return error_set(err, code, "%s:%d:%d: %s '%s'", name, pos.line, pos.column, what, detail);
    }
    return error_set(err, code, "%s:%d:%d: %s", name, pos.line, pos.column, what);
}

static int limit_error(const struct composer *c, struct value_pos pos, const char *what,
                       struct error *err)
{
    error_at(c->name, pos, err, E2BIG, what, NULL);
    error_hint(err, "a configuration is at most %d levels deep and has at most %d values",
               YAML_MAX_DEPTH, YAML_MAX_NODES);
    return -E2BIG;
}

/* ---- composing ---- */

static struct yaml_node *node_new(struct composer *c, enum yaml_kind kind,
                                  const yaml_event_t *event)
{
    struct yaml_node *node = xnew(struct yaml_node);

    node->kind = kind;
    node->pos = pos_of(&event->start_mark);
    node->span.start = byte_offset(&c->cursor, event->start_mark.index);
    node->span.end = byte_offset(&c->cursor, event->end_mark.index);
    node->count = 1;
    node->height = 1;
    return node;
}

/* Makes the node known under @anchor once it is whole: before, an alias to it would be a loop. */
static void remember(struct composer *c, char *anchor, struct yaml_node *node)
{
    if (!anchor) {
        return;
    }
    node->anchored = true;
    array_reserve(c->anchored, c->anchored_cap, c->anchored_len + 1);
    c->anchored[c->anchored_len] = node;
    c->anchors = jv_object_set(c->anchors, jv_string(anchor), jv_number((double)c->anchored_len));
    c->anchored_len++;
}

static int compose_alias(struct composer *c, const yaml_event_t *event, struct yaml_node **ret,
                         struct error *err)
{
    const char *anchor = (const char *)event->data.alias.anchor;
    jv place = jv_object_get(jv_copy(c->anchors), jv_string(anchor));
    struct yaml_node *node;

    if (!jv_is_valid(place)) {
        jv_free(place);
        error_at(c->name, pos_of(&event->start_mark), err, EINVAL, "unknown alias", anchor);
        return error_hint(err,
                          "define it before with '&%s', outside of its own value; put quotes "
                          "around a text that begins with '*'",
                          anchor);
    }
    node = node_new(c, YAML_KIND_ALIAS, event);
    node->target = c->anchored[(size_t)jv_number_value(place)];
    node->count = node->target->count;
    node->bytes = node->target->bytes;
    node->height = node->target->height;
    *ret = node;
    return 0;
}

static enum value_style style_of(yaml_scalar_style_t style)
{
    switch (style) {
    case YAML_PLAIN_SCALAR_STYLE:
        return VALUE_STYLE_PLAIN;
    case YAML_LITERAL_SCALAR_STYLE:
    case YAML_FOLDED_SCALAR_STYLE:
        return VALUE_STYLE_BLOCK;
    default:
        return VALUE_STYLE_QUOTED;
    }
}

static int compose_scalar(struct composer *c, const yaml_event_t *event, struct yaml_node **ret,
                          struct error *err)
{
    const char *text = (const char *)event->data.scalar.value;
    struct yaml_node *node;

    if (memchr(text, 0, event->data.scalar.length)) {
        return error_at(c->name, pos_of(&event->start_mark), err, EINVAL,
                        "a text cannot hold a NUL character", NULL);
    }
    node = node_new(c, YAML_KIND_SCALAR, event);
    node->text = xstrdup(text);
    node->tag = xstrdup((const char *)event->data.scalar.tag);
    node->style = style_of(event->data.scalar.style);
    node->bytes = event->data.scalar.length;
    remember(c, (char *)event->data.scalar.anchor, node);
    *ret = node;
    return 0;
}

static int add_item(struct composer *c, struct yaml_node *node, struct yaml_node *item,
                    struct error *err)
{
    array_reserve(node->items, node->cap, node->len + 1);
    node->items[node->len++] = item;
    node->count += item->count;
    node->bytes += item->bytes;
    node->height = MAX(node->height, item->height + 1);
    if (node->height > YAML_MAX_DEPTH) {
        return limit_error(c, item->pos, "too many levels", err);
    }
    if (node->count > YAML_MAX_NODES) {
        return limit_error(c, item->pos, "too many values", err);
    }
    if (node->bytes > YAML_MAX_EXPANDED) {
        return limit_error(c, item->pos, "too long after its aliases are filled in", err);
    }
    return 0;
}

static int compose(struct composer *c, const yaml_event_t *event, int depth, struct yaml_node **ret,
                   struct error *err);

/* The items up to the end event. In block style the end mark is where the next token begins. */
static int compose_items(struct composer *c, struct yaml_node *node, yaml_event_type_t end,
                         int depth, struct error *err)
{
    for (;;) {
        yaml_event_t event;
        struct yaml_node *item;
        int r = next_event(c, &event, err);

        if (r < 0) {
            return r;
        }
        if (event.type == end) {
            if (node->flow) {
                node->span.end = byte_offset(&c->cursor, event.end_mark.index);
            } else if (node->len) {
                node->span.end = node->items[node->len - 1]->span.end;
            }
            yaml_event_delete(&event);
            return 0;
        }
        r = compose(c, &event, depth + 1, &item, err);
        yaml_event_delete(&event);
        if (r == 0) {
            r = add_item(c, node, item, err);
        }
        if (r < 0) {
            return r;
        }
    }
}

static int compose_collection(struct composer *c, const yaml_event_t *event, int depth,
                              struct yaml_node **ret, struct error *err)
{
    bool is_map = event->type == YAML_MAPPING_START_EVENT;
    scoped(node_free) struct yaml_node *node =
        node_new(c, is_map ? YAML_KIND_MAP : YAML_KIND_LIST, event);
    char *anchor;
    int r;

    if (depth >= YAML_MAX_DEPTH) {
        return limit_error(c, node->pos, "too many levels", err);
    }
    if (is_map) {
        node->flow = event->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE;
        node->tag = xstrdup((const char *)event->data.mapping_start.tag);
        anchor = (char *)event->data.mapping_start.anchor;
    } else {
        node->flow = event->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
        node->tag = xstrdup((const char *)event->data.sequence_start.tag);
        anchor = (char *)event->data.sequence_start.anchor;
    }
    r = compose_items(c, node, is_map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT, depth,
                      err);
    if (r < 0) {
        return r;
    }
    remember(c, anchor, node);
    *ret = steal(node);
    return 0;
}

static int compose(struct composer *c, const yaml_event_t *event, int depth, struct yaml_node **ret,
                   struct error *err)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return compose_alias(c, event, ret, err);
    case YAML_SCALAR_EVENT:
        return compose_scalar(c, event, ret, err);
    default:
        return compose_collection(c, event, depth, ret, err);
    }
}

/* Skips to the first node and composes it; no document gives no root. */
static int compose_document(struct composer *c, struct yaml_doc *doc, struct error *err)
{
    for (;;) {
        yaml_event_t event;
        yaml_event_type_t type;
        int r = next_event(c, &event, err);

        if (r < 0) {
            return r;
        }
        type = event.type;
        if (type == YAML_STREAM_END_EVENT || type == YAML_DOCUMENT_END_EVENT) {
            doc->end = byte_offset(&c->cursor, event.start_mark.index);
            yaml_event_delete(&event);
            return 0;
        }
        if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT) {
            r = compose(c, &event, 0, &doc->root, err);
        }
        yaml_event_delete(&event);
        if (r < 0) {
            return r;
        }
    }
}

int yaml_doc_parse(const char *name, const char *text, size_t len, struct yaml_doc *ret,
                   struct error *err)
{
    struct composer c = {.name = name, .cursor = {.text = text, .len = len}};
    scoped(yaml_doc_done) struct yaml_doc doc = {0};
    int r;

    if (len > YAML_MAX_BYTES) {
        return error_set(err, E2BIG, "%s: longer than %u bytes", name, YAML_MAX_BYTES);
    }
    if (!yaml_parser_initialize(&c.parser)) {
        return error_set(err, ENOMEM, "%s: not enough memory", name);
    }
    yaml_parser_set_encoding(&c.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&c.parser, (const unsigned char *)text, len);
    c.anchors = jv_object();
    r = compose_document(&c, &doc, err);
    doc.has_anchors = c.anchored_len > 0;
    jv_free(c.anchors);
    free(c.anchored);
    yaml_parser_delete(&c.parser);
    if (r < 0) {
        return r;
    }
    *ret = doc;
    doc = (struct yaml_doc){0};
    return 0;
}
