/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunnels: a stream of the host joined to a connection that we dial (see dial.h), or that somebody
 * in the guest has made to a listener of the host's. Bytes go both ways, each direction ends by
 * itself, and neither side is read faster than the other takes. What waits in memory is at most the
 * window that the stream grants. With UDP, datagrams go both ways: see datagram.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "incoming.h"
#include "loop.h"
#include "mux/mux.h"
#include "rpc.h"

struct tunnels;

/* @incoming is borrowed. */
struct tunnels *tunnels_new(struct loop *loop, struct incoming *incoming);
/* Resets every tunnel. */
void tunnels_free(struct tunnels *tunnels);
SCOPED_PTR(struct tunnels, tunnels_free)
size_t tunnels_count(const struct tunnels *tunnels);

/* Joins a stream that was replied to with the non-blocking stream socket @take_fd. */
void tunnels_join(struct tunnels *tunnels, struct mux_stream *stream, int take_fd);
/* The service "Tunnel". @arg: the tunnels. */
int tunnels_serve(const struct rpc_call *call, void *arg, struct error *err);
/* The service "Accept", called by the host. @arg: the tunnels. */
int tunnels_serve_accept(const struct rpc_call *call, void *arg, struct error *err);
