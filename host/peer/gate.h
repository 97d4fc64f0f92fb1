/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ga.sock: local programs' way to the services of the guest. Each connection is one stream, which
 * is joined to a stream of the guest from its first byte on: StreamOpen, request, and all that
 * follows is between the two (docs/protocol.md). While no session with the guest is up, a
 * connection is answered with StreamReply ENOTCONN.
 *
 * The socket is the user's alone (0600): who connects may do in the guest what its root may.
 */
#pragma once

#include "base/error.h"
#include "peer/client.h"
#include "util/loop.h"

#define GATE_CONNECTIONS_MAX 1024 /* further ones wait to be accepted */

struct gate;

/* Listens at @path, where a stale socket is replaced. @peer must outlive the gate. */
int gate_open(struct loop *loop, const char *path, struct peer *peer, struct gate **ret,
              struct error *err);
/* Breaks the connections and removes the socket. */
void gate_close(struct gate *gate);
SCOPED_PTR(struct gate, gate_close)
