/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a host agent over its ha.sock; blocking, for the command line tools. */
#pragma once

#include <stdint.h>
#include "base/error.h"
#include "util/value.h"

/*
 * GET @resource ("/v1/info") from the socket @path; the whole exchange takes at most @timeout_ms.
 * Errors: ECONNREFUSED (nobody listens), ENOENT, ETIMEDOUT, EPROTO (no sensible answer).
 */
int api_get(const char *path, const char *resource, int64_t timeout_ms, jv *ret, struct error *err);
