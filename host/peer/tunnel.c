/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/tunnel.h"

#include <assert.h>
#include <errno.h>
#include "base/alloc.h"
#include "base/log.h"
#include "peer/call.h"
#include "peer/wire.h"

struct peer_tunnel {
    struct call call; /* first: freed as one */
    peer_tunnel_fn done;
    void *arg;
};

static int on_tunnel_accepted(struct call *call)
{
    struct peer_tunnel *tunnel = container_of(call, struct peer_tunnel, call);
    peer_tunnel_fn done = tunnel->done;
    void *arg = tunnel->arg;

    done(0, call_take(call), arg);
    return CALL_TAKEN;
}

static void on_tunnel_ended(struct call *call, int r, const char *text)
{
    struct peer_tunnel *tunnel = container_of(call, struct peer_tunnel, call);
    peer_tunnel_fn done = tunnel->done;
    void *arg = tunnel->arg;

    if (text && *text) {
        log_debug("the guest dials in vain: %s", text);
    }
    call_free(call);
    done(r ? r : -EPROTO, NULL, arg);
}

static const struct call_ops tunnel_ops = {
    .accepted = on_tunnel_accepted,
    .ended = on_tunnel_ended,
};

struct peer_tunnel *peer_tunnel_open(struct peer *peer, const struct peer_address *to,
                                     peer_tunnel_fn done, void *arg)
{
    struct peer_tunnel *tunnel = xnew(struct peer_tunnel);

    static_assert(offsetof(struct peer_tunnel, call) == 0, "freed through its call");
    tunnel->done = done;
    tunnel->arg = arg;
    call_init(&tunnel->call, peer, &tunnel_ops, "Tunnel");
    tunnel->call.kind = to->network == PEER_NETWORK_UDP ? WAY_KIND_INTERACTIVE : WAY_KIND_BULK;
    wire_put_tunnel_request(&tunnel->call.request, to);
    return call_start(&tunnel->call) ? tunnel : NULL;
}

void peer_tunnel_cancel(struct peer_tunnel *tunnel)
{
    if (tunnel) {
        call_free(&tunnel->call);
    }
}
