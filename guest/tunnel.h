/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunnels: a stream of the host joined to a TCP connection that we dial. Bytes go both ways, each
 * direction ends by itself, and neither side is read faster than the other takes. What waits in
 * memory is at most the window that the stream grants.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "guest.pb.h"
#include "loop.h"
#include "mux/mux.h"

struct tunnels;

struct tunnels *tunnels_new(struct loop *loop);
/* Resets every tunnel. */
void tunnels_free(struct tunnels *tunnels);
SCOPED_PTR(struct tunnels, tunnels_free)
size_t tunnels_count(const struct tunnels *tunnels);

/*
 * Takes the stream over. @early bytes came behind the request and are not consumed yet.
 */
void tunnel_start(struct tunnels *tunnels, struct mux_stream *stream,
                  const lima_guest_v1_TunnelRequest *request, const void *early, size_t early_len);
