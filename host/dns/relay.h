/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries as they are to the host's DNS servers: by UDP, and by TCP when the answer was cut or none
 * came. Each attempt has a port and an id of its own; an answer counts only from the server that
 * was asked, with that id and question. Equal queries at one time are one.
 */
#pragma once

#include <stdint.h>
#include "dns/servers.h"
#include "util/loop.h"

#define RELAY_QUERIES_MAX 256 /* of up to 2 descriptors a server */

struct relay;
struct relay_request;

struct relay *relay_new(struct loop *loop);
void relay_free(struct relay *relay); /* no callbacks */
SCOPED_PTR(struct relay, relay_free)

/* For queries from now on. */
void relay_set_servers(struct relay *relay, const struct dns_servers *servers);

/*
 * @query (copied) has a sound question. @done comes once, never before this has returned, with the
 * answer of a server, checked, borrowed during the call, with the id of @query; or NULL: none gave
 * any within RELAY_PATIENCE_MS. NULL when there are no servers or RELAY_QUERIES_MAX others are
 * under way: then
 * @done does not come. @done may start and cancel requests, and not free the relay.
 */
#define RELAY_PATIENCE_MS 4500 /* below the 5 s that a client's library waits */
typedef void (*relay_done_fn)(const uint8_t *response, size_t len, void *arg);
struct relay_request *relay_start(struct relay *relay, const uint8_t *query, size_t len,
                                  relay_done_fn done, void *arg);
void relay_cancel(struct relay_request *request);
