/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One host listener (TCP address or Unix socket) whose connections are carried through tunnels to
 * one guest address. The guest is dialled when a connection comes; if it refuses, the host's
 * connection is reset. Half-close goes through in each direction by itself; what is buffered per
 * connection is bounded by the stream's window.
 */
#pragma once

#include "base/error.h"
#include "base/macros.h"
#include "forward/rule.h"
#include "peer/dialer.h"
#include "util/loop.h"

struct forward_tcp;

/*
 * Listens. @dialer must outlive the forward.
 * Errors: EADDRINUSE (host port taken), EACCES (port below 1024), EADDRNOTAVAIL.
 */
int forward_tcp_open(struct loop *loop, struct dialer *dialer, const struct forward_target *host,
                     const struct forward_endpoint *guest, struct forward_tcp **ret,
                     struct error *err);
/* Where new connections go from now on; established ones stay. */
void forward_tcp_retarget(struct forward_tcp *forward, const struct forward_endpoint *guest);
/* Stops listening; connections go on to their own end. Only close and connections are legal then.
 */
void forward_tcp_stop(struct forward_tcp *forward);
/* Stops listening and resets the connections. */
void forward_tcp_close(struct forward_tcp *forward);
SCOPED_PTR(struct forward_tcp, forward_tcp_close)
/* Present connections. */
size_t forward_tcp_connections(const struct forward_tcp *forward);
