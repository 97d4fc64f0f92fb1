/* SPDX-License-Identifier: Apache-2.0 */
/* Texts from the network, whole, with a limit. Blocks. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

/*
 * GET of an http(s) @url. Errors: ENOENT (404, 410), EACCES (401, 403), EFBIG (beyond @max bytes),
 * EIO (any other status but 200, network), ETIMEDOUT.
 */
int template_fetch(const char *url, size_t max, struct buf *ret, struct error *err);
