/* SPDX-License-Identifier: Apache-2.0 */
/* jq programs over values, and the look through them for what they must not use. */
#include <ctype.h>
#include <jq.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/value.h"

static bool is_word_char(char c)
{
    return c == '_' || isalnum((unsigned char)c);
}

/* Words that reach outside of the value. */
static const struct {
    const char *word;
    const char *kind;
} forbidden[] = {
    {"env", "env"},           {"$ENV", "env"},
    {"strenv", "env"},        {"envsubst", "env"},
    {"load", "file"},         {"load_str", "file"},
    {"load_xml", "file"},     {"load_props", "file"},
    {"load_base64", "file"},  {"input", "file"},
    {"inputs", "file"},       {"input_filename", "file"},
    {"import", "file"},       {"include", "file"},
    {"modulemeta", "file"},   {"get_search_list", "file"},
    {"system", "system"},     {"halt", "system"},
    {"halt_error", "system"}, {"debug", "system"},
    {"stderr", "system"},
};

/* True when the word of @n bytes at @p is a field name (.env) or an object key (env: 1). */
static bool is_key(const char *program, const char *p, size_t n)
{
    const char *after = p + n;

    if (p > program && p[-1] == '.') {
        return true;
    }
    after += strspn(after, " \t\r\n");
    return after[0] == ':' && after[1] != ':';
}

static int check_word(const char *program, const char *p, size_t n, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(forbidden); i++) {
        if (strlen(forbidden[i].word) == n && memcmp(forbidden[i].word, p, n) == 0 &&
            !is_key(program, p, n)) {
            return error_set(err, EINVAL, "%s operations have been disabled", forbidden[i].kind);
        }
    }
    return 0;
}

static size_t word_length(const char *p)
{
    size_t n = *p == '$';

    while (is_word_char(p[n])) {
        n++;
    }
    return n;
}

/*
 * Where a scan of a program stands. A string may hold programs in \(...), these strings again, so a
 * stack says what each open quote or parenthesis was.
 */
struct scan {
    const char *p;
    size_t depth;
    char open[64]; /* '"' or '(' */
};

static int scan_push(struct scan *scan, char open, struct error *err)
{
    if (scan->depth == sizeof(scan->open)) {
        return error_set(err, EINVAL, "the expression is nested too deep");
    }
    scan->open[scan->depth++] = open;
    return 0;
}

static int scan_string(struct scan *scan, struct error *err)
{
    char c = *scan->p++;

    if (c == '"') {
        scan->depth--;
    } else if (c == '\\' && *scan->p) {
        return *scan->p++ == '(' ? scan_push(scan, '(', err) : 0;
    }
    return 0;
}

static int scan_code(struct scan *scan, const char *program, struct error *err)
{
    const char *p = scan->p;
    size_t n = word_length(p);

    if (n) {
        scan->p += n;
        return check_word(program, p, n, err);
    }
    scan->p += *p == '#' ? strcspn(p, "\n") : 1;
    if (*p == '"' || *p == '(') {
        return scan_push(scan, *p, err);
    }
    if (*p == ')' && scan->depth) {
        scan->depth--;
    }
    return 0;
}

/* libjq has no switch for its operators that read the environment or files: looks for them. */
static int check_program(const char *program, struct error *err)
{
    struct scan scan = {.p = program};
    int r = 0;

    while (r == 0 && *scan.p) {
        if (scan.depth && scan.open[scan.depth - 1] == '"') {
            r = scan_string(&scan, err);
        } else {
            r = scan_code(&scan, program, err);
        }
    }
    return r;
}

static void on_jq_message(void *arg, jv message)
{
    struct buf *out = arg;

    if (jv_get_kind(message) == JV_KIND_STRING) {
        if (out->len) {
            buf_puts(out, "; ");
        }
        buf_puts(out, jv_string_value(message));
    }
    jv_free(message);
}

static void jq_close(jq_state *jq)
{
    jq_teardown(&jq);
}
SCOPED_PTR(jq_state, jq_close)

/* WHAT of "jq: error: WHAT (Unix shell quoting issues?) at <top-level>, line 1:\n.a = = 1". */
static char *compile_message(const struct buf *messages)
{
    static const char *const ends[] = {"\n", " (Unix", " at <"};
    const char *text = buf_str(messages);
    size_t len;

    if (strncmp(text, "jq: error: ", 11) == 0) {
        text += 11;
    }
    len = strlen(text);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        const char *end = strstr(text, ends[i]);

        if (end) {
            len = MIN(len, (size_t)(end - text));
        }
    }
    return xstrndup(text, len);
}

int value_query(jv input, const char *program, jv *ret_results, struct error *err)
{
    scoped(value_done) jv in = input;
    scoped(value_done) jv results = jv_array();
    scoped(buf_done) struct buf messages = BUF_INIT;
    scoped(jq_close) jq_state *jq = NULL;
    jv result;

    if (check_program(program, err) < 0) {
        return -EINVAL;
    }
    jq = jq_init();
    if (!jq) {
        return error_set(err, ENOMEM, "starting jq");
    }
    jq_set_error_cb(jq, on_jq_message, &messages);
    if (!jq_compile(jq, program)) {
        scoped(free) char *why = compile_message(&messages);

        return error_set(err, EINVAL, "expression '%s': %s", program, why);
    }
    jq_start(jq, jv_copy(in), 0);
    while (jv_is_valid(result = jq_next(jq))) {
        results = jv_array_append(results, result);
    }
    if (jv_invalid_has_msg(jv_copy(result))) {
        scoped(free) char *why = value_invalid_text(result);

        return error_set(err, EINVAL, "expression '%s': %s", program, why);
    }
    jv_free(result);
    *ret_results = results;
    results = jv_invalid();
    return 0;
}
