/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Editing works on the text: the place of the value is taken from libyaml's marks, the bytes there
 * are replaced, everything else stays. How a value is put depends on what is around it (block or
 * flow style, same line or next, comment behind). The result is loaded again and has to be the tree
 * that the edit asked for. If it is not, or if a place is too odd for a splice, the same edit is
 * tried one level up, as replacing the whole parent, and at last as writing the whole document
 * anew: comments may suffer then, values never.
 */
#include <assert.h>
#include <string.h>
#include "base/alloc.h"
#include "util/yaml.h"
#include "util/yaml_node.h"

#define NAME "lima.yaml"

enum action {
    ACTION_SET,
    ACTION_DELETE,
    ACTION_INSERT, /* an item of the list at the path, before index */
};

struct edit {
    const char *text;
    size_t len;
    const struct yaml_doc *doc;
    enum action action;
    jv path;   /* borrowed */
    int steps; /* of the path, that count */
    int index;
    jv expected; /* the whole tree after the edit; borrowed */
};

/* What was found at a path: the value, the collection it is in, and its place there. */
struct place {
    const struct yaml_node *parent; /* NULL for the root */
    size_t at;                      /* of the value in parent->items */
    const struct yaml_node *node;   /* NULL: not there */
    int found;                      /* steps that lead to something */
};

struct splice {
    size_t start, end;
    struct buf text;
};

/* Splices go to the text in the order of their places and do not overlap. */
struct splices {
    struct splice items[2];
    size_t len;
};

static void splices_done(struct splices *s)
{
    for (size_t i = 0; i < s->len; i++) {
        buf_done(&s->items[i].text);
    }
}
SCOPED_VAL(struct splices, splices_done)

static struct buf *splice_add(struct splices *s, size_t start, size_t end)
{
    assert(s->len < ARRAY_LEN(s->items) && start <= end);
    s->items[s->len] = (struct splice){.start = start, .end = end, .text = BUF_INIT};
    return &s->items[s->len++].text;
}

static char *splices_apply(const struct edit *e, const struct splices *s)
{
    struct buf out = BUF_INIT;
    size_t at = 0;

    for (size_t i = 0; i < s->len; i++) {
        const struct splice *item = &s->items[i];

        assert(item->start >= at);
        buf_put(&out, e->text + at, item->start - at);
        buf_put(&out, buf_str(&item->text), item->text.len);
        at = item->end;
    }
    buf_put(&out, e->text + at, e->len - at);
    if (out.len && out.data[out.len - 1] != '\n') {
        buf_putc(&out, '\n');
    }
    return buf_steal(&out);
}

/* ---- places in the text ---- */

static size_t line_end(const struct edit *e, size_t at)
{
    while (at < e->len && e->text[at] != '\n') {
        at++;
    }
    return at > 0 && at < e->len && e->text[at - 1] == '\r' ? at - 1 : at;
}

static size_t line_start(const struct edit *e, size_t at)
{
    while (at > 0 && e->text[at - 1] != '\n') {
        at--;
    }
    return at;
}

/* Behind the newline of the line of @at. */
static size_t next_line(const struct edit *e, size_t at)
{
    while (at < e->len && e->text[at] != '\n') {
        at++;
    }
    return at + (at < e->len);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Nothing but blanks stands before @at on its line. */
static bool is_first_on_line(const struct edit *e, size_t at)
{
    while (at > 0 && is_blank(e->text[at - 1])) {
        at--;
    }
    return at == 0 || e->text[at - 1] == '\n';
}

static bool same_line(const struct edit *e, size_t a, size_t b)
{
    return !memchr(e->text + a, '\n', b - a);
}

/* End of what is written: libyaml lets a block scalar reach over the blank lines behind it. */
static size_t node_end(const struct edit *e, const struct yaml_node *node)
{
    size_t end = node->span.end;

    while (end > node->span.start && strchr(" \t\r\n", e->text[end - 1])) {
        end--;
    }
    return end;
}

static size_t column_of(const struct yaml_node *node)
{
    return (size_t)node->pos.column - 1;
}

/* The dash of a list item, or false when it is not on the item's line. */
static bool find_dash(const struct edit *e, const struct yaml_node *item, size_t *ret)
{
    size_t at = item->span.start;

    while (at > 0 && is_blank(e->text[at - 1])) {
        at--;
    }
    if (at == 0 || e->text[at - 1] != '-') {
        return false;
    }
    *ret = at - 1;
    return true;
}

/* Column of the dash of @item in characters. */
static size_t dash_column(const struct edit *e, const struct yaml_node *item, size_t dash)
{
    size_t characters = 0;

    for (size_t i = dash; i < item->span.start; i++) {
        characters += ((unsigned char)e->text[i] & 0xc0) != 0x80;
    }
    return column_of(item) - characters;
}

/* The colon of a map entry, or false for "? key" forms. */
static bool find_colon(const struct edit *e, const struct yaml_node *key, size_t *ret)
{
    size_t at = key->span.end;

    while (at < e->len && is_blank(e->text[at])) {
        at++;
    }
    *ret = at;
    return at < e->len && e->text[at] == ':';
}

static int find_in_map(const struct yaml_node *map, const char *name, size_t *ret)
{
    for (size_t i = 0; i + 1 < map->len; i += 2) {
        const struct yaml_node *key = map->items[i];
        scoped(free) char *text = NULL;

        if (key->kind != YAML_KIND_SCALAR) {
            continue;
        }
        jv_free(yaml_scalar_value(key->text, key->style, &text));
        if (strcmp(text ? text : key->text, name) == 0) {
            *ret = i + 1;
            return 0;
        }
    }
    return -ENOENT;
}

static int find_child(const struct yaml_node *node, jv step, size_t *ret)
{
    if (node->kind == YAML_KIND_MAP && jv_get_kind(step) == JV_KIND_STRING) {
        return find_in_map(node, jv_string_value(step), ret);
    }
    if (node->kind == YAML_KIND_LIST && jv_get_kind(step) == JV_KIND_NUMBER) {
        *ret = (size_t)jv_number_value(step);
        return *ret < node->len ? 0 : -ENOENT;
    }
    return -ENOENT;
}

static struct place find_place(const struct edit *e)
{
    struct place place = {.node = e->doc->root};

    for (; place.node && place.found < e->steps; place.found++) {
        jv step = jv_array_get(jv_copy(e->path), place.found);
        size_t at;
        int r = find_child(place.node, step, &at);

        jv_free(step);
        place.parent = place.node;
        if (r < 0) {
            place.node = NULL;
            return place;
        }
        place.at = at;
        place.node = place.parent->items[at];
    }
    return place;
}

/* What the first @steps of the path hold after the edit. */
static jv expected_at(const struct edit *e, int steps)
{
    return jv_getpath(jv_copy(e->expected), jv_array_slice(jv_copy(e->path), 0, steps));
}

/* ---- putting values: 0, or -EAGAIN when this place is too odd ---- */

/*
 * Replaces the bytes @at by the value. Of a text of several lines only the first ("|-") goes there;
 * the others replace @below, which begins at the end of a line, so that a comment between stays
 * one.
 */
static void put_value(struct splices *s, const struct edit *e, struct yaml_span at,
                      struct yaml_span below, const char *before, jv value, size_t indent)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    size_t first;
    struct buf *out = splice_add(s, at.start, at.end);

    yaml_put_block(&text, value, indent);
    first = jv_get_kind(value) == JV_KIND_STRING ? strcspn(buf_str(&text), "\n") : text.len;
    buf_puts(out, before);
    buf_put(out, buf_str(&text), first);
    out = splice_add(s, below.start, below.end);
    buf_put(out, text.data + first, text.len - first);
}

/* Replaces a value by another that goes on the line of its @mark (a colon or dash). */
static void put_on_line(struct splices *s, const struct edit *e, const struct yaml_node *node,
                        size_t mark, jv value, size_t indent)
{
    size_t end = node_end(e, node);
    struct yaml_span at = {node->span.start, end};
    struct yaml_span below = {line_end(e, end), line_end(e, end)};

    if (!same_line(e, mark, node->span.start)) {
        bool is_scalar = node->kind == YAML_KIND_SCALAR;

        /* a comment behind the last line of a list or map belongs to its last item */
        at = (struct yaml_span){mark + 1, mark + 1};
        below = (struct yaml_span){line_end(e, mark), is_scalar ? end : below.end};
    }
    put_value(s, e, at, below, at.start == mark + 1 ? " " : "", value, indent);
}

/* The value of a map entry in block style: behind the colon, or on the lines below. */
static int replace_in_map(const struct edit *e, const struct place *place, jv value,
                          struct splices *s)
{
    const struct yaml_node *node = place->node;
    const struct yaml_node *key = place->parent->items[place->at - 1];
    size_t indent = column_of(key);
    size_t eol = line_end(e, node_end(e, node));
    size_t colon, from;

    if (!find_colon(e, key, &colon)) {
        return -EAGAIN;
    }
    if (!yaml_is_block(value)) {
        put_on_line(s, e, node, colon, value, indent);
        return 0;
    }
    from = line_end(e, colon);
    if (same_line(e, colon, node->span.start)) {
        splice_add(s, colon + 1, node_end(e, node));
        from = eol;
    }
    yaml_put_after_key(splice_add(s, from, eol), value, indent);
    return 0;
}

static int replace_in_list(const struct edit *e, const struct place *place, jv value,
                           struct splices *s)
{
    size_t dash, indent;

    if (!find_dash(e, place->node, &dash)) {
        return -EAGAIN;
    }
    indent = dash_column(e, place->node, dash);
    put_on_line(s, e, place->node, dash, value, indent + (yaml_is_block(value) ? 2 : 0));
    return 0;
}

static int replace(const struct edit *e, const struct place *place, jv value, struct splices *s)
{
    const struct yaml_node *node = place->node;
    size_t end;

    if (!place->parent) {
        if (node->span.start == node->span.end) {
            return -EAGAIN;
        }
        end = node_end(e, node);
        put_value(s, e, (struct yaml_span){node->span.start, end}, (struct yaml_span){end, end}, "",
                  value, yaml_is_block(value) ? column_of(node) : 0);
        return 0;
    }
    if (place->parent->flow) {
        struct buf *out = splice_add(s, node->span.start, node_end(e, node));

        buf_puts(out, e->text[node->span.start - 1] == ':' ? " " : "");
        yaml_put_flow(out, value);
        return 0;
    }
    return (place->parent->kind == YAML_KIND_MAP ? replace_in_map : replace_in_list)(e, place,
                                                                                     value, s);
}

/* A new key behind the last one. */
static int add_to_map(const struct edit *e, const struct yaml_node *map, const char *name, jv value,
                      struct splices *s)
{
    struct buf *out;

    if (!map->len) {
        return -EAGAIN;
    }
    if (map->flow) {
        size_t end = node_end(e, map->items[map->len - 1]);

        out = splice_add(s, end, end);
        buf_puts(out, ", ");
        yaml_put_string(out, name, true);
        buf_puts(out, ": ");
        yaml_put_flow(out, value);
    } else {
        size_t eol = line_end(e, node_end(e, map));
        size_t indent = column_of(map->items[0]);

        out = splice_add(s, eol, eol);
        buf_printf(out, "\n%*s", (int)indent, "");
        yaml_put_entry(out, name, value, indent);
    }
    return 0;
}

/* Start of the comment lines that stand directly above the line of @at. */
static size_t above_comments(const struct edit *e, size_t at)
{
    size_t start = line_start(e, at);

    while (start > 0) {
        size_t before = line_start(e, start - 1);
        size_t p = before;

        while (is_blank(e->text[p])) {
            p++;
        }
        if (e->text[p] != '#') {
            break;
        }
        start = before;
    }
    return start;
}

static int add_to_flow_list(const struct edit *e, const struct yaml_node *list, size_t index,
                            jv value, struct splices *s)
{
    size_t at = index < list->len ? list->items[index]->span.start
                                  : node_end(e, list->items[list->len - 1]);
    struct buf *out = splice_add(s, at, at);

    buf_puts(out, index < list->len ? "" : ", ");
    yaml_put_flow(out, value);
    buf_puts(out, index < list->len ? ", " : "");
    return 0;
}

static int add_to_list(const struct edit *e, const struct yaml_node *list, size_t index, jv value,
                       struct splices *s)
{
    size_t dash, indent, at;
    struct buf *out;

    if (!list->len || index > list->len) {
        return -EAGAIN;
    }
    if (list->flow) {
        return add_to_flow_list(e, list, index, value, s);
    }
    if (!find_dash(e, list->items[0], &dash)) {
        return -EAGAIN;
    }
    indent = dash_column(e, list->items[0], dash);
    if (index > 0) {
        at = line_end(e, node_end(e, list->items[index - 1]));
        out = splice_add(s, at, at);
        buf_printf(out, "\n%*s- ", (int)indent, "");
        yaml_put_block(out, value, indent + (yaml_is_block(value) ? 2 : 0));
        return 0;
    }
    if (!is_first_on_line(e, dash)) {
        return -EAGAIN;
    }
    at = above_comments(e, dash);
    out = splice_add(s, at, at);
    buf_printf(out, "%*s- ", (int)indent, "");
    yaml_put_block(out, value, indent + (yaml_is_block(value) ? 2 : 0));
    buf_putc(out, '\n');
    return 0;
}

/* ---- the three actions ---- */

static int remove_from_flow(const struct edit *e, const struct yaml_node *in, size_t first,
                            size_t count, struct splices *s)
{
    if (first + count < in->len) {
        splice_add(s, in->items[first]->span.start, in->items[first + count]->span.start);
    } else {
        splice_add(s, node_end(e, in->items[first - 1]), node_end(e, in->items[first + count - 1]));
    }
    return 0;
}

static int remove_place(const struct edit *e, const struct place *place, struct splices *s)
{
    const struct yaml_node *in = place->parent;
    size_t count = in->kind == YAML_KIND_MAP ? 2 : 1;
    size_t first = place->at - (count - 1);
    size_t start, end = node_end(e, place->node);

    if (in->len == count) {
        return -EAGAIN; /* the parent becomes {} or [] */
    }
    if (in->flow) {
        return remove_from_flow(e, in, first, count, s);
    }
    start = in->items[first]->span.start;
    if (in->kind == YAML_KIND_LIST && !find_dash(e, in->items[first], &start)) {
        return -EAGAIN;
    }
    if (is_first_on_line(e, start)) {
        splice_add(s, line_start(e, start), next_line(e, end));
    } else if (in->kind == YAML_KIND_MAP && first + count < in->len) {
        splice_add(s, start, in->items[first + count]->span.start); /* the key behind "- " */
    } else {
        return -EAGAIN;
    }
    return 0;
}

static int set_place(const struct edit *e, const struct place *place, struct splices *s)
{
    int steps = place->node ? e->steps : place->found + 1;
    scoped(value_done) jv value = expected_at(e, steps);
    scoped(value_done) jv step = jv_invalid();

    if (place->node) {
        return replace(e, place, value, s);
    }
    if (!place->parent) {
        return -EAGAIN;
    }
    step = jv_array_get(jv_copy(e->path), place->found);
    if (place->parent->kind == YAML_KIND_MAP && jv_get_kind(step) == JV_KIND_STRING) {
        return add_to_map(e, place->parent, jv_string_value(step), value, s);
    }
    if (place->parent->kind == YAML_KIND_LIST && jv_get_kind(step) == JV_KIND_NUMBER &&
        (size_t)jv_number_value(step) == place->parent->len) {
        return add_to_list(e, place->parent, place->parent->len, value, s);
    }
    return -EAGAIN;
}

static int insert_at_place(const struct edit *e, const struct place *place, struct splices *s)
{
    scoped(value_done) jv list = jv_invalid();
    scoped(value_done) jv value = jv_invalid();

    if (!place->node || place->node->kind != YAML_KIND_LIST) {
        return -EAGAIN;
    }
    list = expected_at(e, e->steps);
    value = jv_array_get(jv_copy(list), e->index);
    return add_to_list(e, place->node, (size_t)e->index, value, s);
}

/* ---- trying and checking ---- */

static bool means(const char *text, jv expected)
{
    scoped(value_done) jv value = jv_invalid();

    return yaml_load(NAME, text, strlen(text), &value, NULL, NULL) == 0 &&
           jv_equal(jv_copy(value), jv_copy(expected));
}

static char *try_once(const struct edit *e)
{
    scoped(splices_done) struct splices s = {0};
    struct place place = find_place(e);
    scoped(free) char *text = NULL;
    int r;

    if (e->action == ACTION_INSERT) {
        r = insert_at_place(e, &place, &s);
    } else if (e->action == ACTION_DELETE) {
        r = place.node && place.parent ? remove_place(e, &place, &s) : -EAGAIN;
    } else {
        r = set_place(e, &place, &s);
    }
    if (r < 0) {
        return NULL;
    }
    text = splices_apply(e, &s);
    return means(text, e->expected) ? steal(text) : NULL;
}

/* The whole tree anew, below the text's first comments where that is possible. */
static char *write_anew(const struct edit *e)
{
    size_t keep = e->doc->root ? e->doc->root->span.start : e->doc->end;

    for (int attempt = 0; attempt < 2; attempt++) {
        struct buf out = BUF_INIT;
        char *text;

        buf_put(&out, e->text, attempt == 0 ? keep : 0);
        if (out.len && out.data[out.len - 1] != '\n') {
            buf_putc(&out, '\n');
        }
        yaml_dump(jv_copy(e->expected), &out);
        text = buf_steal(&out);
        if (means(text, e->expected)) {
            return text;
        }
        free(text);
    }
    return NULL;
}

static int edit_run(struct edit *e, char **ret_text, struct error *err)
{
    char *text = try_once(e);

    while (!text && e->steps > 0) {
        if (e->action != ACTION_INSERT) {
            e->steps--;
        }
        e->action = ACTION_SET;
        text = try_once(e);
    }
    if (!text) {
        text = write_anew(e);
    }
    if (!text) {
        return error_set(err, EINVAL, "the value cannot be written to this text");
    }
    *ret_text = text;
    return 0;
}

/* The list at @path after the insertion; consumes @list (null for a new one) and @value. */
static int insert_item(jv list, size_t index, jv value, jv *ret, struct error *err)
{
    jv out = jv_array();

    if (jv_get_kind(list) != JV_KIND_ARRAY) {
        jv_free(list);
        list = jv_array();
    }
    if (index > (size_t)jv_array_length(jv_copy(list))) {
        jv_free(list);
        jv_free(value);
        jv_free(out);
        return error_set(err, EINVAL, "item %zu is behind the end of the list", index);
    }
    jv_array_foreach(list, i, item)
    {
        if ((size_t)i == index) {
            out = jv_array_append(out, jv_copy(value));
        }
        out = jv_array_append(out, item);
    }
    if (index == (size_t)jv_array_length(list)) {
        out = jv_array_append(out, jv_copy(value));
    }
    jv_free(value);
    *ret = out;
    return 0;
}

/* The tree after the edit. Consumes @value. */
static int expect(const struct edit *e, jv old, jv value, jv *ret, struct error *err)
{
    jv tree;

    if (e->action == ACTION_INSERT) {
        jv list = jv_getpath(jv_copy(old), jv_copy(e->path));
        int r;

        if (!jv_is_valid(list)) {
            jv_free(list);
            list = jv_null();
        }
        r = insert_item(list, (size_t)e->index, value, &value, err);
        if (r < 0) {
            return r;
        }
    }
    if (e->action == ACTION_DELETE) {
        jv_free(value);
        tree = jv_delpaths(jv_copy(old), jv_array_append(jv_array(), jv_copy(e->path)));
    } else {
        tree = jv_setpath(jv_copy(old), jv_copy(e->path), value);
    }
    if (!jv_is_valid(tree)) {
        jv message = jv_invalid_get_msg(tree);

        error_set(err, EINVAL, "%s",
                  jv_get_kind(message) == JV_KIND_STRING ? jv_string_value(message)
                                                         : "the path does not fit the text");
        jv_free(message);
        return -EINVAL;
    }
    *ret = tree;
    return 0;
}

static int edit_text(const char *text, const char *path, enum action action, size_t index, jv value,
                     char **ret_text, struct error *err)
{
    struct edit e = {.text = text, .len = strlen(text), .action = action, .index = (int)index};
    scoped(yaml_doc_done) struct yaml_doc doc = {0};
    scoped(value_done) jv steps = jv_invalid();
    scoped(value_done) jv old = jv_invalid();
    scoped(value_done) jv expected = jv_invalid();
    int r = value_path_parse(path, &steps, err);

    if (r == 0) {
        r = yaml_doc_parse(NAME, text, e.len, &doc, err);
    }
    if (r == 0) {
        r = yaml_doc_value(NAME, &doc, &old, NULL, err);
    }
    if (r < 0) {
        jv_free(value);
        return r;
    }
    e.doc = &doc;
    e.path = steps;
    e.steps = jv_array_length(jv_copy(steps));
    r = expect(&e, old, value, &expected, err);
    if (r < 0) {
        return error_wrap(err, r, "path '%s'", path);
    }
    if (jv_equal(jv_copy(old), jv_copy(expected))) {
        *ret_text = xstrdup(text);
        return 0;
    }
    e.expected = expected;
    return edit_run(&e, ret_text, err);
}

int yaml_edit(const char *text, const char *path, jv value, char **ret_text, struct error *err)
{
    return edit_text(text, path, jv_is_valid(value) ? ACTION_SET : ACTION_DELETE, 0, value,
                     ret_text, err);
}

int yaml_insert(const char *text, const char *path, size_t index, jv value, char **ret_text,
                struct error *err)
{
    return edit_text(text, path, ACTION_INSERT, index, value, ret_text, err);
}
