/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Language helpers shared by every file of the project: attributes, scope cleanup, ownership
 * transfer. Depends on nothing but the compiler and libc.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _unused_            __attribute__((unused))
#define _noreturn_          __attribute__((noreturn))
#define _nonnull_           __attribute__((returns_nonnull))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)    ((a) < (b) ? (a) : (b))
#define MAX(a, b)    ((a) > (b) ? (a) : (b))

/* The object that holds @ptr as its member @member. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/*
 * scoped(free) char *s = ...;       calls the destructor on the pointer when the scope ends;
 * scoped(error_done) struct error e the destructor gets the address of a struct held in place.
 *
 * Each destructor that is used so is named once with SCOPED_PTR() (takes T *, accepts NULL) or
 * SCOPED_VAL() (takes T *, called with the variable's address) beside its prototype.
 */
#define scoped(fn) __attribute__((cleanup(scoped_##fn)))

#define SCOPED_PTR(type, fn)                                                                       \
    static inline void _unused_ scoped_##fn(type **p)                                              \
    {                                                                                              \
        if (*p) {                                                                                  \
            fn(*p);                                                                                \
        }                                                                                          \
    }

#define SCOPED_VAL(type, fn)                                                                       \
    static inline void _unused_ scoped_##fn(type *p)                                               \
    {                                                                                              \
        fn(p);                                                                                     \
    }

/* Yields the pointer and clears the variable: ownership moves to the reader. */
#define steal(p)                                                                                   \
    ({                                                                                             \
        __typeof__(p) *steal_p_ = &(p);                                                            \
        __typeof__(p) steal_v_ = *steal_p_;                                                        \
        *steal_p_ = NULL;                                                                          \
        steal_v_;                                                                                  \
    })

/* Yields the descriptor and leaves -1 in the variable. */
static inline int steal_fd(int *fd)
{
    int v = *fd;

    *fd = -1;
    return v;
}
