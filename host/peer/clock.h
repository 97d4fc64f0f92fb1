/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's clock: asked for its time and told by how much it is off, over one stream that lives
 * as long as the session. No judgement here: see agent/clock.h.
 */
#pragma once

#include "peer/client.h"

enum peer_clock_action { /* lima.guest.v1.ClockReply.Action */
                         PEER_CLOCK_NONE,
                         PEER_CLOCK_SLEWED,
                         PEER_CLOCK_STEPPED,
};

struct peer_clock_reply {
    uint64_t probe;      /* of the probe that it answers; 0: of none */
    bool was_set;        /* nobody asked: somebody in the guest has set the clock */
    int64_t realtime_ns; /* 0 to PEER_CLOCK_MAX_NS */
    enum peer_clock_action action;
    const char *error; /* printable, "" if none; borrowed during the call */
};

#define PEER_CLOCK_MAX_NS (INT64_MAX / 2) /* the year 2116: differences never overflow */

/* Neither may free the peer; both may close the clock. */
struct peer_clock_events {
    void (*reply)(const struct peer_clock_reply *reply, void *arg);
    /* Instead of what was still to come: -errno (ENOTCONN: with the session). Closed already. */
    void (*ended)(int r, void *arg);
};

struct peer_clock;

/* NULL while the session is down or has no stream left. */
struct peer_clock *peer_clock_open(struct peer *peer, const struct peer_clock_events *events,
                                   void *arg);
/* No further events. Takes NULL. */
void peer_clock_close(struct peer_clock *clock);
/*
 * A reply with the same number comes; not 0. A guest that reads nothing of what it was asked before
 * is not asked.
 */
void peer_clock_probe(struct peer_clock *clock, uint64_t probe);
/* @offset_ns is to be added to the guest's clock; a reply with probe 0 comes. The same holds. */
void peer_clock_adjust(struct peer_clock *clock, int64_t offset_ns, bool resumed);
