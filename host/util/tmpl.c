/* SPDX-License-Identifier: Apache-2.0 */
#include "util/tmpl.h"

#include <stdarg.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/tmpl_call.h"
#include "util/tmpl_parse.h"

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
static int call_function(struct machine *m, const struct tmpl_node *node, jv dot, bool has_piped,
                         jv piped, jv *ret)
{
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
    if (r == 0) {
        r = tmpl_call(node->text, args, count, ret, m->err);
        if (r < 0) {
            error_wrap(m->err, r, "template line %d column %d", node->line, node->column);
        }
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
        r = call_function(m, pipe->args[i], dot, true, value, &value);
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
        return call_function(m, node, dot, false, jv_invalid(), ret);
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

    if (!tmpl_is_true(value)) {
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
    tmpl_print(&m->out, jv_copy(value));
    return m->out.len > TMPL_MAX_OUTPUT ? too_much(m, "the result is too long") : 0;
}

static int run_branch(struct machine *m, const struct tmpl_node *node, jv value, jv dot)
{
    size_t scope = m->variable_count;
    int r = 0;

    if (node->text) {
        push_variable(m, node->text, jv_copy(value));
    }
    if (tmpl_is_true(value)) {
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
