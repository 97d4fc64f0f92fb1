/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sockets of this network namespace that serve: listening TCP ones, and of UDP those that count
 * (udp.h). Kept current by notices of BPF programs and of the kernel's groups for destroyed
 * sockets; what these cannot tell on this kernel is looked for by the clock, every 50 ms to 1 s.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "loop.h"
#include "portset.h"
#include "udp.h"

struct sockets;

struct sockets_options {
    struct loop *loop;
    bool no_bpf;      /* as if the kernel had none */
    loop_fn *changed; /* the set differs from that of the last call; from the loop only */
    void *arg;
};

/* Looks once before it returns; UDP sockets come when they have settled. */
int sockets_open(const struct sockets_options *options, struct sockets **ret, struct error *err);
void sockets_close(struct sockets *sockets);
/* Borrowed; valid until the next change. Sealed. */
const struct portset *sockets_tcp(const struct sockets *sockets);
const struct portset *sockets_udp(const struct sockets *sockets);
/* UDP ports that count whatever else is known of them; at most UDP_WANTED_MAX. */
void sockets_want_udp(struct sockets *sockets, const struct udp_range *ranges, size_t count);
/* How it learns of changes: "bpf", "bpf+polling" (of UDP) or "polling". */
const char *sockets_method(const struct sockets *sockets);
