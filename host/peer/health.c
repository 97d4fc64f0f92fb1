/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/health.h"

#include <assert.h>
#include <errno.h>
#include "base/alloc.h"
#include "peer/call.h"
#include "peer/wire_upkeep.h"

struct peer_health_call {
    struct call call; /* first: freed as one */
    peer_health_fn *done;
    void *arg;
};

static void on_health(const struct peer_health *health, void *arg)
{
    struct peer_health_call *asked = arg;

    /* One was enough, and who waited for the guest to end its calls would run out of streams. */
    mux_stream_reset(steal(asked->call.stream), MUX_RESET_CANCEL);
    asked->done(0, health, asked->arg);
}

static int on_message(struct call *call, const uint8_t *data, size_t len)
{
    int r = wire_health_decode(data, len, on_health, call);

    if (r < 0) {
        return r;
    }
    call_free(call);
    return CALL_TAKEN;
}

static void on_ended(struct call *call, int r, const char *text)
{
    struct peer_health_call *asked = container_of(call, struct peer_health_call, call);
    peer_health_fn *done = asked->done;
    void *arg = asked->arg;

    call_free(call);
    done(r ? r : -EPROTO, NULL, arg);
}

static const struct call_ops ops = {.message = on_message, .ended = on_ended, .finish = true};

struct peer_health_call *peer_health_ask(struct peer *peer, peer_health_fn *done, void *arg)
{
    struct peer_health_call *asked = xnew(struct peer_health_call);

    static_assert(offsetof(struct peer_health_call, call) == 0, "freed through its call");
    asked->done = done;
    asked->arg = arg;
    call_init(&asked->call, peer, &ops, "Health");
    return call_start(&asked->call) ? asked : NULL;
}

void peer_health_cancel(struct peer_health_call *asked)
{
    if (asked) {
        call_free(&asked->call);
    }
}
