/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that carry one stream each (mux/direct.h): of programs in this guest by a Unix
 * socket, of the host by vsock. Each is a call as any other.
 */
#pragma once

#include "loop.h"
#include "mux/direct.h"
#include "rpc.h"

#define LINKS_MAX 1024 /* further ones are closed at once */

struct links;

/* All borrowed. */
struct links *links_new(struct loop *loop, struct rpc *rpc);
/* Breaks all connections. Before the owners of their streams go. */
void links_free(struct links *links);
SCOPED_PTR(struct links, links_free)
/* A connection that was accepted; non-blocking. */
void links_add(struct links *links, int take_fd, enum direct_form form, enum rpc_from from);
/*
 * Writes what the streams have gathered; to be called before the loop waits. False: there was
 * nothing to do, and so nothing new can have come of it.
 */
bool links_flush(struct links *links);
size_t links_count(const struct links *links);
