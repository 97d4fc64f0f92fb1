/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners in the guest whose connections come to us. */
#pragma once

#include "mux/mux.h"
#include "peer/address.h"
#include "peer/client.h"

#define PEER_LISTEN_BACKLOG 256 /* connections that a guest may announce before they stand */

struct peer_listen;

struct peer_listen_events {
    /* It listens; @port for TCP, else 0. At most once. */
    void (*listening)(uint16_t port, void *arg);
    /* Somebody in the guest has connected: the stream is the callee's, its ops are to be set at
     * once. */
    void (*accepted)(struct mux_stream *stream, void *arg);
    /*
     * The last call: -errno of the guest (EADDRINUSE, EACCES, ...; @text has its words or is NULL)
     * or ENOTCONN with the session. The handle is invalid; connections go on.
     */
    void (*ended)(int r, const char *text, void *arg);
};

/*
 * Has the guest listen on @at (TCP or UNIX, copied) as long as the handle lives. @mode are the
 * permissions of a Unix socket, 0 for 0600. No callback comes before this has returned. NULL while
 * the session is down. A callback may close the handle, but ended(), where it is gone already.
 */
struct peer_listen *peer_listen_open(struct peer *peer, const struct peer_address *at,
                                     unsigned mode, const struct peer_listen_events *events,
                                     void *arg);
/* Stops it; no callback comes any more. NULL is fine. */
void peer_listen_close(struct peer_listen *listen);
