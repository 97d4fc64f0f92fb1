/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's DNS: the host's resolver on ports of 127.0.0.1, and the guest agent's rules that lead
 * queries there, put up again in each session. Failures are warned of and cost nothing else:
 * queries then go to the DNS of QEMU's network.
 */
#pragma once

#include "config/config.h"
#include "peer/client.h"
#include "util/loop.h"

struct resolver;

/*
 * @config, @hostname and @peer are borrowed. NULL when the configuration wants none, or none can be
 * opened (which is warned of).
 */
struct resolver *resolver_new(struct loop *loop, const struct config *config, const char *hostname,
                              struct peer *peer);
void resolver_free(struct resolver *resolver);
SCOPED_PTR(struct resolver, resolver_free)
/* A session with the guest has begun. @resolver may be NULL. */
void resolver_connected(struct resolver *resolver);
