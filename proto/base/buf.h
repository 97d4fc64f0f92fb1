/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable bytes. data[len] is always '\0' once anything was put, so a buf of text is a string.
 * A buf with a cap refuses growth beyond it (buf_put() returns -EMSGSIZE and changes nothing);
 * cap 0 means no limit. Reading from the front is cheap: buf_drop() moves an offset and the space
 * is taken back when it pays.
 */
#pragma once

#include <stdarg.h>
#include "base/macros.h"

struct buf {
    char *data;   /* first live byte, or NULL while nothing was put */
    size_t len;   /* live bytes */
    size_t cap;   /* hard limit of len; 0: none */
    char *base;   /* allocation; private */
    size_t alloc; /* private */
};

#define BUF_INIT          ((struct buf){0})
#define BUF_INIT_CAP(max) ((struct buf){.cap = (max)})

void buf_done(struct buf *buf);
SCOPED_VAL(struct buf, buf_done)

/* Appends; 0, or -EMSGSIZE at the cap with nothing changed. */
int buf_put(struct buf *buf, const void *data, size_t len);
int buf_puts(struct buf *buf, const char *s);
int buf_putc(struct buf *buf, char c);
int buf_printf(struct buf *buf, const char *fmt, ...) _printf_(2, 3);
int buf_vprintf(struct buf *buf, const char *fmt, va_list ap) _printf_(2, 0);

/*
 * Room for @len more bytes, for reading straight into it; NULL at the cap. The bytes count only
 * after buf_commit() with the number really written.
 */
void *buf_reserve(struct buf *buf, size_t len);
void buf_commit(struct buf *buf, size_t len);
/* Drops @len bytes at the front; @len is at most buf->len. */
void buf_drop(struct buf *buf, size_t len);
/* Drops the tail so that @len bytes remain. */
void buf_truncate(struct buf *buf, size_t len);
/* Hands the text over (never NULL, NUL-terminated) and empties the buf. The caller frees it. */
char *buf_steal(struct buf *buf);
/* The text so far, "" for an empty buf; borrowed. */
const char *buf_str(const struct buf *buf);
