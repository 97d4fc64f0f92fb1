/* SPDX-License-Identifier: Apache-2.0 */
/* How the guest does, asked for once. */
#pragma once

#include "peer/client.h"

#define PEER_HEALTH_MAX (1ll << 53) /* what a number may be: all of it fits a double */

struct peer_health { /* each number at most PEER_HEALTH_MAX; what is available, at most the total */
    uint64_t uptime_ms;
    uint32_t load_milli[3]; /* of 1, 5 and 15 minutes, times 1000 */
    uint64_t memory_total, memory_available;
    uint64_t swap_total, swap_free;
    uint64_t disk_total, disk_available; /* of the root file system */
    uint32_t processes;
    uint32_t agent_rss_kib, agent_streams;
    const char *port_method; /* printable; borrowed during the call */
};

struct peer_health_call;

/* Once: 0 and the answer, or -errno and NULL. The call is over. */
typedef void peer_health_fn(int r, const struct peer_health *health, void *arg);

/* NULL while the session is down or has no stream left; @done does not come then. */
struct peer_health_call *peer_health_ask(struct peer *peer, peer_health_fn *done, void *arg);
/* @done does not come. Takes NULL. */
void peer_health_cancel(struct peer_health_call *call);
