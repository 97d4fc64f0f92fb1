/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP on ha.sock: GET /v1/info. */
#pragma once

#include "base/error.h"
#include "base/macros.h"
#include "util/loop.h"
#include "util/value.h"

struct api_server;

/* Returns the document for /v1/info. */
typedef jv (*api_info_fn)(void *arg);

/* Listens on @path (0600; a stale socket is replaced). Errors: ENAMETOOLONG and those of bind(). */
int api_server_new(struct loop *loop, const char *path, api_info_fn info, void *arg,
                   struct api_server **ret, struct error *err);
/* Closes it and removes the socket. */
void api_server_free(struct api_server *server);
SCOPED_PTR(struct api_server, api_server_free)
