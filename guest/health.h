/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How this machine does: load, memory, disk, processes, and what this agent takes itself.
 */
#pragma once

#include "base/error.h"
#include "guest.pb.h"
#include "rpc.h"

struct health_options {
    const char *port_method;      /* as ports_method() says; constant */
    size_t (*streams)(void *arg); /* how many are open */
    void *arg;
};

/* What cannot be read stays 0. */
void health_fill(lima_guest_v1_Health *health, const struct health_options *options);
/* The service "Health". @arg: the struct health_options. */
int health_serve(const struct rpc_call *call, void *arg, struct error *err);

/* Texts of /proc/meminfo and /proc/loadavg; lines that are missing or malformed leave 0. */
void health_read_memory(const char *text, lima_guest_v1_Health *health);
void health_read_load(const char *text, lima_guest_v1_Health *health);
