/* SPDX-License-Identifier: Apache-2.0 */
#include "util/yaml.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "util/yaml_node.h"

#define TAG_PREFIX "tag:yaml.org,2002:"

/* ---- scalars ---- */

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_null(const char *text)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};

    return is_one_of(text, words);
}

static bool parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"true", "True", "TRUE", NULL};
    static const char *const no[] = {"false", "False", "FALSE", NULL};

    *ret = is_one_of(text, yes);
    return *ret || is_one_of(text, no);
}

/* Without the underscores between digits; NULL when the text is too long for a number. Caller
 * frees. */
static char *strip_underscores(const char *text)
{
    char *out;
    size_t n = 0;

    if (strlen(text) > 64) {
        return NULL;
    }
    out = xcalloc(strlen(text) + 1, 1);
    for (size_t i = 0; text[i]; i++) {
        if (text[i] != '_' || i == 0) {
            out[n++] = text[i];
        }
    }
    return out;
}

/* The base of the digits at *@p, moved behind the prefix. */
static int number_base(const char **p)
{
    const char *s = *p;

    if (s[0] != '0' || !s[1]) {
        return 10;
    }
    switch (s[1]) {
    case 'x':
    case 'X':
        *p += 2;
        return 16;
    case 'b':
    case 'B':
        *p += 2;
        return 2;
    case 'o':
    case 'O':
        *p += 2;
        return 8;
    default:
        *p += 1;
        return 8;
    }
}

/*
 * Integers of 64 bits: decimal, 0x, 0b, 0o and, as the reference has it, octal with a leading zero.
 * *ret_text is the decimal text. False when the text is no such number.
 */
static bool parse_integer(const char *text, double *ret, char **ret_text)
{
    static const char digits[] = "0123456789abcdef";
    bool negative = text[0] == '-';
    const char *p = text + (text[0] == '-' || text[0] == '+');
    int base = number_base(&p);
    unsigned long long value = 0;

    if (!*p) {
        return false;
    }
    for (; *p; p++) {
        const char *digit = strchr(digits, tolower((unsigned char)*p));

        if (!digit || digit - digits >= base ||
            __builtin_mul_overflow(value, (unsigned long long)base, &value) ||
            __builtin_add_overflow(value, (unsigned long long)(digit - digits), &value)) {
            return false;
        }
    }
    if (negative && value > (1ull << 63)) {
        return false;
    }
    *ret = negative ? -(double)value : (double)value;
    *ret_text = xasprintf("%s%llu", negative && value ? "-" : "", value);
    return true;
}

/* [-+]? ( \. digits | digits ( \. digits? )? ) ( [eE] [-+]? digits )? with one of "." and "e". */
static bool is_float(const char *text, bool *ret_exponent)
{
    const char *p = text + (*text == '-' || *text == '+');
    size_t whole = strspn(p, "0123456789"), part = 0;
    bool dot;

    p += whole;
    dot = *p == '.';
    if (dot) {
        p++;
        part = strspn(p, "0123456789");
        p += part;
    }
    if (!whole && !part) {
        return false;
    }
    *ret_exponent = *p == 'e' || *p == 'E';
    if (*ret_exponent) {
        p++;
        p += *p == '-' || *p == '+';
        if (!isdigit((unsigned char)*p)) {
            return false;
        }
        p += strspn(p, "0123456789");
    }
    return !*p && (dot || *ret_exponent);
}

/* The shortest text that reads as the same number. Caller frees. */
static char *shortest(double value)
{
    for (int precision = 1; precision < 17; precision++) {
        char *text = xasprintf("%.*g", precision, value);

        if (strtod(text, NULL) == value && !strchr(text, 'e')) {
            return text;
        }
        free(text);
    }
    return xasprintf("%.17g", value);
}

/* "2.0" -> "2", "1.50" -> "1.5"; one with an exponent stays as it is for string fields. */
static bool parse_float(const char *text, const char *source, double *ret, char **ret_text)
{
    bool exponent;
    double value;

    if (!is_float(text, &exponent)) {
        return false;
    }
    value = strtod(text, NULL);
    if (!isfinite(value)) {
        return false;
    }
    *ret = value;
    *ret_text = exponent ? xstrdup(source) : shortest(value);
    return true;
}

static bool parse_number(const char *source, double *ret, char **ret_text)
{
    scoped(free) char *text = NULL;

    if (!strchr("+-.0123456789", source[0])) {
        return false;
    }
    text = strip_underscores(source);
    return text && (parse_integer(text, ret, ret_text) || parse_float(text, source, ret, ret_text));
}

jv yaml_scalar_value(const char *text, enum value_style style, char **ret_text)
{
    double number;
    bool flag;

    if (style != VALUE_STYLE_PLAIN) {
        *ret_text = xstrdup(text);
        return jv_string(text);
    }
    if (is_null(text)) {
        *ret_text = NULL;
        return jv_null();
    }
    if (parse_bool(text, &flag)) {
        *ret_text = xstrdup(flag ? "true" : "false");
        return jv_bool(flag);
    }
    if (parse_number(text, &number, ret_text)) {
        return jv_number(number);
    }
    *ret_text = xstrdup(text);
    return jv_string(text);
}

/* ---- !!binary ---- */

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* Decodes base64 with white space in it. Refuses a NUL byte. Caller frees; NULL if it is not
 * base64. */
static char *decode_base64(const char *text)
{
    char *out = xcalloc(strlen(text) + 1, 1);
    unsigned bits = 0, held = 0, padding = 0, digits = 0;
    size_t n = 0;
    bool bad = false;

    for (const char *p = text; *p && !bad; p++) {
        int digit = base64_digit(*p);

        if (isspace((unsigned char)*p)) {
            continue;
        }
        if (*p == '=') {
            padding++;
            continue;
        }
        bad = digit < 0 || padding;
        held = held << 6 | (unsigned)(digit & 63);
        bits += 6;
        digits++;
        if (bits >= 8) {
            bits -= 8;
            out[n] = (char)(held >> bits);
            bad |= !out[n++];
        }
    }
    if (bad || padding > 2 || (digits + padding) % 4) {
        free(out);
        return NULL;
    }
    return out;
}

/* ---- trees ---- */

struct builder {
    const char *name;
};

static int fail_at(const struct builder *b, const struct yaml_node *node, struct error *err,
                   const char *what)
{
    return error_set(err, EINVAL, "%s:%d:%d: %s", b->name, node->pos.line, node->pos.column, what);
}

static const struct yaml_node *resolve(const struct yaml_node *node)
{
    return node->kind == YAML_KIND_ALIAS ? node->target : node;
}

static int tagged_scalar(const struct builder *b, const struct yaml_node *node, jv *ret,
                         enum value_style *ret_style, char **ret_text, struct error *err)
{
    static const char *const core[] = {"str", "int", "float", "bool", "null", "binary", NULL};
    static const jv_kind kinds[][2] = {
        {JV_KIND_STRING, JV_KIND_STRING}, {JV_KIND_NUMBER, JV_KIND_NUMBER},
        {JV_KIND_NUMBER, JV_KIND_NUMBER}, {JV_KIND_TRUE, JV_KIND_FALSE},
        {JV_KIND_NULL, JV_KIND_NULL},
    };
    size_t prefix = strlen(TAG_PREFIX);
    size_t i = 0;
    jv value;

    if (strcmp(node->tag, "!") == 0) {
        *ret_style = VALUE_STYLE_QUOTED;
        *ret = yaml_scalar_value(node->text, VALUE_STYLE_QUOTED, ret_text);
        return 0;
    }
    while (core[i] && (strncmp(node->tag, TAG_PREFIX, prefix) != 0 ||
                       strcmp(node->tag + prefix, core[i]) != 0)) {
        i++;
    }
    if (!core[i]) {
        fail_at(b, node, err, "a tag that is not known here");
        return error_hint(err, "remove '%s'; !!str !!int !!float !!bool !!null !!binary are known",
                          node->tag);
    }
    if (strcmp(core[i], "binary") == 0) {
        *ret_text = decode_base64(node->text);
        if (!*ret_text) {
            return fail_at(b, node, err, "!!binary needs base64 of bytes without NUL");
        }
        *ret_style = VALUE_STYLE_BINARY;
        *ret = jv_string(*ret_text);
        return 0;
    }
    *ret_style = i == 0 ? VALUE_STYLE_QUOTED : VALUE_STYLE_PLAIN;
    value = yaml_scalar_value(node->text, *ret_style, ret_text);
    if (jv_get_kind(value) != kinds[i][0] && jv_get_kind(value) != kinds[i][1]) {
        jv_free(value);
        free(steal(*ret_text));
        error_set(err, EINVAL, "%s:%d:%d: '%s' is no !!%s", b->name, node->pos.line,
                  node->pos.column, node->text, core[i]);
        return -EINVAL;
    }
    *ret = value;
    return 0;
}

static int build_scalar(const struct builder *b, const struct yaml_node *node,
                        struct value_lines *lines, jv *ret, struct error *err)
{
    scoped(free) char *text = NULL;
    enum value_style style = node->style;
    int r = 0;

    if (node->tag) {
        r = tagged_scalar(b, node, ret, &style, &text, err);
    } else {
        *ret = yaml_scalar_value(node->text, style, &text);
    }
    if (r == 0 && lines) {
        value_lines_set_scalar(lines, style, text);
    }
    return r;
}

static int build(const struct builder *b, const struct yaml_node *node, struct value_lines *lines,
                 jv *ret, struct error *err);

static int build_list(const struct builder *b, const struct yaml_node *node,
                      struct value_lines *lines, jv *ret, struct error *err)
{
    jv list = jv_array();

    for (size_t i = 0; i < node->len; i++) {
        jv item;
        int r = build(b, node->items[i], lines ? value_lines_add_item(lines) : NULL, &item, err);

        if (r < 0) {
            jv_free(list);
            return r;
        }
        list = jv_array_append(list, item);
    }
    *ret = list;
    return 0;
}

static bool is_merge_key(const struct yaml_node *key)
{
    return key->kind == YAML_KIND_SCALAR && key->style == VALUE_STYLE_PLAIN && !key->tag &&
           strcmp(key->text, "<<") == 0;
}

/* The text of a key: scalars of any type are taken as strings. Caller frees. */
static int key_text(const struct builder *b, const struct yaml_node *key, char **ret,
                    struct error *err)
{
    const struct yaml_node *node = resolve(key);
    scoped(value_done) jv value = jv_invalid();
    int r;

    if (node->kind != YAML_KIND_SCALAR) {
        fail_at(b, key, err, "a list or map cannot be a key");
        return error_hint(err, "put quotes around a text that begins with '{' or '['");
    }
    r = build_scalar(b, node, NULL, &value, err);
    if (r < 0) {
        return r;
    }
    if (node->tag) {
        *ret = xstrdup(jv_get_kind(value) == JV_KIND_STRING ? jv_string_value(value) : node->text);
    } else {
        jv_free(yaml_scalar_value(node->text, node->style, ret));
        if (!*ret) {
            *ret = xstrdup(*node->text ? "null" : "");
        }
    }
    return 0;
}

/* Adds what @map lacks of the map @from, which comes from a merge key. */
static int merge_map(const struct builder *b, const struct yaml_node *from, jv *map,
                     struct value_lines *lines, struct error *err)
{
    scoped(value_done) jv other = jv_invalid();
    scoped(value_lines_free) struct value_lines *other_lines = value_lines_new();
    int r;

    if (resolve(from)->kind != YAML_KIND_MAP) {
        fail_at(b, from, err, "a merge key '<<' takes a map or a list of maps");
        return error_hint(err,
                          "use '<<: *anchor'; put quotes around the key if it is meant as text");
    }
    r = build(b, from, other_lines, &other, err);
    if (r < 0) {
        return r;
    }
    jv_object_foreach(other, key, value)
    {
        const char *name = jv_string_value(key);
        const struct value_lines *at = value_lines_child(other_lines, name);

        if (jv_object_has(jv_copy(*map), jv_copy(key))) {
            jv_free(value);
        } else {
            if (lines) {
                struct value_lines *to =
                    value_lines_add_child(lines, name, value_lines_key_pos(at));

                value_lines_share(to, at);
                value_lines_set_pos(to, value_lines_pos(at));
            }
            *map = jv_object_set(*map, jv_copy(key), value);
        }
        jv_free(key);
    }
    return 0;
}

static int merge(const struct builder *b, const struct yaml_node *from, jv *map,
                 struct value_lines *lines, struct error *err)
{
    const struct yaml_node *list = resolve(from);

    if (list->kind != YAML_KIND_LIST) {
        return merge_map(b, from, map, lines, err);
    }
    for (size_t i = 0; i < list->len; i++) {
        int r = merge_map(b, list->items[i], map, lines, err);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int build_entry(const struct builder *b, const struct yaml_node *key,
                       const struct yaml_node *node, jv *map, struct value_lines *lines,
                       struct error *err)
{
    scoped(free) char *name = NULL;
    jv value;
    int r = key_text(b, key, &name, err);

    if (r < 0) {
        return r;
    }
    if (jv_object_has(jv_copy(*map), jv_string(name))) {
        error_set(err, EINVAL, "%s:%d:%d: key '%s' is there twice", b->name, key->pos.line,
                  key->pos.column, name);
        return error_hint(err, "remove one of the two");
    }
    r = build(b, node, lines ? value_lines_add_child(lines, name, key->pos) : NULL, &value, err);
    if (r < 0) {
        return r;
    }
    *map = jv_object_set(*map, jv_string(name), value);
    return 0;
}

/* Keys of the map itself first: they win over merged ones. */
static int build_map(const struct builder *b, const struct yaml_node *node,
                     struct value_lines *lines, jv *ret, struct error *err)
{
    const struct yaml_node *merged = NULL;
    jv map = jv_object();
    int r = 0;

    for (size_t i = 0; r == 0 && i + 1 < node->len; i += 2) {
        if (!is_merge_key(node->items[i])) {
            r = build_entry(b, node->items[i], node->items[i + 1], &map, lines, err);
        } else if (merged) {
            r = fail_at(b, node->items[i], err, "key '<<' is there twice; use '<<: [*a, *b]'");
        } else {
            merged = node->items[i + 1];
        }
    }
    if (r == 0 && merged) {
        r = merge(b, merged, &map, lines, err);
    }
    if (r < 0) {
        jv_free(map);
        return r;
    }
    *ret = map;
    return 0;
}

static int check_collection_tag(const struct builder *b, const struct yaml_node *node,
                                struct error *err)
{
    const char *want = node->kind == YAML_KIND_MAP ? TAG_PREFIX "map" : TAG_PREFIX "seq";

    if (!node->tag || strcmp(node->tag, "!") == 0 || strcmp(node->tag, want) == 0) {
        return 0;
    }
    fail_at(b, node, err, "a tag that is not known here");
    return error_hint(err, "remove '%s'", node->tag);
}

/* The tree of @node; @lines (may be NULL) is its empty node of positions. */
static int build(const struct builder *b, const struct yaml_node *node, struct value_lines *lines,
                 jv *ret, struct error *err)
{
    const struct yaml_node *target = resolve(node);
    int r;

    if (lines) {
        value_lines_set_pos(lines, node->pos);
    }
    if (target->kind == YAML_KIND_SCALAR) {
        return build_scalar(b, target, lines, ret, err);
    }
    r = check_collection_tag(b, target, err);
    if (r < 0) {
        return r;
    }
    return (target->kind == YAML_KIND_LIST ? build_list : build_map)(b, target, lines, ret, err);
}

int yaml_doc_value(const char *name, const struct yaml_doc *doc, jv *ret,
                   struct value_lines **ret_lines, struct error *err)
{
    const struct builder b = {.name = name};
    scoped(value_lines_free) struct value_lines *lines = ret_lines ? value_lines_new() : NULL;
    int r = 0;

    if (doc->root) {
        r = build(&b, doc->root, lines, ret, err);
    } else {
        *ret = jv_null();
    }
    if (r == 0 && ret_lines) {
        *ret_lines = steal(lines);
    }
    return r;
}

int yaml_load(const char *name, const char *text, size_t len, jv *ret,
              struct value_lines **ret_lines, struct error *err)
{
    scoped(yaml_doc_done) struct yaml_doc doc = {0};
    int r = yaml_doc_parse(name, text, len, &doc, err);

    if (r < 0) {
        return r;
    }
    return yaml_doc_value(name, &doc, ret, ret_lines, err);
}
