/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunnels: a stream of the host joined to a TCP connection that we dial. Bytes go both ways, each
 * direction ends by itself, and neither side is read faster than the other takes. What waits in
 * memory is at most the window that the stream grants.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "loop.h"
#include "mux/mux.h"
#include "rpc.h"

struct tunnels;

struct tunnels *tunnels_new(struct loop *loop);
/* Resets every tunnel. */
void tunnels_free(struct tunnels *tunnels);
SCOPED_PTR(struct tunnels, tunnels_free)
size_t tunnels_count(const struct tunnels *tunnels);

/* The service "Tunnel". @arg: the tunnels. */
int tunnels_serve(const struct rpc_call *call, void *arg, struct error *err);
