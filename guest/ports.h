/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ports of this machine that somebody serves, kept current: sockets, what leads on to
 * containers without one, and services of a cluster. Of a service only what no socket or container
 * serves.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "child.h"
#include "loop.h"
#include "portset.h"
#include "udp.h"

struct ports;

/* The set differs from that of the last call. */
typedef void ports_changed_fn(struct ports *ports, void *arg);

struct ports_options {
    struct loop *loop;
    struct children *children; /* for kubectl; NULL: no services of a cluster */
    bool no_bpf;               /* look for sockets by the clock, for diagnosis */
    ports_changed_fn *changed; /* from the loop only */
    void *arg;
};

/* Looks once before it returns. */
int ports_open(const struct ports_options *options, struct ports **ret, struct error *err);
void ports_close(struct ports *ports);
/* Borrowed; valid until the next change. */
const struct portset *ports_current(const struct ports *ports);
/* UDP ports that are reported even where a client's might be; at most UDP_WANTED_MAX. */
void ports_want_udp(struct ports *ports, const struct udp_range *ranges, size_t count);
/* How it learns of changes: see sockets_method(). */
const char *ports_method(const struct ports *ports);
