/* SPDX-License-Identifier: Apache-2.0 */
/* Host addresses that listeners take. */
#pragma once

#include "base/error.h"
#include "forward/endpoint.h"

/*
 * A non-blocking socket of @type (SOCK_STREAM, not yet listening, or SOCK_DGRAM) bound to @host;
 * with port 0 to any free one. @ret_port is what it got. Errors: EADDRINUSE (taken), EACCES (a port
 * that needs root; with a hint), EADDRNOTAVAIL.
 */
int forward_bind(const struct forward_endpoint *host, int type, int *ret_fd, uint16_t *ret_port,
                 struct error *err);
/* Whether somebody listens on the Unix socket @path now. */
bool forward_bind_is_live(const char *path);
