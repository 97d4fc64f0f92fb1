/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service "Redirect": DNS queries of this machine and its containers are led to the host's
 * resolver, as long as the stream of the call lives. By nf_tables, or by iptables where that is
 * missing. What others flush is put back, with nf_tables. Queries to the address need no
 * redirection to be answered: without it the network's own server does.
 */
#pragma once

#include "child.h"
#include "loop.h"
#include "rpc.h"

struct redirect;

struct redirect *redirect_new(struct loop *loop, struct children *children);
/* Takes the rules away; a stream that is open is reset. Before children_free(). */
void redirect_free(struct redirect *redirect);
SCOPED_PTR(struct redirect, redirect_free)
/* @arg: the redirect. A newer call takes the place of an older one, whose stream is reset. */
int redirect_serve(const struct rpc_call *call, void *arg, struct error *err);
