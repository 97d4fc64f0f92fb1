/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation that never fails: exhaustion prints one line and aborts. Sizes that come from a peer
 * or a file are checked against a named limit before they reach these functions.
 */
#pragma once

#include <stdarg.h>
#include <stdlib.h>
#include "base/macros.h"

void *xmalloc(size_t size) _nonnull_;
/* Zeroed; multiplication is checked. */
void *xcalloc(size_t count, size_t size) _nonnull_;
void *xrealloc(void *ptr, size_t count, size_t size) _nonnull_;
/* NULL gives NULL. */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t max) _nonnull_;
void *xmemdup(const void *data, size_t len) _nonnull_;
/* A fresh string; the caller frees it. */
char *xasprintf(const char *fmt, ...) _nonnull_ _printf_(1, 2);
char *xvasprintf(const char *fmt, va_list ap) _nonnull_ _printf_(1, 0);

#define xnew(type)      ((type *)xcalloc(1, sizeof(type)))
#define xnew_n(type, n) ((type *)xcalloc((n), sizeof(type)))

/* scoped(free) char *s; scoped(fd_close) int fd = -1; */
static inline void _unused_ scoped_free(void *p)
{
    free(*(void **)p);
}

/* Closes @fd unless it is negative; keeps errno. */
void fd_close(int fd);

static inline void _unused_ scoped_fd_close(int *fd)
{
    fd_close(*fd);
}

/* Grows @array (of elements of *array's size) so that it holds at least @need elements. */
#define array_reserve(array, cap, need)                                                            \
    do {                                                                                           \
        if ((cap) < (need)) {                                                                      \
            (cap) = (need) < 8 ? 8 : (need) + (need) / 2;                                          \
            (array) = xrealloc((array), (cap), sizeof(*(array)));                                  \
        }                                                                                          \
    } while (0)
