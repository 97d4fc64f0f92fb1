/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Netlink from the outside in: sockets, dumps, and walks over messages and attributes that never
 * leave the bytes they were given, whatever those say. Nothing in here knows a protocol.
 */
#pragma once

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

#define NETLINK_DATAGRAM_MAX (64u << 10)

/* One message; @body is what comes behind the header and need not be aligned. */
struct netlink_message {
    uint16_t type;
    uint16_t flags;
    uint32_t seq;
    const uint8_t *body;
    size_t len;
};

/* 0, or -errno, which ends the walk. */
typedef int netlink_fn(const struct netlink_message *message, void *arg);

/*
 * Gives each message of a datagram to @fn, but those that only end a dump. 1: the dump is over. 0:
 * it goes on. -EBADMSG: malformed. Other -errno: from @fn, or what the kernel reports.
 */
int netlink_parse(const void *data, size_t len, netlink_fn *fn, void *arg);

struct netlink_attr {
    uint16_t type; /* without flags */
    const uint8_t *data;
    size_t len;
};

/* Bytes that are attributes; netlink_attr_next() takes them off the front. */
struct netlink_attrs {
    const uint8_t *data;
    size_t len;
};

/* False at the end, and at the first one that is malformed. */
bool netlink_attr_next(struct netlink_attrs *attrs, struct netlink_attr *ret);
/* The first attribute of @type. */
bool netlink_attr_find(struct netlink_attrs attrs, uint16_t type, struct netlink_attr *ret);
static inline struct netlink_attrs netlink_attr_nested(const struct netlink_attr *attr)
{
    return (struct netlink_attrs){.data = attr->data, .len = attr->len};
}
/* Numbers in network order, as netfilter has them; false when the length is another. */
bool netlink_attr_be32(const struct netlink_attr *attr, uint32_t *ret);
/* It is exactly this text, with or without its NUL. */
bool netlink_attr_is(const struct netlink_attr *attr, const char *text);

/* @groups as in sockaddr_nl; 0 gives a blocking socket for dumps, others a non-blocking one. */
int netlink_open(int protocol, uint32_t groups, int *ret_fd, struct error *err);
/*
 * Sends @request, whose header needs all but flags (a number of sequence that the last dump did not
 * have, too), and gives the answer's messages to @fn. Errors: what netlink_parse() gives; -EAGAIN
 * when the kernel does not answer within 1 s.
 */
int netlink_dump(int fd, struct nlmsghdr *request, netlink_fn *fn, void *arg);
