/* SPDX-License-Identifier: Apache-2.0 */
#include "util/tmpl_parse.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/tmpl.h"
#include "util/tmpl_call.h"

/* The parser stands at @p; inside of an action tokens are read straight from the text. */
struct parser {
    const char *text;
    const char *p;
    int depth;
    struct error *err;
    /* the place located last: a parser moves forward, so counting goes on from there */
    const char *located;
    int line, column;
};

/* ---- nodes ---- */

void tmpl_list_free(struct tmpl_list *list)
{
    if (!list) {
        return;
    }
    for (size_t i = 0; i < list->len; i++) {
        tmpl_node_free(list->items[i]);
    }
    free(list->items);
    free(list);
}

void tmpl_node_free(struct tmpl_node *node)
{
    if (!node) {
        return;
    }
    for (size_t i = 0; i < node->arg_count; i++) {
        tmpl_node_free(node->args[i]);
    }
    free(node->args);
    free(node->text);
    free(node->text2);
    jv_free(node->value);
    tmpl_list_free(node->body);
    tmpl_list_free(node->other);
    free(node);
}

static void locate(struct parser *ps)
{
    if (!ps->located || ps->located > ps->p) {
        ps->located = ps->text;
        ps->line = 1;
        ps->column = 1;
    }
    for (; ps->located < ps->p; ps->located++) {
        ps->column++;
        if (*ps->located == '\n') {
            ps->line++;
            ps->column = 1;
        }
    }
}

static struct tmpl_node *node_new(struct parser *ps, enum tmpl_kind kind)
{
    struct tmpl_node *node = xnew(struct tmpl_node);

    node->kind = kind;
    node->value = jv_invalid();
    locate(ps);
    node->line = ps->line;
    node->column = ps->column;
    return node;
}

static void add_arg(struct tmpl_node *node, struct tmpl_node *take_arg)
{
    array_reserve(node->args, node->arg_cap, node->arg_count + 1);
    node->args[node->arg_count++] = take_arg;
}

static void add_item(struct tmpl_list *list, struct tmpl_node *take_item)
{
    array_reserve(list->items, list->cap, list->len + 1);
    list->items[list->len++] = take_item;
}

static int fail(struct parser *ps, const char *what)
{
    locate(ps);
    return error_set(ps->err, EINVAL, "template line %d column %d: %s", ps->line, ps->column, what);
}

static int enter(struct parser *ps)
{
    if (ps->depth >= TMPL_MAX_DEPTH) {
        fail(ps, "nested too deep");
        if (ps->err) {
            ps->err->code = E2BIG;
        }
        return -E2BIG;
    }
    ps->depth++;
    return 0;
}

/* ---- tokens ---- */

static void skip_space(struct parser *ps)
{
    ps->p += strspn(ps->p, " \t\r\n");
}

static size_t name_length(const char *p)
{
    size_t n = 0;

    while (isalpha((unsigned char)p[n]) || p[n] == '_' || (n && isdigit((unsigned char)p[n]))) {
        n++;
    }
    return n;
}

/* "}}" or " -}}" begins here. */
static bool at_close(const struct parser *ps)
{
    return strncmp(ps->p, "}}", 2) == 0 ||
           (strncmp(ps->p, "-}}", 3) == 0 && ps->p > ps->text && isspace((unsigned char)ps->p[-1]));
}

static int close_action(struct parser *ps)
{
    skip_space(ps);
    if (!at_close(ps)) {
        return fail(ps, *ps->p ? "unexpected text in action" : "unclosed action");
    }
    if (*ps->p == '-') {
        ps->p += 3;
        skip_space(ps);
    } else {
        ps->p += 2;
    }
    return 0;
}

/* The word @word as a whole; moves behind it. */
static bool take_word(struct parser *ps, const char *word)
{
    size_t n = strlen(word);

    if (name_length(ps->p) != n || memcmp(ps->p, word, n) != 0) {
        return false;
    }
    ps->p += n;
    skip_space(ps);
    return true;
}

/* ---- literals ---- */

static int escape(struct parser *ps, struct buf *out)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    char c = *++ps->p;
    const char *simple = c ? strchr(from, c) : NULL;
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    char hex[9] = "";

    if (simple) {
        buf_putc(out, to[simple - from]);
        ps->p++;
        return 0;
    }
    for (size_t i = 0; i < digits; i++) {
        if (!isxdigit((unsigned char)ps->p[1 + i])) {
            return fail(ps, "bad escape in string");
        }
        hex[i] = ps->p[1 + i];
    }
    if (!digits || !strtoul(hex, NULL, 16) || strtoul(hex, NULL, 16) > 0x10ffff) {
        return fail(ps, "bad escape in string");
    }
    jv text = jv_string_append_codepoint(jv_string(""), (uint32_t)strtoul(hex, NULL, 16));
    buf_puts(out, jv_string_value(text));
    jv_free(text);
    ps->p += 1 + digits;
    return 0;
}

/* "..." with escapes, `...` without. */
static int parse_string(struct parser *ps, struct tmpl_node **ret)
{
    struct tmpl_node *node = node_new(ps, TMPL_LITERAL);
    scoped(buf_done) struct buf out = BUF_INIT;
    char quote = *ps->p++;
    int r = 0;

    while (r == 0 && *ps->p != quote) {
        if (!*ps->p || (quote == '"' && *ps->p == '\n')) {
            r = fail(ps, "unterminated string");
        } else if (quote == '"' && *ps->p == '\\') {
            r = escape(ps, &out);
        } else {
            buf_putc(&out, *ps->p++);
        }
    }
    if (r < 0) {
        tmpl_node_free(node);
        return r;
    }
    ps->p++;
    node->value = jv_string_sized(buf_str(&out), (int)out.len);
    *ret = node;
    return 0;
}

static int parse_number(struct parser *ps, struct tmpl_node **ret)
{
    struct tmpl_node *node;
    char *end;
    double number = strtod(ps->p, &end);

    if (end == ps->p || name_length(end) || number != number) {
        return fail(ps, "bad number");
    }
    node = node_new(ps, TMPL_LITERAL);
    node->value = jv_number(number);
    ps->p = end;
    *ret = node;
    return 0;
}

/* ---- operands ---- */

static int parse_pipeline(struct parser *ps, struct tmpl_node **ret);

/* ".a.b" behind an operand that may have fields. */
static int parse_fields(struct parser *ps, struct tmpl_node **node)
{
    int chain = 0;

    while (*ps->p == '.' && name_length(ps->p + 1)) {
        size_t n = name_length(ps->p + 1);
        struct tmpl_node *field = node_new(ps, TMPL_FIELD);

        field->text = xstrndup(ps->p + 1, n);
        add_arg(field, *node);
        *node = field;
        ps->p += 1 + n;
        if (++chain > TMPL_MAX_DEPTH) {
            return fail(ps, "too many fields");
        }
    }
    return 0;
}

static int parse_parens(struct parser *ps, struct tmpl_node **ret)
{
    int r = enter(ps);

    if (r < 0) {
        return r;
    }
    ps->p++;
    r = parse_pipeline(ps, ret);
    ps->depth--;
    if (r < 0) {
        return r;
    }
    skip_space(ps);
    if (*ps->p != ')') {
        tmpl_node_free(steal(*ret));
        return fail(ps, "unclosed left paren");
    }
    ps->p++;
    return 0;
}

static int parse_word(struct parser *ps, struct tmpl_node **ret)
{
    static const char *const words[] = {"true", "false", "nil"};
    size_t n = name_length(ps->p);
    scoped(free) char *name = xstrndup(ps->p, n);
    struct tmpl_node *node;

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(name, words[i]) == 0) {
            node = node_new(ps, TMPL_LITERAL);
            node->value = i == 2 ? jv_null() : jv_bool(i == 0);
            ps->p += n;
            *ret = node;
            return 0;
        }
    }
    if (!tmpl_is_function(name)) {
        locate(ps);
        return error_set(ps->err, EINVAL, "template line %d column %d: function \"%s\" not defined",
                         ps->line, ps->column, name);
    }
    node = node_new(ps, TMPL_CALL);
    node->text = steal(name);
    ps->p += n;
    *ret = node;
    return 0;
}

static int parse_operand(struct parser *ps, struct tmpl_node **ret)
{
    struct tmpl_node *node = NULL;
    int r = 0;
    char c = *ps->p;

    if (c == '"' || c == '`') {
        return parse_string(ps, ret);
    }
    if (isdigit((unsigned char)c) || ((c == '-' || c == '+') && isdigit((unsigned char)ps->p[1])) ||
        (c == '.' && isdigit((unsigned char)ps->p[1]))) {
        return parse_number(ps, ret);
    }
    if (c == '(') {
        r = parse_parens(ps, &node);
    } else if (c == '$') {
        size_t n = name_length(ps->p + 1);

        node = node_new(ps, TMPL_VARIABLE);
        node->text = xstrndup(ps->p + 1, n);
        ps->p += 1 + n;
    } else if (c == '.') {
        node = node_new(ps, TMPL_DOT);
        ps->p += !name_length(ps->p + 1);
    } else if (name_length(ps->p)) {
        return parse_word(ps, ret);
    } else {
        return fail(ps, c ? "unexpected character in action" : "unclosed action");
    }
    if (r == 0) {
        r = parse_fields(ps, &node);
    }
    if (r < 0) {
        tmpl_node_free(node);
        return r;
    }
    *ret = node;
    return 0;
}

/* ---- pipelines ---- */

static bool ends_command(const struct parser *ps)
{
    return !*ps->p || *ps->p == '|' || *ps->p == ')' || at_close(ps);
}

/* One command: a function with its arguments, or a single operand. */
static int parse_command(struct parser *ps, bool first, struct tmpl_node **ret)
{
    scoped(tmpl_node_free) struct tmpl_node *command = NULL;
    int r = parse_operand(ps, &command);

    if (r < 0) {
        return r;
    }
    if (command->kind != TMPL_CALL && !first) {
        return fail(ps, "only a function can stand behind '|'");
    }
    skip_space(ps);
    while (!ends_command(ps)) {
        struct tmpl_node *arg;

        if (command->kind != TMPL_CALL) {
            return fail(ps, "only a function takes arguments");
        }
        r = parse_operand(ps, &arg);
        if (r < 0) {
            return r;
        }
        add_arg(command, arg);
        skip_space(ps);
    }
    *ret = steal(command);
    return 0;
}

static int parse_pipeline(struct parser *ps, struct tmpl_node **ret)
{
    scoped(tmpl_node_free) struct tmpl_node *pipe = node_new(ps, TMPL_PIPE);

    for (;;) {
        struct tmpl_node *command = NULL;
        int r;

        skip_space(ps);
        if (ends_command(ps)) {
            return fail(ps, "missing value");
        }
        r = parse_command(ps, pipe->arg_count == 0, &command);
        if (r < 0) {
            return r;
        }
        add_arg(pipe, command);
        if (*ps->p != '|') {
            *ret = steal(pipe);
            return 0;
        }
        ps->p++;
    }
}

/* ---- statements ---- */

/* "$x" followed by ":=", "=" or ",": its name, moved behind; else NULL and nothing moved. */
static char *take_variable(struct parser *ps, const char *const *operators,
                           const char **ret_operator)
{
    size_t n = *ps->p == '$' ? name_length(ps->p + 1) : 0;
    const char *p = ps->p + 1 + n;
    char *name;

    if (!n) {
        return NULL;
    }
    p += strspn(p, " \t\r\n");
    for (; *operators; operators++) {
        if (strncmp(p, *operators, strlen(*operators)) == 0) {
            name = xstrndup(ps->p + 1, n);
            *ret_operator = *operators;
            ps->p = p + strlen(*operators);
            skip_space(ps);
            return name;
        }
    }
    return NULL;
}

static int parse_value(struct parser *ps, struct tmpl_node *node)
{
    struct tmpl_node *pipe;
    int r = parse_pipeline(ps, &pipe);

    if (r < 0) {
        return r;
    }
    add_arg(node, pipe);
    return close_action(ps);
}

static int parse_list(struct parser *ps, struct tmpl_list **ret, bool top);

/* Words of an action that end a list; the parser stays at the word. */
static bool at_list_end(const struct parser *ps)
{
    size_t n = name_length(ps->p);

    return (n == 3 && memcmp(ps->p, "end", 3) == 0) || (n == 4 && memcmp(ps->p, "else", 4) == 0);
}

static int parse_block(struct parser *ps, enum tmpl_kind kind, struct tmpl_node **ret);

/* Behind "{{else": either another block of the same kind or the other list. */
static int parse_else(struct parser *ps, struct tmpl_node *node)
{
    static const struct {
        const char *word;
        enum tmpl_kind kind;
    } chained[] = {{"if", TMPL_IF}, {"with", TMPL_WITH}};
    struct tmpl_node *inner;
    int r;

    for (size_t i = 0; i < ARRAY_LEN(chained); i++) {
        if (take_word(ps, chained[i].word)) {
            r = parse_block(ps, chained[i].kind, &inner);
            if (r < 0) {
                return r;
            }
            node->other = xnew(struct tmpl_list);
            add_item(node->other, inner);
            return 0;
        }
    }
    r = close_action(ps);
    if (r == 0) {
        r = parse_list(ps, &node->other, false);
    }
    if (r < 0) {
        return r;
    }
    if (!take_word(ps, "end")) {
        return fail(ps, "expected end");
    }
    return close_action(ps);
}

static int parse_range_variables(struct parser *ps, struct tmpl_node *node)
{
    static const char *const any[] = {":=", "=", ",", NULL};
    static const char *const assign[] = {":=", "=", NULL};
    const char *operator= NULL;

    node->text = take_variable(ps, any, &operator);
    if (node->text && strcmp(operator, ",") == 0) {
        node->text2 = steal(node->text);
        node->text = take_variable(ps, assign, &operator);
        if (!node->text) {
            return fail(ps, "range takes one variable or two");
        }
    }
    return 0;
}

static int parse_block_inner(struct parser *ps, struct tmpl_node *node)
{
    static const char *const declare[] = {":=", NULL};
    const char *operator;
    int r = 0;

    if (node->kind == TMPL_RANGE) {
        r = parse_range_variables(ps, node);
    } else {
        node->text = take_variable(ps, declare, &operator);
    }
    if (r == 0) {
        r = parse_value(ps, node);
    }
    if (r == 0) {
        r = parse_list(ps, &node->body, false);
    }
    if (r < 0) {
        return r;
    }
    if (take_word(ps, "else")) {
        return parse_else(ps, node);
    }
    take_word(ps, "end");
    return close_action(ps);
}

static int parse_block(struct parser *ps, enum tmpl_kind kind, struct tmpl_node **ret)
{
    scoped(tmpl_node_free) struct tmpl_node *node = node_new(ps, kind);
    int r = enter(ps);

    if (r == 0) {
        r = parse_block_inner(ps, node);
        ps->depth--;
    }
    if (r < 0) {
        return r;
    }
    *ret = steal(node);
    return 0;
}

static int parse_simple(struct parser *ps, struct tmpl_node **ret)
{
    static const char *const operators[] = {":=", "=", NULL};
    scoped(tmpl_node_free) struct tmpl_node *node = node_new(ps, TMPL_PRINT);
    const char *operator;
    int r;

    node->text = take_variable(ps, operators, &operator);
    if (node->text) {
        node->kind = TMPL_SET;
        node->declares = operator[0] == ':';
    }
    r = parse_value(ps, node);
    if (r < 0) {
        return r;
    }
    *ret = steal(node);
    return 0;
}

static int parse_action(struct parser *ps, struct tmpl_list *list)
{
    static const struct {
        const char *word;
        enum tmpl_kind kind;
    } blocks[] = {{"if", TMPL_IF}, {"with", TMPL_WITH}, {"range", TMPL_RANGE}};
    static const char *const refused[] = {"define", "template", "block", "break", "continue"};
    struct tmpl_node *node;
    int r;

    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        if (name_length(ps->p) == strlen(refused[i]) &&
            strncmp(ps->p, refused[i], strlen(refused[i])) == 0) {
            return fail(ps, "define, template, block, break, continue are not supported");
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        if (take_word(ps, blocks[i].word)) {
            r = parse_block(ps, blocks[i].kind, &node);
            if (r == 0) {
                add_item(list, node);
            }
            return r;
        }
    }
    r = parse_simple(ps, &node);
    if (r == 0) {
        add_item(list, node);
    }
    return r;
}

/* Text up to the next action; the marker "{{- " takes the white space before it away. */
static void parse_text(struct parser *ps, struct tmpl_list *list)
{
    const char *open = strstr(ps->p, "{{");
    size_t n = open ? (size_t)(open - ps->p) : strlen(ps->p);
    struct tmpl_node *node;
    const char *start = ps->p;

    if (open && open[2] == '-' && isspace((unsigned char)open[3])) {
        while (n && isspace((unsigned char)start[n - 1])) {
            n--;
        }
    }
    if (n) {
        node = node_new(ps, TMPL_TEXT);
        node->text = xstrndup(start, n);
        add_item(list, node);
    }
    ps->p = open ? open : start + strlen(start);
}

static int skip_comment(struct parser *ps)
{
    const char *end = strstr(ps->p + 2, "*/");

    if (!end) {
        return fail(ps, "unclosed comment");
    }
    ps->p = end + 2;
    return close_action(ps);
}

/* Items up to "{{end" or "{{else", where the parser then stands behind "{{"; @top: up to the end.
 */
static int parse_list(struct parser *ps, struct tmpl_list **ret, bool top)
{
    scoped(tmpl_list_free) struct tmpl_list *list = xnew(struct tmpl_list);

    for (;;) {
        int r;

        parse_text(ps, list);
        if (!*ps->p) {
            if (!top) {
                return fail(ps, "unexpected end of text: 'end' is missing");
            }
            *ret = steal(list);
            return 0;
        }
        ps->p += ps->p[2] == '-' && isspace((unsigned char)ps->p[3]) ? 3 : 2;
        skip_space(ps);
        if (at_list_end(ps)) {
            if (top) {
                return fail(ps, "unexpected 'end' or 'else'");
            }
            *ret = steal(list);
            return 0;
        }
        r = strncmp(ps->p, "/*", 2) == 0 ? skip_comment(ps) : parse_action(ps, list);
        if (r < 0) {
            return r;
        }
    }
}

int tmpl_parse(const char *text, struct tmpl_list **ret, struct error *err)
{
    struct parser ps = {.text = text, .p = text, .err = err};

    return parse_list(&ps, ret, true);
}
