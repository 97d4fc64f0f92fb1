/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service "Listen": listeners in the guest whose connections lead to the host. Each lives as
 * long as the stream that asked for it, and takes its socket file along. Whoever connects waits, as
 * incoming.h says, until the host accepts; meanwhile nothing is read from the connection.
 *
 * A Unix socket is made, and an old one removed, with the rights of the user that the request
 * names: the folder must be there and be that user's to write in, and no link of a user leads root
 * anywhere. An old file in the way is removed if it is a socket that nobody listens on.
 */
#pragma once

#include "incoming.h"
#include "loop.h"
#include "rpc.h"

struct listeners;

/* @incoming is borrowed. */
struct listeners *listeners_new(struct loop *loop, struct incoming *incoming);
/* Closes and resets all. */
void listeners_free(struct listeners *listeners);
SCOPED_PTR(struct listeners, listeners_free)

/* @arg: the listeners. */
int listeners_serve(const struct rpc_call *call, void *arg, struct error *err);
