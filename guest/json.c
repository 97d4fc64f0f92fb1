/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include "base/macros.h"

struct scan {
    const char *at;
    char path[JSON_PATH_MAX];
    size_t path_len;
    unsigned depth;
    json_fn *fn;
    void *arg;
};

static int scan_value(struct scan *s);

static void skip_blanks(struct scan *s)
{
    s->at += strspn(s->at, " \t\r\n");
}

static bool take(struct scan *s, char c)
{
    skip_blanks(s);
    if (*s->at != c) {
        return false;
    }
    s->at++;
    return true;
}

static void path_push(struct scan *s, const char *separator, const char *name)
{
    size_t room = sizeof(s->path) - 1 - s->path_len;
    size_t a = MIN(strlen(separator), room);
    size_t b = MIN(strlen(name), room - a);

    memcpy(s->path + s->path_len, separator, a);
    memcpy(s->path + s->path_len + a, name, b);
    s->path_len += a + b;
    s->path[s->path_len] = '\0';
}

static void path_pop(struct scan *s, size_t len)
{
    s->path_len = len;
    s->path[len] = '\0';
}

/* One character behind a backslash; '?' for \u. */
static char unescape(struct scan *s)
{
    static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
    const char *found = strchr(from, *s->at);
    char c = *s->at++;

    if (c == 'u') {
        for (int i = 0; i < 4 && *s->at && *s->at != '"'; i++) {
            s->at++;
        }
        return '?';
    }
    return found ? to[found - from] : c;
}

static int scan_string(struct scan *s, char *out, size_t size)
{
    size_t len = 0;

    if (!take(s, '"')) {
        return -EBADMSG;
    }
    while (*s->at && *s->at != '"') {
        char c = *s->at++;

        if (c == '\\') {
            if (!*s->at) {
                return -EBADMSG;
            }
            c = unescape(s);
        }
        if (len + 1 < size) {
            out[len++] = c;
        }
    }
    out[len] = '\0';
    return take(s, '"') ? 0 : -EBADMSG;
}

static int scan_literal(struct scan *s)
{
    char value[JSON_VALUE_MAX];
    size_t len = strspn(s->at, "+-.0123456789abcdefghijklmnopqrstuvwxyzE");

    if (!len || len >= sizeof(value)) {
        return -EBADMSG;
    }
    memcpy(value, s->at, len);
    value[len] = '\0';
    s->at += len;
    s->fn(s->path, value, s->arg);
    return 0;
}

static int scan_member(struct scan *s)
{
    char key[JSON_PATH_MAX];
    size_t len = s->path_len;
    int r = scan_string(s, key, sizeof(key));

    if (r < 0 || !take(s, ':')) {
        return -EBADMSG;
    }
    path_push(s, len ? "." : "", key);
    r = scan_value(s);
    path_pop(s, len);
    return r;
}

static int scan_element(struct scan *s)
{
    size_t len = s->path_len;
    int r;

    path_push(s, "[]", "");
    skip_blanks(s);
    if (*s->at == '{') {
        s->fn(s->path, NULL, s->arg);
    }
    r = scan_value(s);
    path_pop(s, len);
    return r;
}

static int scan_list(struct scan *s, char end, int (*one)(struct scan *s))
{
    int r;

    if (++s->depth > JSON_DEPTH_MAX) {
        return -EBADMSG;
    }
    if (!take(s, end)) {
        do {
            r = one(s);
            if (r < 0) {
                return r;
            }
        } while (take(s, ','));
        if (!take(s, end)) {
            return -EBADMSG;
        }
    }
    s->depth--;
    return 0;
}

static int scan_value(struct scan *s)
{
    char value[JSON_VALUE_MAX];
    int r;

    skip_blanks(s);
    if (*s->at == '"') {
        r = scan_string(s, value, sizeof(value));
        if (r == 0) {
            s->fn(s->path, value, s->arg);
        }
        return r;
    }
    if (take(s, '{')) {
        return scan_list(s, '}', scan_member);
    }
    if (take(s, '[')) {
        return scan_list(s, ']', scan_element);
    }
    return scan_literal(s);
}

int json_scan(const char *text, json_fn *fn, void *arg)
{
    struct scan s = {.at = text, .fn = fn, .arg = arg};
    int r = scan_value(&s);

    skip_blanks(&s);
    return r < 0 || *s.at ? -EBADMSG : 0;
}
