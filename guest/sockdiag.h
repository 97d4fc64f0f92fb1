/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of this network namespace that wait for whoever comes, by NETLINK_SOCK_DIAG: TCP in
 * LISTEN, UDP without a peer. The kernel is asked for these states only, and for its notices of
 * destroyed sockets.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "portset.h"

/* A socket for sockdiag_list(). */
int sockdiag_open(int *ret_fd, struct error *err);
/* Replaces @set (sealed) by the sockets of now, IPv4 and IPv6. */
int sockdiag_list(int fd, enum port_protocol protocol, struct portset *set, struct error *err);

/* A non-blocking socket that becomes readable when sockets of UDP, and TCP if @tcp, have gone. */
int sockdiag_watch_open(bool tcp, int *ret_fd, struct error *err);
/* Ports from @first to @last wake nobody from now on; none when @first is above @last. */
int sockdiag_watch_skip(int fd, uint16_t first, uint16_t last, struct error *err);

struct sockdiag_gone {
    bool tcp, udp; /* something of the sets that were asked about */
};

/* Reads all notices. Both are true when some were lost. */
struct sockdiag_gone sockdiag_watch_read(int fd, const struct portset *tcp,
                                         const struct portset *udp);

/* One datagram of a dump: adds its sockets to @set. Returns what netlink_parse() does. */
int sockdiag_parse(const void *data, size_t len, enum port_protocol protocol, struct portset *set);
/* One datagram of notices: adds to @gone what the sets have. */
void sockdiag_notice_parse(const void *data, size_t len, const struct portset *tcp,
                           const struct portset *udp, struct sockdiag_gone *gone);
