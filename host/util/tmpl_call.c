/* SPDX-License-Identifier: Apache-2.0 */
#include "util/tmpl_call.h"

#include <string.h>
#include "base/alloc.h"
#include "util/yaml.h"

/* ---- values ---- */

bool tmpl_is_true(jv value)
{
    switch (jv_get_kind(value)) {
    case JV_KIND_TRUE:
        return true;
    case JV_KIND_NUMBER:
        return jv_number_value(value) != 0;
    case JV_KIND_STRING:
        return jv_string_length_bytes(jv_copy(value)) > 0;
    case JV_KIND_ARRAY:
        return jv_array_length(jv_copy(value)) > 0;
    case JV_KIND_OBJECT:
        return jv_object_length(jv_copy(value)) > 0;
    default:
        return false;
    }
}

static void print_map(struct buf *out, jv map)
{
    scoped(value_done) jv keys = jv_keys(jv_copy(map));

    buf_puts(out, "map[");
    jv_array_foreach(keys, i, key)
    {
        buf_printf(out, "%s%s:", i ? " " : "", jv_string_value(key));
        tmpl_print(out, jv_object_get(jv_copy(map), key));
    }
    buf_putc(out, ']');
}

void tmpl_print(struct buf *out, jv value)
{
    scoped(free) char *text = NULL;

    switch (jv_get_kind(value)) {
    case JV_KIND_INVALID:
        buf_puts(out, "<no value>");
        break;
    case JV_KIND_NULL:
        buf_puts(out, "<nil>");
        break;
    case JV_KIND_ARRAY:
        buf_putc(out, '[');
        jv_array_foreach(value, i, item)
        {
            buf_puts(out, i ? " " : "");
            tmpl_print(out, item);
        }
        buf_putc(out, ']');
        break;
    case JV_KIND_OBJECT:
        print_map(out, value);
        break;
    default:
        text = value_text(value, NULL);
        buf_puts(out, text);
    }
    jv_free(value);
}

static char *value_print(jv value) /* borrows */
{
    struct buf out = BUF_INIT;

    tmpl_print(&out, jv_copy(value));
    return buf_steal(&out);
}

/* ---- functions: each borrows its arguments ---- */

typedef int (*function)(struct error *err, const jv *args, size_t count, jv *ret);

static int fn_and(struct error *err, const jv *args, size_t count, jv *ret)
{
    size_t i = 0;

    while (i + 1 < count && tmpl_is_true(args[i])) {
        i++;
    }
    *ret = jv_copy(args[i]);
    return 0;
}

static int fn_or(struct error *err, const jv *args, size_t count, jv *ret)
{
    size_t i = 0;

    while (i + 1 < count && !tmpl_is_true(args[i])) {
        i++;
    }
    *ret = jv_copy(args[i]);
    return 0;
}

static int fn_not(struct error *err, const jv *args, size_t count, jv *ret)
{
    *ret = jv_bool(!tmpl_is_true(args[0]));
    return 0;
}

static bool same(jv a, jv b)
{
    if (!jv_is_valid(a) || !jv_is_valid(b)) {
        return jv_is_valid(a) == jv_is_valid(b);
    }
    return jv_equal(jv_copy(a), jv_copy(b));
}

static int fn_eq(struct error *err, const jv *args, size_t count, jv *ret)
{
    bool any = false;

    for (size_t i = 1; i < count; i++) {
        any |= same(args[0], args[i]);
    }
    *ret = jv_bool(any);
    return 0;
}

static int fn_ne(struct error *err, const jv *args, size_t count, jv *ret)
{
    *ret = jv_bool(!same(args[0], args[1]));
    return 0;
}

/* <0, 0, >0 in *ret for two numbers or two strings. */
static int compare(struct error *err, const jv *args, int *ret)
{
    jv_kind kind = jv_get_kind(args[0]);

    if (kind != jv_get_kind(args[1])) {
        return error_set(err, EINVAL, "incompatible types for comparison");
    }
    if (kind != JV_KIND_NUMBER && kind != JV_KIND_STRING) {
        return error_set(err, EINVAL, "only numbers and strings can be ordered");
    }
    *ret = jv_cmp(jv_copy(args[0]), jv_copy(args[1]));
    return 0;
}

#define ORDER_FUNCTION(name, op)                                                                   \
    static int fn_##name(struct error *err, const jv *args, size_t count, jv *ret)                 \
    {                                                                                              \
        int order = 0;                                                                             \
        int r = compare(err, args, &order);                                                        \
                                                                                                   \
        if (r == 0) {                                                                              \
            *ret = jv_bool(order op 0);                                                            \
        }                                                                                          \
        return r;                                                                                  \
    }

ORDER_FUNCTION(lt, <)
ORDER_FUNCTION(le, <=)
ORDER_FUNCTION(gt, >)
ORDER_FUNCTION(ge, >=)

static int fn_len(struct error *err, const jv *args, size_t count, jv *ret)
{
    switch (jv_get_kind(args[0])) {
    case JV_KIND_STRING:
        *ret = jv_number(jv_string_length_bytes(jv_copy(args[0])));
        return 0;
    case JV_KIND_ARRAY:
        *ret = jv_number(jv_array_length(jv_copy(args[0])));
        return 0;
    case JV_KIND_OBJECT:
        *ret = jv_number(jv_object_length(jv_copy(args[0])));
        return 0;
    default:
        return error_set(err, EINVAL, "len of type %s", jv_kind_name(jv_get_kind(args[0])));
    }
}

/* An index into something of length @len, inclusive of @len when @end. */
static int whole_index(struct error *err, jv value, int len, bool end, int *ret)
{
    double number;

    if (jv_get_kind(value) != JV_KIND_NUMBER) {
        return error_set(err, EINVAL, "cannot index with type %s",
                         jv_kind_name(jv_get_kind(value)));
    }
    number = jv_number_value(value);
    if (!(number >= 0 && (end ? number <= len : number < len))) {
        return error_set(err, EINVAL, "index out of range: %g of %d", number, len);
    }
    *ret = (int)number;
    return 0;
}

static int index_once(struct error *err, jv *value, jv key)
{
    int i;

    if (jv_get_kind(*value) == JV_KIND_OBJECT && jv_get_kind(key) == JV_KIND_STRING) {
        *value = jv_object_get(*value, jv_copy(key));
        return 0;
    }
    if (jv_get_kind(*value) != JV_KIND_ARRAY) {
        return error_set(err, EINVAL, "cannot index type %s with %s",
                         jv_kind_name(jv_get_kind(*value)), jv_kind_name(jv_get_kind(key)));
    }
    if (whole_index(err, key, jv_array_length(jv_copy(*value)), false, &i) < 0) {
        return -EINVAL;
    }
    *value = jv_array_get(*value, i);
    return 0;
}

static int fn_index(struct error *err, const jv *args, size_t count, jv *ret)
{
    jv value = jv_copy(args[0]);

    for (size_t i = 1; i < count; i++) {
        if (index_once(err, &value, args[i]) < 0) {
            jv_free(value);
            return -EINVAL;
        }
    }
    *ret = value;
    return 0;
}

static int fn_slice(struct error *err, const jv *args, size_t count, jv *ret)
{
    bool is_text = jv_get_kind(args[0]) == JV_KIND_STRING;
    int from = 0, to, len;

    if (!is_text && jv_get_kind(args[0]) != JV_KIND_ARRAY) {
        return error_set(err, EINVAL, "slice of type %s", jv_kind_name(jv_get_kind(args[0])));
    }
    len = is_text ? jv_string_length_bytes(jv_copy(args[0])) : jv_array_length(jv_copy(args[0]));
    to = len;
    if ((count > 1 && whole_index(err, args[1], len, true, &from) < 0) ||
        (count > 2 && whole_index(err, args[2], len, true, &to) < 0)) {
        return -EINVAL;
    }
    if (from > to) {
        return error_set(err, EINVAL, "invalid slice index: %d > %d", from, to);
    }
    *ret = is_text ? jv_string_sized(jv_string_value(args[0]) + from, to - from)
                   : jv_array_slice(jv_copy(args[0]), from, to);
    return 0;
}

/* Blanks go between two operands when neither is a string, or always with @line. */
static int print_all(const jv *args, size_t count, bool line, jv *ret)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    for (size_t i = 0; i < count; i++) {
        if (i && (line || (jv_get_kind(args[i]) != JV_KIND_STRING &&
                           jv_get_kind(args[i - 1]) != JV_KIND_STRING))) {
            buf_putc(&out, ' ');
        }
        tmpl_print(&out, jv_copy(args[i]));
    }
    buf_puts(&out, line ? "\n" : "");
    *ret = jv_string_sized(buf_str(&out), (int)out.len);
    return 0;
}

static int fn_print(struct error *err, const jv *args, size_t count, jv *ret)
{
    return print_all(args, count, false, ret);
}

static int fn_println(struct error *err, const jv *args, size_t count, jv *ret)
{
    return print_all(args, count, true, ret);
}

static bool is_whole(jv value)
{
    return jv_get_kind(value) == JV_KIND_NUMBER && jv_number_value(value) > -9e18 &&
           jv_number_value(value) < 9e18;
}

/* A directive "%[flags][width][.precision]verb" of @len bytes applied to @value. */
static int format_one(struct error *err, const char *spec, size_t len, jv value, struct buf *out)
{
    scoped(free) char *flags = xstrndup(spec, len - 1);
    scoped(free) char *text = NULL;
    scoped(free) char *directive = NULL;
    char verb = spec[len - 1];

    if (strchr("dxXo", verb) && is_whole(value)) {
        directive = xasprintf("%sll%c", flags, verb);
        text = xasprintf(directive, (long long)jv_number_value(value));
    } else if (strchr("feEgG", verb) && jv_get_kind(value) == JV_KIND_NUMBER) {
        directive = xasprintf("%s%c", flags, verb);
        text = xasprintf(directive, jv_number_value(value));
    } else if (verb == 'q' || verb == 's' || verb == 'v' || verb == 't') {
        scoped(free) char *plain =
            verb == 'q' ? value_to_json(jv_copy(value), true) : value_print(value);

        directive = xasprintf("%ss", strchr(flags, '+') || strchr(flags, '#') ? "%" : flags);
        text = xasprintf(directive, plain);
    } else {
        return error_set(err, EINVAL, "printf: '%.*s' does not fit a value of type %s", (int)len,
                         spec, jv_kind_name(jv_get_kind(value)));
    }
    buf_puts(out, text);
    return 0;
}

/* Length of the directive at @spec with at most two digits each for width and precision; 0: bad. */
static size_t directive_length(const char *spec)
{
    size_t n = 1, digits;

    n += strspn(spec + n, "-+ 0#");
    digits = strspn(spec + n, "0123456789");
    n += digits;
    if (digits > 2) {
        return 0;
    }
    if (spec[n] == '.') {
        digits = strspn(spec + n + 1, "0123456789");
        n += 1 + digits;
        if (digits > 2) {
            return 0;
        }
    }
    return spec[n] && n < 12 ? n + 1 : 0;
}

static int fn_printf(struct error *err, const jv *args, size_t count, jv *ret)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    size_t used = 1;
    const char *p;

    if (jv_get_kind(args[0]) != JV_KIND_STRING) {
        return error_set(err, EINVAL, "printf needs a format string");
    }
    for (p = jv_string_value(args[0]); *p;) {
        size_t n = strcspn(p, "%");

        buf_put(&out, p, n);
        p += n;
        if (p[0] == '%' && p[1] == '%') {
            buf_putc(&out, '%');
            p += 2;
        } else if (*p) {
            n = directive_length(p);
            if (!n || used == count) {
                return error_set(err, EINVAL,
                                 n ? "printf: too few values" : "printf: bad directive");
            }
            if (format_one(err, p, n, args[used++], &out) < 0) {
                return -EINVAL;
            }
            p += n;
        }
    }
    if (used < count) {
        return error_set(err, EINVAL, "printf: too many values");
    }
    *ret = jv_string_sized(buf_str(&out), (int)out.len);
    return 0;
}

static int fn_json(struct error *err, const jv *args, size_t count, jv *ret)
{
    scoped(free) char *text =
        jv_is_valid(args[0]) ? value_to_json(jv_copy(args[0]), false) : xstrdup("null");

    *ret = jv_string(text);
    return 0;
}

static int fn_yaml(struct error *err, const jv *args, size_t count, jv *ret)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    buf_puts(&out, "---\n");
    yaml_dump(jv_is_valid(args[0]) ? jv_copy(args[0]) : jv_null(), &out);
    if (out.len && out.data[out.len - 1] == '\n') {
        buf_truncate(&out, out.len - 1);
    }
    *ret = jv_string_sized(buf_str(&out), (int)out.len);
    return 0;
}

/* indent [N] TEXT: N blanks (2) before each line. */
static int fn_indent(struct error *err, const jv *args, size_t count, jv *ret)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    scoped(free) char *text = value_print(args[count - 1]);
    int width = 2;

    if (count == 2 && whole_index(err, args[0], 80, true, &width) < 0) {
        return -EINVAL;
    }
    for (const char *p = text;;) {
        size_t n = strcspn(p, "\n");

        buf_printf(&out, "%*s%.*s", width, "", (int)n, p);
        p += n;
        if (!*p) {
            break;
        }
        buf_putc(&out, *p++);
    }
    *ret = jv_string_sized(buf_str(&out), (int)out.len);
    return 0;
}

/* missing [MESSAGE] TEXT: MESSAGE ("<missing>") for an empty TEXT. */
static int fn_missing(struct error *err, const jv *args, size_t count, jv *ret)
{
    jv value = args[count - 1];

    if (tmpl_is_true(value)) {
        *ret = jv_copy(value);
    } else {
        *ret = count == 2 ? jv_copy(args[0]) : jv_string("<missing>");
    }
    return 0;
}

#define MANY 1000

static const struct {
    const char *name;
    function call;
    size_t min, max; /* arguments */
} functions[] = {
    {"and", fn_and, 1, MANY},
    {"eq", fn_eq, 2, MANY},
    {"ge", fn_ge, 2, 2},
    {"gt", fn_gt, 2, 2},
    {"indent", fn_indent, 1, 2},
    {"index", fn_index, 1, MANY},
    {"json", fn_json, 1, 1},
    {"le", fn_le, 2, 2},
    {"len", fn_len, 1, 1},
    {"lt", fn_lt, 2, 2},
    {"missing", fn_missing, 1, 2},
    {"ne", fn_ne, 2, 2},
    {"not", fn_not, 1, 1},
    {"or", fn_or, 1, MANY},
    {"print", fn_print, 0, MANY},
    {"printf", fn_printf, 1, MANY},
    {"println", fn_println, 0, MANY},
    {"slice", fn_slice, 1, 3},
    {"yaml", fn_yaml, 1, 1},
};

static int find_function(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        if (strcmp(functions[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

bool tmpl_is_function(const char *name)
{
    return find_function(name) >= 0;
}

int tmpl_call(const char *name, const jv *args, size_t count, jv *ret, struct error *err)
{
    int f = find_function(name);

    if (count < functions[f].min || count > functions[f].max) {
        return error_set(err, EINVAL, "wrong number of args for %s: got %zu", name, count);
    }
    return functions[f].call(err, args, count, ret);
}
