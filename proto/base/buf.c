/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"

void buf_done(struct buf *buf)
{
    size_t cap = buf->cap;

    free(buf->base);
    *buf = BUF_INIT_CAP(cap);
}

void *buf_reserve(struct buf *buf, size_t len)
{
    size_t front = buf->base ? (size_t)(buf->data - buf->base) : 0;
    size_t need;

    if (__builtin_add_overflow(buf->len, len, &need) || need == SIZE_MAX) {
        return NULL;
    }
    if (buf->cap && need > buf->cap) {
        return NULL;
    }
    need++; /* the final NUL */
    if (buf->alloc - front >= need && buf->base) {
        return buf->data + buf->len;
    }
    if (buf->base && buf->alloc >= need && front >= buf->alloc / 2) {
        memmove(buf->base, buf->data, buf->len + 1);
        buf->data = buf->base;
        return buf->data + buf->len;
    }
    need = MAX(need, 64);
    need = MAX(need, buf->len + buf->len / 2);
    if (front) {
        memmove(buf->base, buf->data, buf->len);
    }
    buf->base = xrealloc(buf->base, need, 1);
    buf->alloc = need;
    buf->data = buf->base;
    buf->data[buf->len] = '\0'; /* text also when nothing gets committed */
    return buf->data + buf->len;
}

void buf_commit(struct buf *buf, size_t len)
{
    assert(buf->data + buf->len + len < buf->base + buf->alloc);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

int buf_put(struct buf *buf, const void *data, size_t len)
{
    void *room = buf_reserve(buf, len);

    if (!room) {
        return -EMSGSIZE;
    }
    if (len) {
        memcpy(room, data, len);
    }
    buf_commit(buf, len);
    return 0;
}

int buf_puts(struct buf *buf, const char *s)
{
    return buf_put(buf, s, strlen(s));
}

int buf_putc(struct buf *buf, char c)
{
    return buf_put(buf, &c, 1);
}

int buf_vprintf(struct buf *buf, const char *fmt, va_list ap)
{
    scoped(free) char *text = xvasprintf(fmt, ap);

    return buf_puts(buf, text);
}

int buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list ap;
    int r;

    va_start(ap, fmt);
    r = buf_vprintf(buf, fmt, ap);
    va_end(ap);
    return r;
}

void buf_drop(struct buf *buf, size_t len)
{
    assert(len <= buf->len);
    buf->len -= len;
    if (buf->len) {
        buf->data += len;
    } else {
        buf->data = buf->base;
        if (buf->data) {
            buf->data[0] = '\0';
        }
    }
}

void buf_truncate(struct buf *buf, size_t len)
{
    assert(len <= buf->len);
    buf->len = len;
    if (buf->data) {
        buf->data[len] = '\0';
    }
}

char *buf_steal(struct buf *buf)
{
    size_t cap = buf->cap;
    char *text;

    if (!buf->base) {
        return xstrndup("", 0);
    }
    if (buf->data != buf->base) {
        memmove(buf->base, buf->data, buf->len + 1);
    }
    text = buf->base;
    *buf = BUF_INIT_CAP(cap);
    return text;
}

const char *buf_str(const struct buf *buf)
{
    return buf->data ? buf->data : "";
}
