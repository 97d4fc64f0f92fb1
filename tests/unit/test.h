/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every unit test includes: the headers cmocka wants in the order it wants them, and
 * assert_fails(). A failed assert jumps over scope cleanup, so state shared between tests belongs
 * to setup and teardown functions.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <string.h>
#include "base/alloc.h"
#include "base/error.h"

/* @expr returned -@code and left a message that contains @part. */
#define assert_fails(expr, err, want, part)                                                        \
    do {                                                                                           \
        int assert_fails_r_ = (expr);                                                              \
        assert_int_equal(assert_fails_r_, -(want));                                                \
        assert_int_equal((err)->code, (want));                                                     \
        if (!strstr(error_text(err), (part))) {                                                    \
            fail_msg("message \"%s\" lacks \"%s\"", error_text(err), (part));                      \
        }                                                                                          \
        error_done(err);                                                                           \
    } while (0)

/* @expr returned 0 or more; else fails with the message. */
#define assert_works(expr, err)                                                                    \
    do {                                                                                           \
        int assert_works_r_ = (expr);                                                              \
        if (assert_works_r_ < 0) {                                                                 \
            fail_msg("%s: %d: %s", #expr, assert_works_r_, error_text(err));                       \
        }                                                                                          \
    } while (0)

/*
 * Around calls that make a library lose memory of its own (libjq after a syntax error). The symbols
 * exist where the address sanitizer is linked.
 */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

static inline void __attribute__((unused)) leaks_ignore(bool ignore)
{
    if (ignore && __lsan_disable) {
        __lsan_disable();
    } else if (!ignore && __lsan_enable) {
        __lsan_enable();
    }
}
