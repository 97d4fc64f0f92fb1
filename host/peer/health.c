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
    bool told;
};

static void on_health(const struct peer_health *health, void *arg)
{
    struct peer_health_call *asked = arg;
    peer_health_fn *done = asked->done;
    void *done_arg = asked->arg;

    asked->told = true;
    done(0, health, done_arg); /* the handle is nobody's any more */
}

static int on_message(struct call *call, const uint8_t *data, size_t len)
{
    struct peer_health_call *asked = container_of(call, struct peer_health_call, call);

    /* One was enough: it is free to end. */
    return asked->told ? CALL_ON : wire_health_decode(data, len, on_health, asked);
}

static void on_ended(struct call *call, int r, const char *text)
{
    struct peer_health_call *asked = container_of(call, struct peer_health_call, call);
    peer_health_fn *done = asked->told ? NULL : asked->done;
    void *arg = asked->arg;

    call_free(call);
    if (done) {
        done(r ? r : -EPROTO, NULL, arg);
    }
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
