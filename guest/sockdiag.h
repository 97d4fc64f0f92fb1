/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening TCP sockets of this network namespace by NETLINK_SOCK_DIAG: dumps of state LISTEN only,
 * and the kernel's notices of destroyed sockets.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "portset.h"

struct sockdiag_reply {
    bool done; /* the dump is over */
    int code;  /* errno that the kernel reported; 0: none */
};

/* A socket for sockdiag_listeners(). */
int sockdiag_open(int *ret_fd, struct error *err);
/* Replaces @set (sealed) by the listeners of now, IPv4 and IPv6. */
int sockdiag_listeners(int fd, struct portset *set, struct error *err);

/* A non-blocking socket that becomes readable when TCP sockets are destroyed. */
int sockdiag_watch_open(int *ret_fd, struct error *err);
/* Reads all notices. True when one names a port that is in @set, or some were lost. */
bool sockdiag_watch_read(int fd, const struct portset *set);

/* One datagram of a dump: adds its sockets to @set. -EBADMSG when it is malformed. */
int sockdiag_parse(const void *data, size_t len, struct portset *set, struct sockdiag_reply *ret);
/* One datagram of notices: true when it names a port of @set. */
bool sockdiag_notice_matches(const void *data, size_t len, const struct portset *set);
