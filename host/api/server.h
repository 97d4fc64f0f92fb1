/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP on ha.sock: a table of routes, JSON both ways. A handler gets an exchange and ends it once,
 * at once or later, with an answer or an error.
 */
#pragma once

#include "base/error.h"
#include "base/macros.h"
#include "util/loop.h"
#include "util/value.h"

struct api_server;
struct api_exchange; /* one request that waits for its answer */

struct api_route {
    const char *method; /* "GET", "POST", "PUT", "DELETE" */
    const char *path;   /* "/v1/info"; what a client puts behind a '?' is not looked at */
    bool has_body;      /* a JSON object has to come; else none may */
    /* Ends @exchange now or later. @body is consumed; invalid without has_body. */
    void (*handle)(struct api_exchange *exchange, jv body, void *arg);
};

/*
 * Listens on @path (0600; a stale socket is replaced). @routes ends with a NULL method; borrowed.
 * What fits no route is answered here: 404, 405, 400 for a body that is none.
 * Errors: ENAMETOOLONG and those of bind().
 */
int api_server_new(struct loop *loop, const char *path, const struct api_route *routes, void *arg,
                   struct api_server **ret, struct error *err);
/*
 * Closes it and removes the socket. Exchanges that have not ended lose their client, and are still
 * to be ended.
 */
void api_server_free(struct api_server *server);
SCOPED_PTR(struct api_server, api_server_free)

/* Ends the exchange with 200 and @document (consumed). */
void api_answer(struct api_exchange *take_exchange, jv document);
/*
 * Ends it with {"message", "hint"} of @err and the status that its code stands for: EINVAL 400,
 * ENOENT 404, EEXIST and EADDRINUSE 409, EOPNOTSUPP 501, ENOTCONN and EAGAIN 503, else 500.
 */
void api_refuse(struct api_exchange *take_exchange, const struct error *err);
