/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: a negative errno that code branches on, a message that grows outwards while it travels
 * up, and at most one hint that says what the user can do.
 *
 *     r = config_load(path, &config, err);
 *     if (r < 0) {
 *         return error_wrap(err, r, "opening instance '%s'", name);
 *     }
 *
 * Every function here takes a NULL @err and then only passes the number through.
 */
#pragma once

#include <errno.h>
#include "base/macros.h"

struct error {
    int code;      /* positive errno; 0 when unset */
    char *message; /* "outer: inner", no full stop; NULL when unset */
    char *hint;    /* a sentence about the remedy, or NULL */
};

#define ERROR_INIT ((struct error){0})

/* Frees the texts; @err can be used again afterwards. */
void error_done(struct error *err);
SCOPED_VAL(struct error, error_done)

/* Starts an error (any older one in @err is dropped). Returns -@code. @code is positive. */
int error_set(struct error *err, int code, const char *fmt, ...) _printf_(3, 4);
/* As error_set(), with ": strerror(code)" behind the message. */
int error_errno(struct error *err, int code, const char *fmt, ...) _printf_(3, 4);
/* Puts "fmt: " before the message. Returns @r, which is the negative code that came from below. */
int error_wrap(struct error *err, int r, const char *fmt, ...) _printf_(3, 4);
/*
 * Sets the hint unless one is there: the innermost place knows best. Returns -err->code, and
 * -EINVAL without an @err, so that `return error_hint()` never turns an error into success.
 */
int error_hint(struct error *err, const char *fmt, ...) _printf_(2, 3);
/* Moves @from into @to (which may be NULL) and leaves @from empty. Returns -code. */
int error_move(struct error *to, struct error *from);
/* The message, or a plain text for the code, never NULL; borrowed from @err. */
const char *error_text(const struct error *err);
