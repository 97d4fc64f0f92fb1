/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel tells when a TCP socket enters or leaves the state LISTEN, and when a UDP socket is
 * bound by name: small BPF programs write into a ring buffer for each. Needs Linux 5.8 and no
 * lockdown that forbids BPF; needs no tracefs.
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
struct portset_entry;

struct bpf_listens {
    bool any;   /* notices since the last call */
    int change; /* how many more there are since then, in all network namespaces */
    bool came;  /* and went not yet, and no look has shown it */
    bool left;  /* one that a look may have shown, or notices were lost; until the next look */
};

/* With notices of LISTEN. Any error means: use something else. */
int bpf_open(struct bpf **ret, struct error *err);
void bpf_close(struct bpf *bpf);
/* For poll(2): readable when there are notices of LISTEN. Borrowed. */
int bpf_listens_fd(const struct bpf *bpf);
/* Takes all notices. */
struct bpf_listens bpf_read_listens(struct bpf *bpf);
/*
 * There was a look after that. @changed: it showed something else than the one before, or all that
 * was to be expected. Whoever came before and leaves has been seen then, for all we know.
 */
void bpf_listens_looked(struct bpf *bpf, bool changed);

/*
 * Notices of UDP sockets of our own network namespace too, but of ports from @first to @last (none
 * when @first is above @last). May be called again with another range; on an error there are none.
 */
int bpf_watch_binds(struct bpf *bpf, uint16_t first, uint16_t last, struct error *err);
/* The same for binds. */
int bpf_binds_fd(const struct bpf *bpf);
/* A socket that was bound; @cookie is its number for sock_diag. */
typedef void bpf_bind_fn(const struct portset_entry *entry, uint64_t cookie, void *arg);
/* Takes all notices; @ret_any says whether there were any. False: some were lost. */
bool bpf_read_binds(struct bpf *bpf, bpf_bind_fn *fn, void *arg, bool *ret_any);
