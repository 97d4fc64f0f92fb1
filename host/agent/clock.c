/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/clock.h"

#include <string.h>
#include <time.h>
#include "base/alloc.h"
#include "base/log.h"
#include "peer/clock.h"
#include "util/clockwatch.h"

struct clock {
    struct peer *peer;
    struct clock_watch *host;
    struct loop_timer *timer;  /* for the next burst */
    struct peer_clock *stream; /* NULL: no session, or no such service */
    struct clock_burst burst;
    struct clock_sample sample; /* of the probe that is under way */
    uint64_t probe;             /* its number; 0: none is under way */
    uint64_t last_probe;
    bool again;   /* a clock was set during the burst: it says nothing */
    bool resumed; /* somebody was suspended since the last correction */
    bool warned;
    int64_t began_ms; /* the last burst */
};

/* ---- the arithmetic ---- */

bool clock_burst_add(struct clock_burst *burst, const struct clock_sample *s)
{
    int64_t rtt_ns = s->received_mono_ns - s->sent_mono_ns;
    int64_t drift_ns = s->received_ns - s->sent_ns - rtt_ns;
    bool jumped = drift_ns > CLOCK_JUMP_NS || drift_ns < -CLOCK_JUMP_NS;

    burst->all++;
    if (rtt_ns > CLOCK_LATE_NS) {
        burst->late = true;
    } else if (!jumped && (burst->good++ == 0 || rtt_ns < burst->rtt_ns)) {
        burst->rtt_ns = rtt_ns;
        burst->offset_ns = s->sent_ns + rtt_ns / 2 - s->guest_ns;
    }
    return burst->good >= CLOCK_PROBES || burst->all >= CLOCK_TRIES;
}

int64_t clock_burst_correction(const struct clock_burst *burst)
{
    int64_t sure_ns = MAX(burst->rtt_ns / 2, CLOCK_IGNORE_NS);

    if (burst->good == 0 || (burst->offset_ns <= sure_ns && burst->offset_ns >= -sure_ns)) {
        return 0;
    }
    return burst->offset_ns;
}

/* ---- bursts ---- */

static int64_t read_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void send_probe(struct clock *clock)
{
    clock->probe = ++clock->last_probe;
    clock->sample.sent_ns = read_ns(CLOCK_REALTIME);
    clock->sample.sent_mono_ns = read_ns(CLOCK_MONOTONIC);
    peer_clock_probe(clock->stream, clock->probe);
}

static void begin_burst(struct clock *clock)
{
    clock->burst = (struct clock_burst){0};
    clock->again = false;
    clock->began_ms = loop_now_ms();
    loop_timer_set(clock->timer, CLOCK_EVERY_MS);
    send_probe(clock);
}

/* At once, unless the last time was just now, or a burst is under way. */
static void measure(struct clock *clock)
{
    if (clock->probe) {
        clock->again = true;
    } else if (clock->stream) {
        int64_t since_ms = loop_now_ms() - clock->began_ms;

        loop_timer_set(clock->timer, MAX(CLOCK_GAP_MS - since_ms, 0));
    }
}

static void on_time(void *arg)
{
    struct clock *clock = arg;

    if (clock->stream && !clock->probe) {
        begin_burst(clock);
    }
}

static void end_burst(struct clock *clock)
{
    int64_t offset_ns = clock_burst_correction(&clock->burst);

    clock->resumed |= clock->burst.late;
    if (clock->again || clock->burst.good == 0) {
        measure(clock);
        return;
    }
    if (offset_ns) {
        log_debug("the guest's clock is off by %.3f ms, known to %.3f ms", (double)-offset_ns / 1e6,
                  (double)clock->burst.rtt_ns / 2e6);
        peer_clock_adjust(clock->stream, offset_ns, clock->resumed);
    }
    clock->resumed = false;
}

static void take_probe(struct clock *clock, int64_t guest_ns)
{
    clock->sample.received_ns = read_ns(CLOCK_REALTIME);
    clock->sample.received_mono_ns = read_ns(CLOCK_MONOTONIC);
    clock->sample.guest_ns = guest_ns;
    clock->probe = 0;
    if (clock_burst_add(&clock->burst, &clock->sample)) {
        end_burst(clock);
    } else {
        send_probe(clock);
    }
}

static void take_adjusted(struct clock *clock, const struct peer_clock_reply *reply)
{
    if (*reply->error && !clock->warned) {
        clock->warned = true;
        log_warn("the guest's clock can't be set: %s, ignoring", reply->error);
    } else if (reply->action == PEER_CLOCK_STEPPED) {
        log_info("the guest's clock was off by %.3f s, and was set",
                 (double)-clock->burst.offset_ns / 1e9);
    } else if (reply->action == PEER_CLOCK_SLEWED) {
        log_debug("the guest's clock is being slewed");
    }
}

static void on_reply(const struct peer_clock_reply *reply, void *arg)
{
    struct clock *clock = arg;

    if (reply->was_set) {
        measure(clock);
    } else if (reply->probe == 0) {
        take_adjusted(clock, reply);
    } else if (reply->probe == clock->probe) {
        take_probe(clock, reply->realtime_ns);
    }
}

static void on_ended(int r, void *arg)
{
    struct clock *clock = arg;

    clock->stream = NULL;
    clock_stop(clock);
    log_debug("the guest's clock is not followed: %s", strerror(-r));
}

static const struct peer_clock_events events = {.reply = on_reply, .ended = on_ended};

/* ---- life ---- */

static void on_host_clock_set(bool slept, void *arg)
{
    struct clock *clock = arg;

    clock->resumed |= slept;
    measure(clock);
}

struct clock *clock_new(struct loop *loop, struct peer *peer)
{
    struct clock *clock = xnew(struct clock);

    clock->peer = peer;
    clock->timer = loop_timer_new(loop, on_time, clock);
    clock->host = clock_watch_new(loop, on_host_clock_set, clock);
    return clock;
}

void clock_free(struct clock *clock)
{
    if (clock) {
        clock_stop(clock);
        clock_watch_free(clock->host);
        loop_timer_free(clock->timer);
        free(clock);
    }
}

void clock_start(struct clock *clock)
{
    clock_stop(clock);
    if (!peer_has(clock->peer, "clock")) {
        return;
    }
    clock->stream = peer_clock_open(clock->peer, &events, clock);
    if (clock->stream) {
        begin_burst(clock);
    }
}

void clock_stop(struct clock *clock)
{
    peer_clock_close(steal(clock->stream));
    loop_timer_set(clock->timer, -1);
    clock->probe = 0;
}

void clock_resumed(struct clock *clock)
{
    clock->resumed = true;
    measure(clock);
}
