/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One way after the other, vsock first:
 *
 *   CALLING   the call's answer is awaited
 *   ROUNDS    single bytes, each sent when the one before has come back
 *   BURST     many bytes are sent and come back
 */
#include "peer/measure.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include "base/alloc.h"
#include "base/log.h"
#include "peer/call.h"

#define ROUNDS   8
#define BURST    (512u << 10) /* bytes */
#define CHUNK    16384
#define LIMIT_MS 2000 /* for one way */
#define SMALLEST 1    /* microseconds */

enum way {
    WAY_VSOCK,
    WAY_SESSION,
    WAY_COUNT,
};

enum state {
    STATE_CALLING,
    STATE_ROUNDS,
    STATE_BURST,
};

struct measure {
    struct peer *peer;
    struct loop_timer *next; /* begins the next way, from the loop */
    struct loop_timer *limit;
    measure_fn done;
    void *arg;
    enum way way;
    enum state state;
    struct call *call;
    struct mux_stream *stream;
    uint64_t since_us;
    int rounds;
    size_t to_send, to_come;
    struct way_figures figures[WAY_COUNT];
    bool good[WAY_COUNT];
};

struct echo_call {
    struct call call; /* first */
    struct measure *measure;
};

static uint64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static unsigned passed_us(const struct measure *m)
{
    return (unsigned)MAX(now_us() - m->since_us, SMALLEST);
}

/* The rest comes from the loop: a stream's callback may be on the stack. */
static void end_way(struct measure *m, bool good)
{
    m->good[m->way] = good;
    if (m->call) {
        call_free(steal(m->call));
    }
    if (m->stream) {
        mux_stream_reset(steal(m->stream), MUX_RESET_CANCEL);
    }
    loop_timer_set(m->limit, -1);
    m->way++;
    loop_timer_set(m->next, 0);
}

static void send_round(struct measure *m)
{
    m->since_us = now_us();
    if (!mux_stream_write_all(m->stream, "x", 1)) {
        end_way(m, false);
    }
}

static void send_burst(struct measure *m)
{
    static const char bytes[CHUNK];

    while (m->to_send) {
        size_t n = mux_stream_write(m->stream, bytes, MIN(m->to_send, sizeof(bytes)));

        if (!n) {
            return;
        }
        m->to_send -= n;
    }
}

static void round_over(struct measure *m)
{
    unsigned *best = &m->figures[m->way].round_trip_us;

    *best = *best ? MIN(*best, passed_us(m)) : passed_us(m);
    if (++m->rounds < ROUNDS) {
        send_round(m);
        return;
    }
    m->state = STATE_BURST;
    m->to_send = m->to_come = BURST;
    m->since_us = now_us();
    send_burst(m);
}

static void burst_over(struct measure *m)
{
    m->figures[m->way].kib_per_s = (unsigned)((uint64_t)BURST / 1024 * 1000000 / passed_us(m));
    end_way(m, true);
}

static void on_echo_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct measure *m = arg;

    mux_stream_consumed(stream, len);
    if (m->state == STATE_ROUNDS && len == 1) {
        round_over(m);
    } else if (m->state == STATE_BURST && len < m->to_come) {
        m->to_come -= len;
    } else if (m->state == STATE_BURST && len == m->to_come) {
        burst_over(m);
    } else {
        end_way(m, false);
    }
}

static void on_echo_fin(struct mux_stream *stream, void *arg)
{
    end_way(arg, false);
}

static void on_echo_writable(struct mux_stream *stream, void *arg)
{
    send_burst(arg);
}

static void on_echo_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct measure *m = arg;

    m->stream = NULL;
    end_way(m, false);
}

static const struct mux_stream_ops echo_ops = {
    .data = on_echo_data,
    .fin = on_echo_fin,
    .writable = on_echo_writable,
    .closed = on_echo_closed,
};

static int on_call_accepted(struct call *call)
{
    struct measure *m = ((struct echo_call *)call)->measure;

    m->figures[m->way].open_us = passed_us(m);
    m->state = STATE_ROUNDS;
    m->call = NULL;
    m->stream = call_take(call);
    mux_stream_set_ops(m->stream, &echo_ops, m);
    send_round(m);
    return CALL_TAKEN;
}

static void on_call_ended(struct call *call, int r, const char *text)
{
    struct measure *m = ((struct echo_call *)call)->measure;

    log_debug("measuring the way into the guest: %s", text ? text : strerror(-r));
    m->call = NULL;
    call_free(call);
    end_way(m, false);
}

static const struct call_ops call_ops = {
    .accepted = on_call_accepted,
    .ended = on_call_ended,
};

static void begin_way(struct measure *m)
{
    struct echo_call *echo = xnew(struct echo_call);

    static_assert(offsetof(struct echo_call, call) == 0, "freed through its call");
    m->state = STATE_CALLING;
    m->rounds = 0;
    m->since_us = now_us();
    echo->measure = m;
    call_init(&echo->call, m->peer, &call_ops, "Echo");
    echo->call.kind = m->way == WAY_VSOCK ? WAY_KIND_PROBE : WAY_KIND_CONTROL;
    loop_timer_set(m->limit, LIMIT_MS);
    if (call_start(&echo->call)) {
        m->call = &echo->call;
    } else {
        end_way(m, false);
    }
}

void measure_free(struct measure *m)
{
    if (!m) {
        return;
    }
    if (m->call) {
        call_free(m->call);
    }
    if (m->stream) {
        mux_stream_reset(m->stream, MUX_RESET_CANCEL);
    }
    loop_timer_free(m->next);
    loop_timer_free(m->limit);
    free(m);
}

static void on_next_due(void *arg)
{
    struct measure *m = arg;
    struct way_figures figures[WAY_COUNT];
    bool good[WAY_COUNT];
    measure_fn done = m->done;
    void *done_arg = m->arg;

    if (m->way < WAY_COUNT && (m->way == WAY_VSOCK || m->good[WAY_VSOCK])) {
        begin_way(m);
        return;
    }
    memcpy(figures, m->figures, sizeof(figures));
    memcpy(good, m->good, sizeof(good));
    measure_free(m);
    done(good[WAY_SESSION] ? &figures[WAY_SESSION] : NULL,
         good[WAY_VSOCK] ? &figures[WAY_VSOCK] : NULL, done_arg);
}

static void on_limit(void *arg)
{
    log_debug("measuring a way into the guest took too long");
    end_way(arg, false);
}

struct measure *measure_new(struct peer *peer, struct loop *loop, measure_fn done, void *arg)
{
    struct measure *m = xnew(struct measure);

    m->peer = peer;
    m->done = done;
    m->arg = arg;
    m->next = loop_timer_new(loop, on_next_due, m);
    m->limit = loop_timer_new(loop, on_limit, m);
    loop_timer_set(m->next, 0);
    return m;
}
