/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that the guest agent dials for us. */
#pragma once

#include "mux/mux.h"
#include "peer/address.h"
#include "peer/client.h"

struct peer_tunnel;

/*
 * 0 and the connected stream, whose ops the callee sets at once, or -errno: the guest's own
 * (ECONNREFUSED and the like), ENOTCONN: session down or lost.
 */
typedef void (*peer_tunnel_fn)(int r, struct mux_stream *stream, void *arg);

/*
 * Opens a tunnel to @to, which is copied. On the stream go the bytes of the connection, with
 * half-close for each direction; with UDP datagrams, each behind its length as a varint, up to
 * PEER_DATAGRAM_MAX bytes. @done comes once, never before this has returned. NULL while the session
 * is down, or when the mux carries all the streams it can: no @done comes then.
 */
struct peer_tunnel *peer_tunnel_open(struct peer *peer, const struct peer_address *to,
                                     peer_tunnel_fn done, void *arg);
/* Before @done came: drops the tunnel, and @done does not come. NULL is fine. */
void peer_tunnel_cancel(struct peer_tunnel *tunnel);
