/* SPDX-License-Identifier: Apache-2.0 */
/* One query to one server by one way. */
#pragma once

#include <stdint.h>
#include "dns/servers.h"
#include "util/loop.h"

enum exchange_way {
    EXCHANGE_UDP,
    EXCHANGE_TCP,
};

struct exchange;

/*
 * @response has been checked against the query and is borrowed; its id is the exchange's own. NULL:
 * the server cannot be reached or spoke nonsense by TCP; what is no answer is ignored by UDP. Comes
 * once; the exchange is then to be freed, in the callback or later.
 */
typedef void (*exchange_fn)(const uint8_t *response, size_t len, void *arg);

/* Sends @query (copied) with a fresh id. NULL when that fails at once. */
struct exchange *exchange_new(struct loop *loop, enum exchange_way way,
                              const struct dns_address *server, const uint8_t *query, size_t len,
                              exchange_fn done, void *arg);
void exchange_free(struct exchange *exchange);
SCOPED_PTR(struct exchange, exchange_free)
