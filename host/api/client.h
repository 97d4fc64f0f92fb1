/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a host agent over its ha.sock; blocking, for the command line tools. */
#pragma once

#include <stdint.h>
#include "base/error.h"
#include "util/value.h"

/*
 * Asks the socket @path for @method @resource ("GET", "/v1/info") with @body (consumed; invalid:
 * none); the whole exchange takes at most @timeout_ms.
 * Errors: ECONNREFUSED (nobody listens), ENOENT, ETIMEDOUT, EPROTO (no sensible answer, or the
 * agent refused), ESRCH (it has no such thing); of a refusal the words are the agent's.
 */
int api_call(const char *path, const char *method, const char *resource, jv body,
             int64_t timeout_ms, jv *ret, struct error *err);
int api_get(const char *path, const char *resource, int64_t timeout_ms, jv *ret, struct error *err);

struct api_question {
    const char *path, *resource; /* as in api_get() */
    int r;                       /* as api_get() returns it */
    jv answer;                   /* if r is 0: the asker's */
    struct error err;            /* else; the asker's too */
};

/* Asks all at once, so that the slowest decides how long it takes: @timeout_ms at most. */
void api_get_all(struct api_question *questions, size_t count, int64_t timeout_ms);
