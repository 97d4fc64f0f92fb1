/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel tells when a TCP socket enters or leaves the state LISTEN: a small BPF program on the
 * raw tracepoint inet_sock_set_state writes into a ring buffer. Needs Linux 5.8 and no lockdown
 * that forbids BPF; needs no tracefs.
 *
 * The notice of entering comes a moment before the kernel makes the socket visible to dumps, that
 * of leaving after it is gone from them. Sockets of all network namespaces are noticed.
 */
#pragma once

#include <stddef.h>
#include "base/error.h"

struct bpf_listen;

struct bpf_listen_counts {
    size_t entered;
    size_t left;
};

/* ENOTSUP-like errors (any) mean: use something else. */
int bpf_listen_open(struct bpf_listen **ret, struct error *err);
void bpf_listen_close(struct bpf_listen *bpf);
/* For poll(2): readable when there are notices. Borrowed. */
int bpf_listen_fd(const struct bpf_listen *bpf);
/* Takes all notices. */
struct bpf_listen_counts bpf_listen_read(struct bpf_listen *bpf);
