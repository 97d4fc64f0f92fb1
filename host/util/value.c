/* SPDX-License-Identifier: Apache-2.0 */
#include "util/value.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"

/* ---- paths ---- */

#define PATH_MAX_INDEX 1000000

static bool is_name_char(char c, bool first)
{
    return c == '_' || isalpha((unsigned char)c) || (!first && isdigit((unsigned char)c));
}

static size_t name_length(const char *text)
{
    size_t n = 0;

    while (is_name_char(text[n], n == 0)) {
        n++;
    }
    return n;
}

/* A JSON string literal at *p, moved behind it. */
static int parse_literal(const char **p, jv *ret)
{
    const char *end = *p + 1;
    jv value;

    while (*end && *end != '"') {
        end += end[0] == '\\' && end[1] ? 2 : 1;
    }
    if (*end != '"') {
        return -EINVAL;
    }
    end++;
    value = jv_parse_sized(*p, (int)(end - *p));
    if (jv_get_kind(value) != JV_KIND_STRING) {
        jv_free(value);
        return -EINVAL;
    }
    *p = end;
    *ret = value;
    return 0;
}

/* "[0]" or "[\"key\"]" behind the bracket. */
static int parse_bracket(const char **p, jv *ret)
{
    jv value;

    if (**p == '"') {
        if (parse_literal(p, &value) < 0) {
            return -EINVAL;
        }
    } else {
        long index = 0;

        if (!isdigit((unsigned char)**p)) {
            return -EINVAL;
        }
        for (; isdigit((unsigned char)**p); (*p)++) {
            index = index * 10 + (**p - '0');
            if (index > PATH_MAX_INDEX) {
                return -EINVAL;
            }
        }
        value = jv_number((double)index);
    }
    if (**p != ']') {
        jv_free(value);
        return -EINVAL;
    }
    (*p)++;
    *ret = value;
    return 0;
}

static int parse_step(const char **p, jv *ret)
{
    size_t n;

    if (**p == '[') {
        (*p)++;
        return parse_bracket(p, ret);
    }
    if (**p != '.') {
        return -EINVAL;
    }
    (*p)++;
    if (**p == '"') {
        return parse_literal(p, ret);
    }
    if (**p == '[') {
        (*p)++;
        return parse_bracket(p, ret);
    }
    n = name_length(*p);
    if (!n) {
        return -EINVAL;
    }
    *ret = jv_string_sized(*p, (int)n);
    *p += n;
    return 0;
}

int value_path_parse(const char *path, jv *ret, struct error *err)
{
    const char *p = path;
    jv steps = jv_array();

    if (strcmp(path, ".") == 0) {
        *ret = steps;
        return 0;
    }
    if (*p != '.') {
        jv_free(steps);
        return error_set(err, EINVAL, "path '%s' does not begin with '.'", path);
    }
    while (*p) {
        jv step;

        if (parse_step(&p, &step) < 0) {
            jv_free(steps);
            return error_set(err, EINVAL, "path '%s' is not usable at byte %zu", path,
                             (size_t)(p - path));
        }
        steps = jv_array_append(steps, step);
    }
    *ret = steps;
    return 0;
}

static void format_step(struct buf *out, jv step)
{
    if (jv_get_kind(step) == JV_KIND_NUMBER) {
        buf_printf(out, "[%ld]", (long)jv_number_value(step));
    } else {
        const char *name = jv_string_value(step);

        if (*name && name[name_length(name)] == '\0') {
            buf_printf(out, ".%s", name);
        } else {
            scoped(free) char *literal = value_to_json(jv_copy(step), false);

            buf_printf(out, "[%s]", literal);
        }
    }
}

char *value_path_format(jv path)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    jv_array_foreach(path, i, step)
    {
        format_step(&out, step);
        jv_free(step);
    }
    jv_free(path);
    if (!out.len || out.data[0] == '[') {
        char *text = xasprintf(".%s", buf_str(&out));

        return text;
    }
    return buf_steal(&out);
}

/* ---- positions and source texts ---- */

/* What is below a node; aliases of one anchor share it. */
struct value_kids {
    unsigned refs;
    struct value_lines **items;
    size_t len, cap;
    jv index; /* key -> place in items; lists have none */
};

struct value_lines {
    struct value_pos pos;
    struct value_pos key_pos;
    enum value_style style;
    char *text;
    struct value_kids *kids; /* may be NULL */
};

struct value_lines *value_lines_new(void)
{
    return xnew(struct value_lines);
}

static void kids_unref(struct value_kids *kids)
{
    if (!kids || --kids->refs > 0) {
        return;
    }
    for (size_t i = 0; i < kids->len; i++) {
        value_lines_free(kids->items[i]);
    }
    free(kids->items);
    jv_free(kids->index);
    free(kids);
}

void value_lines_free(struct value_lines *lines)
{
    if (!lines) {
        return;
    }
    kids_unref(lines->kids);
    free(lines->text);
    free(lines);
}

static struct value_lines *add_kid(struct value_lines *lines)
{
    struct value_kids *kids;

    if (!lines->kids) {
        lines->kids = xnew(struct value_kids);
        lines->kids->refs = 1;
        lines->kids->index = jv_object();
    }
    kids = lines->kids;
    array_reserve(kids->items, kids->cap, kids->len + 1);
    kids->items[kids->len] = value_lines_new();
    return kids->items[kids->len++];
}

struct value_lines *value_lines_add_child(struct value_lines *lines, const char *key,
                                          struct value_pos key_pos)
{
    struct value_lines *kid = add_kid(lines);
    struct value_kids *kids = lines->kids;

    kid->key_pos = key_pos;
    kids->index = jv_object_set(kids->index, jv_string(key), jv_number((double)(kids->len - 1)));
    return kid;
}

struct value_lines *value_lines_add_item(struct value_lines *lines)
{
    return add_kid(lines);
}

void value_lines_set_scalar(struct value_lines *lines, enum value_style style, const char *text)
{
    free(lines->text);
    lines->style = style;
    lines->text = xstrdup(text);
}

void value_lines_set_pos(struct value_lines *lines, struct value_pos pos)
{
    lines->pos = pos;
}

void value_lines_share(struct value_lines *to, const struct value_lines *from)
{
    if (from->kids) {
        from->kids->refs++;
    }
    kids_unref(to->kids);
    to->kids = from->kids;
    value_lines_set_scalar(to, from->style, from->text);
}

static struct value_lines *find_child(const struct value_lines *lines, jv key)
{
    jv place;
    size_t i;

    if (!lines || !lines->kids) {
        jv_free(key);
        return NULL;
    }
    place = jv_object_get(jv_copy(lines->kids->index), key);
    if (!jv_is_valid(place)) {
        jv_free(place);
        return NULL;
    }
    i = (size_t)jv_number_value(place);
    return lines->kids->items[i];
}

static struct value_lines *find_item(const struct value_lines *lines, size_t index)
{
    if (!lines || !lines->kids || index >= lines->kids->len) {
        return NULL;
    }
    return lines->kids->items[index];
}

/* The node of one path step (borrowed), or NULL. */
static struct value_lines *find_step(const struct value_lines *lines, jv step)
{
    if (jv_get_kind(step) == JV_KIND_NUMBER) {
        return find_item(lines, (size_t)jv_number_value(step));
    }
    return find_child(lines, jv_copy(step));
}

const struct value_lines *value_lines_child(const struct value_lines *lines, const char *key)
{
    return find_child(lines, jv_string(key));
}

const struct value_lines *value_lines_item(const struct value_lines *lines, size_t index)
{
    return find_item(lines, index);
}

/* Walks as far as the path goes; *ret_steps is how many steps were found. NULL: bad path. */
static const struct value_lines *walk(const struct value_lines *lines, const char *path,
                                      bool *ret_whole)
{
    scoped(value_done) jv steps = jv_invalid();
    const struct value_lines *at = lines;

    if (!lines || value_path_parse(path, &steps, NULL) < 0) {
        return NULL;
    }
    *ret_whole = true;
    jv_array_foreach(steps, i, step)
    {
        const struct value_lines *next = *ret_whole ? find_step(at, step) : NULL;

        jv_free(step);
        if (next) {
            at = next;
        } else {
            *ret_whole = false;
        }
    }
    return at;
}

const struct value_lines *value_lines_at(const struct value_lines *lines, const char *path)
{
    bool whole = false;
    const struct value_lines *at = walk(lines, path, &whole);

    return whole ? at : NULL;
}

struct value_pos value_lines_find(const struct value_lines *lines, const char *path)
{
    bool whole;

    return value_lines_pos(walk(lines, path, &whole));
}

void value_lines_set(struct value_lines *lines, const char *path, struct value_pos pos)
{
    scoped(value_done) jv steps = jv_invalid();
    struct value_lines *at = lines;
    int r = value_path_parse(path, &steps, NULL);

    assert(r == 0);
    jv_array_foreach(steps, i, step)
    {
        struct value_lines *next = find_step(at, step);

        if (!next && jv_get_kind(step) == JV_KIND_STRING) {
            next = value_lines_add_child(at, jv_string_value(step), (struct value_pos){0});
        }
        while (!next) {
            value_lines_add_item(at);
            next = find_step(at, step);
        }
        jv_free(step);
        at = next;
    }
    at->pos = pos;
}

struct value_pos value_lines_pos(const struct value_lines *lines)
{
    return lines ? lines->pos : (struct value_pos){0};
}

struct value_pos value_lines_key_pos(const struct value_lines *lines)
{
    return lines ? lines->key_pos : (struct value_pos){0};
}

enum value_style value_lines_style(const struct value_lines *lines)
{
    return lines ? lines->style : VALUE_STYLE_NONE;
}

const char *value_lines_text(const struct value_lines *lines)
{
    return lines ? lines->text : NULL;
}

/* ---- scalars ---- */

char *value_text(jv value, const struct value_lines *at)
{
    switch (jv_get_kind(value)) {
    case JV_KIND_TRUE:
        return xstrdup("true");
    case JV_KIND_FALSE:
        return xstrdup("false");
    case JV_KIND_NUMBER:
        return at && at->text ? xstrdup(at->text) : value_to_json(jv_copy(value), false);
    case JV_KIND_STRING:
        return xstrdup(at && at->text ? at->text : jv_string_value(value));
    default:
        return NULL;
    }
}

int value_int(jv value, const struct value_lines *at, int64_t *ret)
{
    scoped(free) char *text = NULL;
    char *end;
    double number;
    long long whole;

    if (jv_get_kind(value) != JV_KIND_NUMBER && jv_get_kind(value) != JV_KIND_STRING) {
        return -EINVAL;
    }
    text = value_text(value, at);
    if (!*text || text[strspn(text, "+-0123456789.eE")]) {
        return -EINVAL;
    }
    errno = 0;
    whole = strtoll(text, &end, 10);
    if (!*end) {
        if (errno == ERANGE) {
            return -ERANGE;
        }
        *ret = whole;
        return 0;
    }
    number = strtod(text, &end);
    if (*end || end == text) {
        return -EINVAL;
    }
    if (!(number > -9.2e18 && number < 9.2e18)) {
        return -ERANGE;
    }
    *ret = (int64_t)number;
    return 0;
}

/* ---- JSON and jq ---- */

char *value_to_json(jv value, bool sort)
{
    jv text = jv_dump_string(value, sort ? JV_PRINT_SORTED : 0);
    char *copy = xstrdup(jv_string_value(text));

    jv_free(text);
    return copy;
}

char *value_invalid_text(jv value)
{
    jv message = jv_invalid_get_msg(value);
    char *text;

    if (jv_get_kind(message) == JV_KIND_STRING) {
        text = xstrdup(jv_string_value(message));
        jv_free(message);
        return text;
    }
    if (jv_get_kind(message) == JV_KIND_NULL) {
        jv_free(message);
        return xstrdup("no result");
    }
    return value_to_json(message, false);
}

int value_from_json(const char *text, jv *ret, struct error *err)
{
    jv value = jv_parse(text);

    if (!jv_is_valid(value)) {
        scoped(free) char *why = value_invalid_text(value);

        return error_set(err, EINVAL, "not JSON: %s", why);
    }
    *ret = value;
    return 0;
}
