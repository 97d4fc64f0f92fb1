/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forwards of the instance as the agent shows them: log lines and events out of the table, and
 * /v1/ports of the API.
 */
#pragma once

#include "api/events.h"
#include "api/server.h"
#include "forward/table.h"

struct ports;

/* @event has the members of a forward; the callee adds the rest. Must not free the ports. */
typedef void (*ports_happened_fn)(struct api_event *event, void *arg);

/* @lima_home, @config and what @env names are borrowed. */
struct ports *ports_new(const struct forward_env *env, const char *lima_home,
                        const struct config *config, int ssh_port, ports_happened_fn happened,
                        void *arg);
void ports_free(struct ports *ports);
SCOPED_PTR(struct ports, ports_free)

/* The guest is ready: what needs no listener in it is forwarded from now on. */
void ports_start(struct ports *ports);
/* From peer_events.ports. */
void ports_update(struct ports *ports, bool snapshot, const struct peer_port *added,
                  size_t added_count, const struct peer_port *removed, size_t removed_count);
/* What does not work of rules with onConflict "fail", a line each. */
void ports_failures(struct ports *ports, struct strv *ret);
/* Array of what was asked for and does not work, as in ports_get(). */
jv ports_conflicts(struct ports *ports);

/*
 * GET: {"ports": [...]}, one object a listener or rule:
 *
 *     guestAddr, hostAddr   "127.0.0.1:80", "[::1]:80" or the path of a socket
 *     protocol              "tcp", "udp", "unix" (a socket at either end)
 *     state                 forward_state_names[]
 *     reason                why, where there is something to say
 *     origin                "socket", "container", "kubernetes": what listens; "rule": nothing
 * needs to rule                  "portForwards[2]", "added", "built-in" static, temporary, reverse,
 * remapped    when true connections           now
 *
 * POST: {"rule": {...}, "temporary": bool}: an item of portForwards to be put in front of the
 * others; the answer is what GET gives.
 * DELETE: {"rule": {...}}: takes out the first rule that leads from and to the same.
 */
void ports_get(struct ports *ports, struct api_exchange *take_exchange);
void ports_post(struct ports *ports, struct api_exchange *take_exchange, jv take_body);
void ports_delete(struct ports *ports, struct api_exchange *take_exchange, jv take_body);
