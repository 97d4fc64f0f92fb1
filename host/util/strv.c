/* SPDX-License-Identifier: Apache-2.0 */
#include "util/strv.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"

void strv_done(struct strv *v)
{
    for (size_t i = 0; i < v->len; i++) {
        free(v->items[i]);
    }
    free(v->items);
    *v = STRV_INIT;
}

void strv_take(struct strv *v, char *take_s)
{
    array_reserve(v->items, v->alloc, v->len + 2); /* one slot is the final NULL */
    v->items[v->len++] = take_s;
    v->items[v->len] = NULL;
}

void strv_add(struct strv *v, const char *s)
{
    strv_take(v, xstrdup(s));
}

void strv_addf(struct strv *v, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    strv_take(v, xvasprintf(fmt, ap));
    va_end(ap);
}

void strv_add_all(struct strv *v, ...)
{
    const char *s;
    va_list ap;

    va_start(ap, v);
    while ((s = va_arg(ap, const char *))) {
        strv_add(v, s);
    }
    va_end(ap);
}

void strv_extend(struct strv *v, const struct strv *other)
{
    for (size_t i = 0; i < other->len; i++) {
        strv_add(v, other->items[i]);
    }
}

bool strv_contains(const struct strv *v, const char *s)
{
    for (size_t i = 0; i < v->len; i++) {
        if (strcmp(v->items[i], s) == 0) {
            return true;
        }
    }
    return false;
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void strv_sort(struct strv *v)
{
    if (v->len > 1) {
        qsort(v->items, v->len, sizeof(*v->items), compare_items);
    }
}

void strv_split(struct strv *v, const char *s, char sep)
{
    for (;;) {
        const char *end = strchrnul(s, sep);

        strv_take(v, xstrndup(s, (size_t)(end - s)));
        if (!*end) {
            return;
        }
        s = end + 1;
    }
}

char *strv_join(const struct strv *v, const char *sep)
{
    scoped(buf_done) struct buf buf = BUF_INIT;

    for (size_t i = 0; i < v->len; i++) {
        if (i > 0) {
            buf_puts(&buf, sep);
        }
        buf_puts(&buf, v->items[i]);
    }
    return buf_steal(&buf);
}

const char *const *strv_argv(const struct strv *v)
{
    static const char *const none[] = {NULL};

    return v->items ? (const char *const *)v->items : none;
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
    size_t len = strlen(s), tail = strlen(suffix);

    return len >= tail && strcmp(s + len - tail, suffix) == 0;
}

bool str_eq(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

const char *str_or_empty(const char *s)
{
    return s ? s : "";
}

char *str_trim(const char *s)
{
    size_t len;

    while (isspace((unsigned char)*s)) {
        s++;
    }
    len = strlen(s);
    while (len > 0 && isspace((unsigned char)s[len - 1])) {
        len--;
    }
    return xstrndup(s, len);
}
