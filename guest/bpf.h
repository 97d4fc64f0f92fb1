/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel tells when a TCP socket enters or leaves the state LISTEN, and when a UDP socket is
 * bound by name: small BPF programs write into one ring buffer. Needs Linux 5.8 and no lockdown
 * that forbids BPF; needs no tracefs.
 *
 * LISTEN: on the raw tracepoint inet_sock_set_state. The notice of entering comes a moment before
 * the kernel makes the socket visible to dumps, that of leaving after it is gone from them. Sockets
 * of all network namespaces are noticed.
 *
 * Binds: behind bind() for every process of the cgroup tree, which costs nothing but at a bind(). A
 * client whose port the kernel chooses when it first sends is not noticed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

struct bpf;

struct bpf_notices {
    size_t entered; /* LISTEN */
    size_t left;
    bool bound; /* UDP */
};

/* With notices of LISTEN. Any error means: use something else. */
int bpf_open(struct bpf **ret, struct error *err);
void bpf_close(struct bpf *bpf);
/*
 * Notices of UDP sockets of our own network namespace too, but of ports from @first to @last (none
 * when @first is above @last). May be called again with another range; on an error there are none.
 */
int bpf_watch_binds(struct bpf *bpf, uint16_t first, uint16_t last, struct error *err);
/* For poll(2): readable when there are notices. Borrowed. */
int bpf_fd(const struct bpf *bpf);
/* Takes all notices. */
struct bpf_notices bpf_read(struct bpf *bpf);
