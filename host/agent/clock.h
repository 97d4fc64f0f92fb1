/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the guest's clock on the host's time: measures by how much it is off and tells the guest,
 * which slews or steps (its decision, see proto/guest.proto).
 *
 * A measurement is a burst of probes; the one that took the shortest time counts, and the guest's
 * time is taken to be that of its middle. So the result is off by at most half of that time, and
 * the guest is told only of more than that. Measured is at the start of a session, when either
 * side's clock was set or either was suspended, and every CLOCK_EVERY_MS, because clocks drift
 * without telling.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "peer/client.h"
#include "util/loop.h"

#define CLOCK_EVERY_MS  30000
#define CLOCK_GAP_MS    500          /* between the beginnings of two bursts */
#define CLOCK_PROBES    5            /* good ones in a burst */
#define CLOCK_TRIES     12           /* and with those that are not */
#define CLOCK_LATE_NS   5000000000ll /* a probe that takes longer means that nothing ran */
#define CLOCK_JUMP_NS   1000000ll    /* by so much our own clocks may differ over a probe */
#define CLOCK_IGNORE_NS 1000000ll    /* too small an error to talk about */

/* ---- the arithmetic ---- */

struct clock_sample {
    int64_t sent_ns, received_ns;           /* our CLOCK_REALTIME */
    int64_t sent_mono_ns, received_mono_ns; /* our CLOCK_MONOTONIC */
    int64_t guest_ns;                       /* what the guest said */
};

struct clock_burst {
    unsigned good, all;
    int64_t rtt_ns, offset_ns; /* of the best; the offset is to be added to the guest's clock */
    bool late;                 /* one took so long that somebody was suspended meanwhile */
};

/* True when the burst has enough. */
bool clock_burst_add(struct clock_burst *burst, const struct clock_sample *sample);
/* What the guest is to add; 0: nothing that is certain. */
int64_t clock_burst_correction(const struct clock_burst *burst);

/* ---- the clock of one guest ---- */

struct clock;

/* @peer is borrowed. Idle until clock_start(). */
struct clock *clock_new(struct loop *loop, struct peer *peer);
void clock_free(struct clock *clock);
/* A session is up; nothing happens if the guest has no such service. */
void clock_start(struct clock *clock);
/* The session is gone. */
void clock_stop(struct clock *clock);
/* The VM was suspended and runs again. */
void clock_resumed(struct clock *clock);
