/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What connects to addresses in the guest: the tunnels of the guest agent, or another carrier with
 * the same manners. A forward is given one and does not know which.
 */
#pragma once

#include <stdbool.h>
#include "mux/mux.h"
#include "peer/address.h"
#include "peer/client.h"

struct dialer;
struct dialing; /* a connection that is being made */

/*
 * 0 and the connected stream, whose ops the callee sets at once, or -errno: the guest's own
 * (ECONNREFUSED and the like), ENOTCONN: the carrier was lost.
 */
typedef void (*dialer_fn)(int r, struct mux_stream *stream, void *arg);

/* One who wants to know. In place, of the user's. */
struct dialer_watch {
    void (*changed)(bool up, void *arg); /* must not free the dialer */
    void *arg;
    struct dialer_watch *prev, *next;
};

struct dialer_ops {
    struct dialing *(*open)(struct dialer *dialer, const struct peer_address *to, dialer_fn done,
                            void *arg);
    void (*cancel)(struct dialer *dialer, struct dialing *dialing);
    bool (*is_up)(const struct dialer *dialer);
};

struct dialer { /* the beginning of each implementation */
    const struct dialer_ops *ops;
    struct dialer_watch *watches;
};

/* ---- for users ---- */

/*
 * Connects to @to, which is copied. @done comes once and never before this has returned. NULL: it
 * cannot be done now (the carrier is down, has no room, or does not carry this network), and then
 * @done does not come.
 */
struct dialing *dialer_open(struct dialer *dialer, const struct peer_address *to, dialer_fn done,
                            void *arg);
/* Before @done came: drops the connection, and @done does not come. NULL is fine. */
void dialer_cancel(struct dialer *dialer, struct dialing *dialing);
/* Whether what is opened now would be dialled at once. */
bool dialer_is_up(const struct dialer *dialer);
/* When it goes down, the streams were closed before the call. */
void dialer_watch(struct dialer *dialer, struct dialer_watch *watch);
void dialer_unwatch(struct dialer *dialer, struct dialer_watch *watch);

/* ---- for implementations ---- */

/* Tells the watches of what is_up() says now. */
void dialer_changed(struct dialer *dialer);

/* ---- the tunnels of the guest agent ---- */

/*
 * In place; nothing needs to be done with it at the end. Whoever gets the peer's events calls
 * dialer_changed().
 */
struct peer_dialer {
    struct dialer dialer;
    struct peer *peer; /* borrowed */
};

void peer_dialer_init(struct peer_dialer *dialer, struct peer *peer);
