/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/dialer.h"

#include <assert.h>
#include "peer/tunnel.h"

struct dialing *dialer_open(struct dialer *dialer, const struct peer_address *to, dialer_fn done,
                            void *arg)
{
    return dialer->ops->open(dialer, to, done, arg);
}

void dialer_cancel(struct dialer *dialer, struct dialing *dialing)
{
    if (dialing) {
        dialer->ops->cancel(dialer, dialing);
    }
}

bool dialer_is_up(const struct dialer *dialer)
{
    return dialer->ops->is_up(dialer);
}

void dialer_watch(struct dialer *dialer, struct dialer_watch *watch)
{
    watch->prev = NULL;
    watch->next = dialer->watches;
    if (watch->next) {
        watch->next->prev = watch;
    }
    dialer->watches = watch;
}

void dialer_unwatch(struct dialer *dialer, struct dialer_watch *watch)
{
    if (watch->prev) {
        watch->prev->next = watch->next;
    } else {
        assert(dialer->watches == watch);
        dialer->watches = watch->next;
    }
    if (watch->next) {
        watch->next->prev = watch->prev;
    }
    watch->prev = watch->next = NULL;
}

void dialer_changed(struct dialer *dialer)
{
    bool up = dialer_is_up(dialer);

    for (struct dialer_watch *watch = dialer->watches, *next; watch; watch = next) {
        next = watch->next; /* it may take itself off */
        watch->changed(up, watch->arg);
    }
}

/* ---- the tunnels of the guest agent; a dialing is the peer's tunnel ---- */

static struct peer *peer_of(const struct dialer *dialer)
{
    return ((const struct peer_dialer *)dialer)->peer;
}

static struct dialing *on_peer_open(struct dialer *dialer, const struct peer_address *to,
                                    dialer_fn done, void *arg)
{
    return (struct dialing *)peer_tunnel_open(peer_of(dialer), to, done, arg);
}

static void on_peer_cancel(struct dialer *dialer, struct dialing *dialing)
{
    peer_tunnel_cancel((struct peer_tunnel *)dialing);
}

static bool on_peer_is_up(const struct dialer *dialer)
{
    return peer_is_up(peer_of(dialer));
}

static const struct dialer_ops peer_dialer_ops = {
    .open = on_peer_open,
    .cancel = on_peer_cancel,
    .is_up = on_peer_is_up,
};

void peer_dialer_init(struct peer_dialer *dialer, struct peer *peer)
{
    static_assert(offsetof(struct peer_dialer, dialer) == 0, "found by its dialer");
    *dialer = (struct peer_dialer){.dialer.ops = &peer_dialer_ops, .peer = peer};
}
