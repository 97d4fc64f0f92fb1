/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"

#define BLANKS " \t\r"

/* Takes the next line off @*text, without its newline. False at the end. */
static bool next_line(const char **text, const char **ret_line, size_t *ret_len)
{
    if (!**text) {
        return false;
    }
    *ret_line = *text;
    *ret_len = strcspn(*text, "\n");
    *text += *ret_len + ((*text)[*ret_len] == '\n');
    return true;
}

static bool line_is(const char *line, size_t len, const char *want)
{
    return len == strlen(want) && memcmp(line, want, len) == 0;
}

static void put_line(struct buf *out, const char *line, size_t len)
{
    buf_put(out, line, len);
    buf_putc(out, '\n');
}

/* The next word of a line before a comment, at or after @at. Returns its length, 0 at the end. */
static size_t next_word(const char *line, size_t len, size_t at, size_t *ret_at)
{
    size_t start;

    while (at < len && strchr(BLANKS, line[at])) {
        at++;
    }
    start = at;
    while (at < len && line[at] != '#' && !strchr(BLANKS, line[at])) {
        at++;
    }
    *ret_at = start;
    return at - start;
}

static bool hosts_line_names(const char *line, size_t len, const char *name)
{
    size_t at;
    size_t word = next_word(line, len, 0, &at); /* the address */

    while (word && (word = next_word(line, len, at + word, &at))) {
        if (line_is(line + at, word, name)) {
            return true;
        }
    }
    return false;
}

bool text_hosts_names(const char *hosts, const char *name)
{
    const char *line;
    size_t len;

    while (next_line(&hosts, &line, &len)) {
        if (hosts_line_names(line, len, name)) {
            return true;
        }
    }
    return false;
}

/* The line without @name; nothing at all when no other name is left. */
static void put_line_without(struct buf *out, const char *line, size_t len, const char *name)
{
    scoped(buf_done) struct buf rest = BUF_INIT;
    size_t at, names = 0;
    size_t word = next_word(line, len, 0, &at);

    buf_put(&rest, line + at, word);
    while (word && (word = next_word(line, len, at + word, &at))) {
        if (!line_is(line + at, word, name)) {
            buf_putc(&rest, ' ');
            buf_put(&rest, line + at, word);
            names++;
        }
    }
    if (names) {
        put_line(out, rest.data, rest.len);
    }
}

char *text_hosts(const char *old, const char *address, const char *name)
{
    scoped(free) char *wanted = xasprintf("%s %s", address, name);
    struct buf out = BUF_INIT;
    const char *line;
    bool there = false;
    size_t len;

    while (next_line(&old, &line, &len)) {
        if (!there && line_is(line, len, wanted)) {
            there = true;
            put_line(&out, line, len);
        } else if (hosts_line_names(line, len, name)) {
            put_line_without(&out, line, len, name);
        } else {
            put_line(&out, line, len);
        }
    }
    if (!there) {
        put_line(&out, wanted, strlen(wanted));
    }
    return buf_steal(&out);
}

static bool has_line(const char *text, const char *want, size_t want_len)
{
    const char *line;
    size_t len;

    while (next_line(&text, &line, &len)) {
        if (len == want_len && memcmp(line, want, len) == 0) {
            return true;
        }
    }
    return false;
}

static void put_block(struct buf *out, const char *begin, const char *end, const char *body)
{
    if (*body) {
        put_line(out, begin, strlen(begin));
        buf_puts(out, body);
        if (body[strlen(body) - 1] != '\n') {
            buf_putc(out, '\n');
        }
        put_line(out, end, strlen(end));
    }
}

char *text_block(const char *old, const char *begin, const char *end, const char *body)
{
    struct buf out = BUF_INIT;
    const char *line;
    bool inside = false, done = false;
    size_t len;

    while (next_line(&old, &line, &len)) {
        /* A begin without an end would swallow what follows. */
        if (!inside && line_is(line, len, begin) && has_line(old, end, strlen(end))) {
            inside = true;
            if (!done) {
                put_block(&out, begin, end, body);
            }
            done = true;
        } else if (inside) {
            inside = !line_is(line, len, end);
        } else {
            put_line(&out, line, len);
        }
    }
    if (!done) {
        put_block(&out, begin, end, body);
    }
    return buf_steal(&out);
}

char *text_with_lines(const char *old, const char *lines)
{
    struct buf out = BUF_INIT;
    const char *line;
    size_t len;

    buf_puts(&out, old);
    if (out.len && out.data[out.len - 1] != '\n') {
        buf_putc(&out, '\n');
    }
    while (next_line(&lines, &line, &len)) {
        if (strspn(line, BLANKS) < len && !has_line(buf_str(&out), line, len)) {
            put_line(&out, line, len);
        }
    }
    return buf_steal(&out);
}

char *text_subid(const char *old, const char *user, unsigned long start, unsigned long count)
{
    scoped(free) char *prefix = xasprintf("%s:", user);
    scoped(free) char *entry = xasprintf("%s%lu:%lu", prefix, start, count);
    const char *rest = old;
    const char *line;
    size_t len;

    while (next_line(&rest, &line, &len)) {
        if (strncmp(line, prefix, strlen(prefix)) == 0) {
            return text_with_lines(old, "");
        }
    }
    return text_with_lines(old, entry);
}

char *text_yaml_scalar(const char *text, const char *key)
{
    size_t key_len = strlen(key);
    const char *line;
    size_t len, at;

    while (next_line(&text, &line, &len)) {
        if (len > key_len && strncmp(line, key, key_len) == 0 && line[key_len] == ':') {
            at = key_len + 1;
            at += strspn(line + at, BLANKS);
            while (len > at && strchr(BLANKS, line[len - 1])) {
                len--;
            }
            if (len - at > 1 && (line[at] == '"' || line[at] == '\'') &&
                line[len - 1] == line[at]) {
                return xstrndup(line + at + 1, len - at - 2);
            }
            return xstrndup(line + at, MAX(len, at) - at);
        }
    }
    return NULL;
}
