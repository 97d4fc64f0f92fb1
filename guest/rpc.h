/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams that the host opens: reads StreamOpen and the request, and calls the handler of the
 * service in a table. See proto/guest.proto for what each service says.
 */
#pragma once

#include <stdbool.h>
#include "events.h"
#include "guest.pb.h"
#include "mux/mux.h"
#include "tunnel.h"

struct rpc;

struct rpc_options {
    struct events *events; /* borrowed, as the next */
    struct tunnels *tunnels;
    /* Fills what only the owner knows of Info: instance_id. */
    void (*info)(lima_guest_v1_Info *info, void *arg);
    /* The host wants the machine down; the answer is on its way. */
    void (*shutdown)(bool reboot, void *arg);
    void *arg;
};

struct rpc *rpc_new(const struct rpc_options *options);
/* Resets streams whose request is not complete; others belong to events and tunnels. */
void rpc_free(struct rpc *rpc);
SCOPED_PTR(struct rpc, rpc_free)
/* A stream that the host has opened; for mux_ops.opened. */
void rpc_accept(struct rpc *rpc, struct mux_stream *stream);
