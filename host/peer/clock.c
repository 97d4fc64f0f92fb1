/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/clock.h"

#include <assert.h>
#include <errno.h>
#include "base/alloc.h"
#include "peer/call.h"
#include "peer/wire_upkeep.h"

#define UNREAD_MAX 1024 /* bytes; a guest that reads leaves less than one request */

struct peer_clock {
    struct call call; /* first: freed as one */
    const struct peer_clock_events *events;
    void *arg;
};

static void on_reply(const struct peer_clock_reply *reply, void *arg)
{
    struct peer_clock *clock = arg;

    clock->events->reply(reply, clock->arg); /* may close it */
}

static int on_message(struct call *call, const uint8_t *data, size_t len)
{
    return wire_clock_decode(data, len, on_reply, call);
}

static void on_ended(struct call *call, int r, const char *text)
{
    struct peer_clock *clock = container_of(call, struct peer_clock, call);
    const struct peer_clock_events *events = clock->events;
    void *arg = clock->arg;

    call_free(call);
    events->ended(r ? r : -EPROTO, arg);
}

static const struct call_ops ops = {.message = on_message, .ended = on_ended};

struct peer_clock *peer_clock_open(struct peer *peer, const struct peer_clock_events *events,
                                   void *arg)
{
    struct peer_clock *clock = xnew(struct peer_clock);

    static_assert(offsetof(struct peer_clock, call) == 0, "freed through its call");
    clock->events = events;
    clock->arg = arg;
    call_init(&clock->call, peer, &ops, "Clock");
    return call_start(&clock->call) ? clock : NULL;
}

void peer_clock_close(struct peer_clock *clock)
{
    if (clock) {
        call_free(&clock->call);
    }
}

static void send_request(struct peer_clock *clock, struct buf *request)
{
    if (clock->call.request.len < UNREAD_MAX) {
        call_send(&clock->call, request->data, request->len);
    }
    buf_done(request);
}

void peer_clock_probe(struct peer_clock *clock, uint64_t probe)
{
    struct buf request = BUF_INIT;

    wire_put_clock_probe(&request, probe);
    send_request(clock, &request);
}

void peer_clock_adjust(struct peer_clock *clock, int64_t offset_ns, bool resumed)
{
    struct buf request = BUF_INIT;

    wire_put_clock_adjust(&request, offset_ns, resumed);
    send_request(clock, &request);
}
