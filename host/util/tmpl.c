/* SPDX-License-Identifier: Apache-2.0 */
#include "util/tmpl.h"

#include <stdarg.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/tmpl_parse.h"
#include "util/yaml.h"

/* A field that is not there is an invalid jv: false, and "<no value>" when printed. */

struct variable {
    char *name;
    jv value;
};

struct machine {
    bool strict;
    struct variable *variables; /* innermost last */
    size_t variable_count, variable_cap;
    long steps;
    struct buf out;
    const struct tmpl_node *at;
    struct error *err;
};

static int fail(struct machine *m, const char *fmt, ...) _printf_(2, 3);

static int fail(struct machine *m, const char *fmt, ...)
{
    scoped(free) char *what = NULL;
    va_list ap;

    va_start(ap, fmt);
    what = xvasprintf(fmt, ap);
    va_end(ap);
    return error_set(m->err, EINVAL, "template line %d column %d: %s", m->at->line, m->at->column,
                     what);
}

static int too_much(struct machine *m, const char *what)
{
    return error_set(m->err, E2BIG, "template line %d column %d: %s", m->at->line, m->at->column,
                     what);
}

/* ---- values ---- */

static bool is_true(jv value)
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

static void print_value(struct buf *out, jv value);

static void print_map(struct buf *out, jv map)
{
    scoped(value_done) jv keys = jv_keys(jv_copy(map));

    buf_puts(out, "map[");
    jv_array_foreach(keys, i, key)
    {
        buf_printf(out, "%s%s:", i ? " " : "", jv_string_value(key));
        print_value(out, jv_object_get(jv_copy(map), key));
    }
    buf_putc(out, ']');
}

/* As Go prints it with %v. Consumes @value. */
static void print_value(struct buf *out, jv value)
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
            print_value(out, item);
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

    print_value(&out, jv_copy(value));
    return buf_steal(&out);
}

/* ---- functions: each borrows its arguments ---- */

typedef int (*function)(struct machine *m, const jv *args, size_t count, jv *ret);

static int fn_and(struct machine *m, const jv *args, size_t count, jv *ret)
{
    size_t i = 0;

    while (i + 1 < count && is_true(args[i])) {
        i++;
    }
    *ret = jv_copy(args[i]);
    return 0;
}

static int fn_or(struct machine *m, const jv *args, size_t count, jv *ret)
{
    size_t i = 0;

    while (i + 1 < count && !is_true(args[i])) {
        i++;
    }
    *ret = jv_copy(args[i]);
    return 0;
}

static int fn_not(struct machine *m, const jv *args, size_t count, jv *ret)
{
    *ret = jv_bool(!is_true(args[0]));
    return 0;
}

static bool same(jv a, jv b)
{
    if (!jv_is_valid(a) || !jv_is_valid(b)) {
        return jv_is_valid(a) == jv_is_valid(b);
    }
    return jv_equal(jv_copy(a), jv_copy(b));
}

static int fn_eq(struct machine *m, const jv *args, size_t count, jv *ret)
{
    bool any = false;

    for (size_t i = 1; i < count; i++) {
        any |= same(args[0], args[i]);
    }
    *ret = jv_bool(any);
    return 0;
}

static int fn_ne(struct machine *m, const jv *args, size_t count, jv *ret)
{
    *ret = jv_bool(!same(args[0], args[1]));
    return 0;
}

/* <0, 0, >0 in *ret for two numbers or two strings. */
static int compare(struct machine *m, const jv *args, int *ret)
{
    jv_kind kind = jv_get_kind(args[0]);

    if (kind != jv_get_kind(args[1])) {
        return fail(m, "incompatible types for comparison");
    }
    if (kind != JV_KIND_NUMBER && kind != JV_KIND_STRING) {
        return fail(m, "only numbers and strings can be ordered");
    }
    *ret = jv_cmp(jv_copy(args[0]), jv_copy(args[1]));
    return 0;
}

#define ORDER_FUNCTION(name, op)                                                                   \
    static int fn_##name(struct machine *m, const jv *args, size_t count, jv *ret)                 \
    {                                                                                              \
        int order;                                                                                 \
        int r = compare(m, args, &order);                                                          \
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

static int fn_len(struct machine *m, const jv *args, size_t count, jv *ret)
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
        return fail(m, "len of type %s", jv_kind_name(jv_get_kind(args[0])));
    }
}

/* An index into something of length @len, inclusive of @len when @end. */
static int whole_index(struct machine *m, jv value, int len, bool end, int *ret)
{
    double number;

    if (jv_get_kind(value) != JV_KIND_NUMBER) {
        return fail(m, "cannot index with type %s", jv_kind_name(jv_get_kind(value)));
    }
    number = jv_number_value(value);
    if (!(number >= 0 && (end ? number <= len : number < len))) {
        return fail(m, "index out of range: %g of %d", number, len);
    }
    *ret = (int)number;
    return 0;
}

static int index_once(struct machine *m, jv *value, jv key)
{
    int i;

    if (jv_get_kind(*value) == JV_KIND_OBJECT && jv_get_kind(key) == JV_KIND_STRING) {
        *value = jv_object_get(*value, jv_copy(key));
        return 0;
    }
    if (jv_get_kind(*value) != JV_KIND_ARRAY) {
        return fail(m, "cannot index type %s with %s", jv_kind_name(jv_get_kind(*value)),
                    jv_kind_name(jv_get_kind(key)));
    }
    if (whole_index(m, key, jv_array_length(jv_copy(*value)), false, &i) < 0) {
        return -EINVAL;
    }
    *value = jv_array_get(*value, i);
    return 0;
}

static int fn_index(struct machine *m, const jv *args, size_t count, jv *ret)
{
    jv value = jv_copy(args[0]);

    for (size_t i = 1; i < count; i++) {
        if (index_once(m, &value, args[i]) < 0) {
            jv_free(value);
            return -EINVAL;
        }
    }
    *ret = value;
    return 0;
}

static int fn_slice(struct machine *m, const jv *args, size_t count, jv *ret)
{
    bool is_text = jv_get_kind(args[0]) == JV_KIND_STRING;
    int from = 0, to, len;

    if (!is_text && jv_get_kind(args[0]) != JV_KIND_ARRAY) {
        return fail(m, "slice of type %s", jv_kind_name(jv_get_kind(args[0])));
    }
    len = is_text ? jv_string_length_bytes(jv_copy(args[0])) : jv_array_length(jv_copy(args[0]));
    to = len;
    if ((count > 1 && whole_index(m, args[1], len, true, &from) < 0) ||
        (count > 2 && whole_index(m, args[2], len, true, &to) < 0)) {
        return -EINVAL;
    }
    if (from > to) {
        return fail(m, "invalid slice index: %d > %d", from, to);
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
        print_value(&out, jv_copy(args[i]));
    }
    buf_puts(&out, line ? "\n" : "");
    *ret = jv_string_sized(buf_str(&out), (int)out.len);
    return 0;
}

static int fn_print(struct machine *m, const jv *args, size_t count, jv *ret)
{
    return print_all(args, count, false, ret);
}

static int fn_println(struct machine *m, const jv *args, size_t count, jv *ret)
{
    return print_all(args, count, true, ret);
}

static bool is_whole(jv value)
{
    return jv_get_kind(value) == JV_KIND_NUMBER && jv_number_value(value) > -9e18 &&
           jv_number_value(value) < 9e18;
}

/* A directive "%[flags][width][.precision]verb" of @len bytes applied to @value. */
static int format_one(struct machine *m, const char *spec, size_t len, jv value, struct buf *out)
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
        return fail(m, "printf: '%.*s' does not fit a value of type %s", (int)len, spec,
                    jv_kind_name(jv_get_kind(value)));
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

static int fn_printf(struct machine *m, const jv *args, size_t count, jv *ret)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    size_t used = 1;
    const char *p;

    if (jv_get_kind(args[0]) != JV_KIND_STRING) {
        return fail(m, "printf needs a format string");
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
                return fail(m, n ? "printf: too few values" : "printf: bad directive");
            }
            if (format_one(m, p, n, args[used++], &out) < 0) {
                return -EINVAL;
            }
            p += n;
        }
    }
    if (used < count) {
        return fail(m, "printf: too many values");
    }
    *ret = jv_string_sized(buf_str(&out), (int)out.len);
    return 0;
}

static int fn_json(struct machine *m, const jv *args, size_t count, jv *ret)
{
    scoped(free) char *text =
        jv_is_valid(args[0]) ? value_to_json(jv_copy(args[0]), false) : xstrdup("null");

    *ret = jv_string(text);
    return 0;
}

static int fn_yaml(struct machine *m, const jv *args, size_t count, jv *ret)
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
static int fn_indent(struct machine *m, const jv *args, size_t count, jv *ret)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    scoped(free) char *text = value_print(args[count - 1]);
    int width = 2;

    if (count == 2 && whole_index(m, args[0], 80, true, &width) < 0) {
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
static int fn_missing(struct machine *m, const jv *args, size_t count, jv *ret)
{
    jv value = args[count - 1];

    if (is_true(value)) {
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

/* ---- evaluation ---- */

static int evaluate(struct machine *m, const struct tmpl_node *node, jv dot, jv *ret);

static int get_field(struct machine *m, jv value, const char *name, jv *ret)
{
    jv field = jv_invalid();

    if (jv_get_kind(value) == JV_KIND_OBJECT) {
        field = jv_object_get(value, jv_string(name));
    } else if (jv_get_kind(value) == JV_KIND_INVALID || jv_get_kind(value) == JV_KIND_NULL) {
        jv_free(value);
    } else {
        jv_free(value);
        return fail(m, "can't evaluate field %s", name);
    }
    if (m->strict && !jv_is_valid(field)) {
        jv_free(field);
        return fail(m, "can't evaluate field %s", name);
    }
    *ret = field;
    return 0;
}

static int get_variable(struct machine *m, const char *name, jv *ret)
{
    for (size_t i = m->variable_count; i > 0; i--) {
        if (strcmp(m->variables[i - 1].name, name) == 0) {
            *ret = jv_copy(m->variables[i - 1].value);
            return 0;
        }
    }
    return fail(m, "undefined variable \"$%s\"", name);
}

/* @piped (consumed, may be invalid with @has_piped false) becomes the last argument. */
static int call(struct machine *m, const struct tmpl_node *node, jv dot, bool has_piped, jv piped,
                jv *ret)
{
    int f = find_function(node->text);
    size_t count = node->arg_count + has_piped;
    jv *args = xnew_n(jv, count + 1);
    size_t done = 0;
    int r = 0;

    for (; r == 0 && done < node->arg_count; done++) {
        r = evaluate(m, node->args[done], dot, &args[done]);
        if (r < 0) {
            break;
        }
    }
    if (has_piped) {
        if (r == 0) {
            args[done++] = piped;
        } else {
            jv_free(piped);
        }
    }
    m->at = node;
    if (r == 0 && (count < functions[f].min || count > functions[f].max)) {
        r = fail(m, "wrong number of args for %s: got %zu", node->text, count);
    }
    if (r == 0) {
        r = functions[f].call(m, args, count, ret);
    }
    while (done > 0) {
        jv_free(args[--done]);
    }
    free(args);
    return r;
}

static int evaluate_pipe(struct machine *m, const struct tmpl_node *pipe, jv dot, jv *ret)
{
    jv value;
    int r = evaluate(m, pipe->args[0], dot, &value);

    for (size_t i = 1; r == 0 && i < pipe->arg_count; i++) {
        r = call(m, pipe->args[i], dot, true, value, &value);
    }
    if (r == 0) {
        *ret = value;
    }
    return r;
}

/* Borrows @dot. */
static int evaluate(struct machine *m, const struct tmpl_node *node, jv dot, jv *ret)
{
    jv value;
    int r;

    m->at = node;
    if (++m->steps > TMPL_MAX_STEPS) {
        return too_much(m, "takes too many steps");
    }
    switch (node->kind) {
    case TMPL_PIPE:
        return evaluate_pipe(m, node, dot, ret);
    case TMPL_CALL:
        return call(m, node, dot, false, jv_invalid(), ret);
    case TMPL_LITERAL:
        *ret = jv_copy(node->value);
        return 0;
    case TMPL_VARIABLE:
        return get_variable(m, node->text, ret);
    case TMPL_FIELD:
        r = evaluate(m, node->args[0], dot, &value);
        m->at = node;
        return r < 0 ? r : get_field(m, value, node->text, ret);
    default:
        *ret = jv_copy(dot);
        return 0;
    }
}

/* ---- statements ---- */

static int run_list(struct machine *m, const struct tmpl_list *list, jv dot);

static void push_variable(struct machine *m, const char *name, jv take_value)
{
    array_reserve(m->variables, m->variable_cap, m->variable_count + 1);
    m->variables[m->variable_count++] =
        (struct variable){.name = xstrdup(name), .value = take_value};
}

static void pop_variables(struct machine *m, size_t count)
{
    while (m->variable_count > count) {
        struct variable *last = &m->variables[--m->variable_count];

        free(last->name);
        jv_free(last->value);
    }
}

static int run_set(struct machine *m, const struct tmpl_node *node, jv value)
{
    if (node->declares) {
        push_variable(m, node->text, value);
        return 0;
    }
    for (size_t i = m->variable_count; i > 0; i--) {
        if (strcmp(m->variables[i - 1].name, node->text) == 0) {
            jv_free(m->variables[i - 1].value);
            m->variables[i - 1].value = value;
            return 0;
        }
    }
    jv_free(value);
    return fail(m, "undefined variable \"$%s\"", node->text);
}

/* One round of a range; @item becomes the dot. Consumes @key and @item. */
static int run_round(struct machine *m, const struct tmpl_node *node, jv key, jv item)
{
    size_t scope = m->variable_count;
    int r;

    if (node->text2) {
        push_variable(m, node->text2, jv_copy(key));
    }
    if (node->text) {
        push_variable(m, node->text, jv_copy(item));
    }
    r = ++m->steps > TMPL_MAX_STEPS ? too_much(m, "takes too many steps")
                                    : run_list(m, node->body, item);
    pop_variables(m, scope);
    jv_free(key);
    jv_free(item);
    return r;
}

static int run_range(struct machine *m, const struct tmpl_node *node, jv value, jv dot)
{
    jv_kind kind = jv_get_kind(value);
    scoped(value_done) jv keys = kind == JV_KIND_OBJECT ? jv_keys(jv_copy(value)) : jv_null();
    int len, r = 0;

    if (!is_true(value)) {
        return node->other ? run_list(m, node->other, dot) : 0;
    }
    if (kind == JV_KIND_NUMBER) {
        double number = jv_number_value(value);

        len = number > 0 && number < TMPL_MAX_STEPS ? (int)number : 0;
    } else if (kind == JV_KIND_ARRAY || kind == JV_KIND_OBJECT) {
        len = jv_array_length(jv_copy(kind == JV_KIND_ARRAY ? value : keys));
    } else {
        return fail(m, "range can't iterate over type %s", jv_kind_name(kind));
    }
    for (int i = 0; r == 0 && i < len; i++) {
        jv key = kind == JV_KIND_OBJECT ? jv_array_get(jv_copy(keys), i) : jv_number(i);
        jv item = kind == JV_KIND_NUMBER ? jv_number(i) : jv_get(jv_copy(value), jv_copy(key));

        r = run_round(m, node, key, item);
    }
    return r;
}

static int run_print(struct machine *m, jv value)
{
    print_value(&m->out, jv_copy(value));
    return m->out.len > TMPL_MAX_OUTPUT ? too_much(m, "the result is too long") : 0;
}

static int run_branch(struct machine *m, const struct tmpl_node *node, jv value, jv dot)
{
    size_t scope = m->variable_count;
    int r = 0;

    if (node->text) {
        push_variable(m, node->text, jv_copy(value));
    }
    if (is_true(value)) {
        r = run_list(m, node->body, node->kind == TMPL_WITH ? value : dot);
    } else if (node->other) {
        r = run_list(m, node->other, dot);
    }
    pop_variables(m, scope);
    return r;
}

static int run_node(struct machine *m, const struct tmpl_node *node, jv dot)
{
    scoped(value_done) jv value = jv_invalid();
    int r;

    m->at = node;
    if (node->kind == TMPL_TEXT) {
        buf_puts(&m->out, node->text);
        return m->out.len > TMPL_MAX_OUTPUT ? too_much(m, "the result is too long") : 0;
    }
    r = evaluate(m, node->args[0], dot, &value);
    m->at = node;
    if (r < 0) {
        return r;
    }
    switch (node->kind) {
    case TMPL_PRINT:
        return run_print(m, value);
    case TMPL_SET:
        return run_set(m, node, jv_copy(value));
    case TMPL_RANGE:
        return run_range(m, node, value, dot);
    default:
        return run_branch(m, node, value, dot);
    }
}

static int run_list(struct machine *m, const struct tmpl_list *list, jv dot)
{
    size_t scope = m->variable_count;
    int r = 0;

    for (size_t i = 0; r == 0 && i < list->len; i++) {
        r = run_node(m, list->items[i], dot);
    }
    pop_variables(m, scope);
    return r;
}

int tmpl_expand(const char *text, jv data, bool strict, char **ret, struct error *err)
{
    scoped(tmpl_list_free) struct tmpl_list *list = NULL;
    struct machine m = {.strict = strict, .out = BUF_INIT, .err = err};
    int r = tmpl_parse(text, &list, err);

    if (r == 0) {
        push_variable(&m, "", jv_copy(data));
        r = run_list(&m, list, data);
        pop_variables(&m, 0);
    }
    free(m.variables);
    jv_free(data);
    if (r == 0) {
        *ret = buf_steal(&m.out);
    }
    buf_done(&m.out);
    return r;
}
