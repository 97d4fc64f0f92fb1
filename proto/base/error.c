/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <assert.h>
#include <string.h>
#include "base/alloc.h"

void error_done(struct error *err)
{
    free(err->message);
    free(err->hint);
    *err = ERROR_INIT;
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
    va_list ap;
    char *message;

    assert(code > 0);
    if (err) {
        va_start(ap, fmt);
        message = xvasprintf(fmt, ap);
        va_end(ap);
        error_done(err);
        err->code = code;
        err->message = message;
    }
    return -code;
}

int error_errno(struct error *err, int code, const char *fmt, ...)
{
    va_list ap;

    assert(code > 0);
    if (err) {
        scoped(free) char *text = NULL;

        va_start(ap, fmt);
        text = xvasprintf(fmt, ap);
        va_end(ap);
        return error_set(err, code, "%s: %s", text, strerror(code));
    }
    return -code;
}

int error_wrap(struct error *err, int r, const char *fmt, ...)
{
    va_list ap;

    assert(r < 0);
    if (err) {
        scoped(free) char *text = NULL;
        char *message;

        va_start(ap, fmt);
        text = xvasprintf(fmt, ap);
        va_end(ap);
        message = xasprintf("%s: %s", text, err->message ? err->message : strerror(-r));
        free(err->message);
        err->message = message;
        err->code = -r;
    }
    return r;
}

int error_hint(struct error *err, const char *fmt, ...)
{
    va_list ap;

    if (!err) {
        return -EINVAL;
    }
    if (!err->hint) {
        va_start(ap, fmt);
        err->hint = xvasprintf(fmt, ap);
        va_end(ap);
    }
    return -err->code;
}

int error_move(struct error *to, struct error *from)
{
    int code = from->code;

    if (to) {
        error_done(to);
        *to = *from;
        *from = ERROR_INIT;
    } else {
        error_done(from);
    }
    return -code;
}

const char *error_text(const struct error *err)
{
    if (err->message) {
        return err->message;
    }
    return err->code ? strerror(err->code) : "no error";
}
