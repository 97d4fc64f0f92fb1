/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "util/yaml.h"
#include "util/yaml_node.h"

#define STEP           2  /* columns of one level */
#define INTEGER_DIGITS 18 /* that always fit into 64 bits */

bool yaml_is_block(jv value)
{
    return (jv_get_kind(value) == JV_KIND_ARRAY && jv_array_length(jv_copy(value)) > 0) ||
           (jv_get_kind(value) == JV_KIND_OBJECT && jv_object_length(jv_copy(value)) > 0);
}

/* ---- strings ---- */

/* A character that YAML cannot hold outside of double quotes: controls but tab, DEL, C1, BOM,
 * U+2028. */
static bool is_unprintable(const unsigned char *p)
{
    return (*p < 0x20 && *p != '\t' && *p != '\n') || *p == 0x7f ||
           (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) ||
           (*p == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9)) ||
           (*p == 0xef && ((p[1] == 0xbb && p[2] == 0xbf) || (p[1] == 0xbf && p[2] >= 0xbe)));
}

static bool has_unprintable(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (is_unprintable(p)) {
            return true;
        }
    }
    return false;
}

/* Words that other YAML readers take for booleans or numbers. */
static bool is_old_word(const char *text)
{
    static const char *const words[] = {"y",   "n",    "yes",  "no",    "on",
                                        "off", ".nan", ".inf", "-.inf", "+.inf"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * Plain strings that YAML 1.1 readers (PyYAML: cloud-init) take for something else: "52:55:55" is a
 * number to base 60, "1_000" one too, "2001-01-01" a date.
 */
static bool is_old_number(const char *text)
{
    static const char pattern[] =
        "^[-+]?(0b[01_]+|0x[0-9a-f_]+|[0-9][0-9_]*(:[0-5]?[0-9])*(\\.[0-9_]*)?(e[-+]?[0-9]+)?|"
        "\\.[0-9_]+(e[-+]?[0-9]+)?)$|^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([t ].*)?$";
    regex_t regex;
    bool matches;

    if (!text[strspn(text, "+-.")] || !isdigit((unsigned char)text[strspn(text, "+-.")])) {
        return false;
    }
    if (regcomp(&regex, pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB) != 0) {
        return true;
    }
    matches = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return matches;
}

/* True when the text reads as itself without quotes. */
static bool is_plain(const char *text, bool flow)
{
    static const char first[] = "-?:,[]{}#&*!|>'\"%@`=<~ \t";
    scoped(free) char *read = NULL;
    size_t len = strlen(text);
    jv value = yaml_scalar_value(text, VALUE_STYLE_PLAIN, &read);
    bool is_string = jv_get_kind(value) == JV_KIND_STRING;

    jv_free(value);
    if (!is_string || is_old_word(text) || is_old_number(text) || has_unprintable(text) ||
        strpbrk(text, "\n\t") || text[len - 1] == ' ' || text[len - 1] == ':') {
        return false;
    }
    if (strchr(first, text[0]) && !(text[0] == '-' && isalnum((unsigned char)text[1]))) {
        return false;
    }
    if (strncmp(text, "---", 3) == 0 || strncmp(text, "...", 3) == 0) {
        return false;
    }
    return !strstr(text, ": ") && !strstr(text, " #") && !(flow && strpbrk(text, ",[]{}:"));
}

static void put_quoted(struct buf *out, const char *text)
{
    static const char from[] = "\"\\\n\t\r\a\b\f\v\x1b", to[] = "\"\\ntrabfve";

    buf_putc(out, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        const char *simple = strchr(from, *p);

        if (simple) {
            buf_printf(out, "\\%c", to[simple - from]);
        } else if (*p < 0x20 || *p == 0x7f) {
            buf_printf(out, "\\x%02X", *p);
        } else if (is_unprintable(p)) {
            unsigned code =
                *p == 0xc2 ? p[1] : ((*p & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u));

            buf_printf(out, "\\u%04X", code);
            p += *p == 0xc2 ? 1 : 2;
        } else {
            buf_putc(out, (char)*p);
        }
    }
    buf_putc(out, '"');
}

void yaml_put_string(struct buf *out, const char *text, bool flow)
{
    if (is_plain(text, flow)) {
        buf_puts(out, text);
    } else {
        put_quoted(out, text);
    }
}

/* Text of several lines that can be a literal block: at most one newline at its end. */
static bool is_literal(const char *text)
{
    size_t len = strlen(text);
    const char *newline = strchr(text, '\n');

    return newline && text[strspn(text, " \t\n")] && !has_unprintable(text) &&
           !(len > 1 && text[len - 1] == '\n' && text[len - 2] == '\n');
}

/* "|" and the lines, without the last newline. */
static void put_literal(struct buf *out, const char *text, size_t indent)
{
    size_t len = strlen(text);
    bool newline_at_end = text[len - 1] == '\n';

    buf_putc(out, '|');
    if (strchr(" \t\n", text[0])) {
        buf_printf(out, "%d", STEP);
    }
    buf_puts(out, newline_at_end ? "" : "-");
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");

        buf_putc(out, '\n');
        if (n) {
            buf_printf(out, "%*s", (int)indent, "");
            buf_put(out, p, n);
        }
        p += n;
        p += *p == '\n';
    }
}

/* ---- values ---- */

static void put_scalar(struct buf *out, jv value, bool flow)
{
    scoped(free) char *text = NULL;

    if (jv_get_kind(value) == JV_KIND_STRING) {
        yaml_put_string(out, jv_string_value(value), flow);
        return;
    }
    if (jv_get_kind(value) == JV_KIND_ARRAY) {
        buf_puts(out, "[]");
        return;
    }
    if (jv_get_kind(value) == JV_KIND_OBJECT) {
        buf_puts(out, "{}");
        return;
    }
    text = value_to_json(jv_copy(value), false);
    buf_puts(out, text);
    if (jv_get_kind(value) == JV_KIND_NUMBER && strlen(text) > INTEGER_DIGITS &&
        !strpbrk(text, ".eE")) {
        buf_puts(out, ".0"); /* too long for an integer, it would be read as text */
    }
}

void yaml_put_flow(struct buf *out, jv value)
{
    if (!yaml_is_block(value)) {
        put_scalar(out, value, true);
    } else if (jv_get_kind(value) == JV_KIND_ARRAY) {
        buf_putc(out, '[');
        jv_array_foreach(value, i, item)
        {
            buf_puts(out, i ? ", " : "");
            yaml_put_flow(out, item);
            jv_free(item);
        }
        buf_putc(out, ']');
    } else {
        bool first = true;

        buf_putc(out, '{');
        jv_object_foreach(value, key, item)
        {
            buf_puts(out, first ? "" : ", ");
            first = false;
            yaml_put_string(out, jv_string_value(key), true);
            buf_puts(out, ": ");
            yaml_put_flow(out, item);
            jv_free(key);
            jv_free(item);
        }
        buf_putc(out, '}');
    }
}

static void new_line(struct buf *out, size_t indent)
{
    buf_printf(out, "\n%*s", (int)indent, "");
}

void yaml_put_after_key(struct buf *out, jv value, size_t indent)
{
    if (!yaml_is_block(value)) {
        buf_putc(out, ' ');
        yaml_put_block(out, value, indent);
        return;
    }
    /* a list is not indented below its key, a map is */
    if (jv_get_kind(value) == JV_KIND_OBJECT) {
        indent += STEP;
    }
    new_line(out, indent);
    yaml_put_block(out, value, indent);
}

void yaml_put_entry(struct buf *out, const char *key, jv value, size_t indent)
{
    yaml_put_string(out, key, false);
    buf_putc(out, ':');
    yaml_put_after_key(out, value, indent);
}

void yaml_put_block(struct buf *out, jv value, size_t indent)
{
    bool first = true;

    if (!yaml_is_block(value)) {
        if (jv_get_kind(value) == JV_KIND_STRING && is_literal(jv_string_value(value))) {
            put_literal(out, jv_string_value(value), indent + STEP);
        } else {
            put_scalar(out, value, false);
        }
        return;
    }
    if (jv_get_kind(value) == JV_KIND_ARRAY) {
        jv_array_foreach(value, i, item)
        {
            if (i) {
                new_line(out, indent);
            }
            buf_puts(out, "- ");
            yaml_put_block(out, item, indent + (yaml_is_block(item) ? STEP : 0));
            jv_free(item);
        }
        return;
    }
    jv_object_foreach(value, key, item)
    {
        if (!first) {
            new_line(out, indent);
        }
        first = false;
        yaml_put_entry(out, jv_string_value(key), item, indent);
        jv_free(key);
        jv_free(item);
    }
}

void yaml_dump(jv value, struct buf *out)
{
    yaml_put_block(out, value, 0);
    buf_putc(out, '\n');
    jv_free(value);
}
