/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services of other programs in this guest. A program registers a name by the local socket and
 * keeps that stream open; the host calls the name; the program is told an id, accepts it on a
 * connection of its own, and from then on the bytes are between the two.
 */
#pragma once

#include "incoming.h"
#include "rpc.h"

#define SERVICES_MAX 64 /* registered at a time */

struct services;

/* @incoming is borrowed. */
struct services *services_new(struct incoming *incoming);
/* Ends all registrations. */
void services_free(struct services *services);
SCOPED_PTR(struct services, services_free)

/* The service "Register", for programs of the guest. @arg of all three: the services. */
int services_register(const struct rpc_call *call, void *arg, struct error *err);
/* The service "Accept", for programs of the guest. */
int services_accept(const struct rpc_call *call, void *arg, struct error *err);
/* Calls of the host that no table names. EOPNOTSUPP: nobody has registered that either. */
int services_serve(const struct rpc_call *call, void *arg, struct error *err);
