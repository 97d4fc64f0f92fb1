/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port forwards of one VM: guest listeners in, host listeners out. The desired set is computed from
 * rules and present listeners and compared with the live one at every change; several guest
 * listeners may share one host address (the first that fits serves).
 */
#pragma once

#include "config/config.h"
#include "forward/listener.h"
#include "peer/client.h"
#include "util/loop.h"

struct forward_table;

enum forward_event {
    FORWARD_EVENT_FORWARDING,     /* the host listens now */
    FORWARD_EVENT_NOT_FORWARDING, /* a rule says so */
    FORWARD_EVENT_STOPPING,
    FORWARD_EVENT_FAILED, /* @error says why */
};

/* Upward call; must not free the table. Addresses as "127.0.0.1:8080", "[::1]:80"; host may be
 * NULL. */
struct forward_events {
    void (*changed)(enum forward_event event, enum config_proto proto, const char *guest,
                    const char *host, const char *error, void *arg);
};

/*
 * @rules are the user's; the implicit ones (22, @ssh_port, fallback) are added. They and all
 * that @env names are borrowed.
 */
struct forward_table *forward_table_new(const struct forward_env *env,
                                        const struct config_port_forward *rules, size_t rule_count,
                                        int ssh_port, const struct forward_events *events,
                                        void *events_arg);
void forward_table_free(struct forward_table *table);
SCOPED_PTR(struct forward_table, forward_table_free)
/*
 * From peer_events.ports. Takes effect from the loop, together with all that comes until then;
 * changed() is called from there, never from here. When the session is lost nothing needs to be
 * said: the tunnels end by themselves, the listeners stay until the next snapshot.
 */
void forward_table_update(struct forward_table *table, bool snapshot, const struct peer_port *added,
                          size_t added_count, const struct peer_port *removed,
                          size_t removed_count);
