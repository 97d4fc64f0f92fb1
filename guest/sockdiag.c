/* SPDX-License-Identifier: Apache-2.0 */
#include "sockdiag.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "base/alloc.h"

#define STATE_LISTEN   10
#define DATAGRAM_MAX   (32u << 10)
#define DUMP_TIMEOUT_S 1

/* linux/netlink.h's macros compare signed with unsigned; these walk the same layout. */
static const struct nlmsghdr *message_at(const void *data, size_t len, size_t at)
{
    const struct nlmsghdr *header = (const void *)((const char *)data + at);

    if (len - at < sizeof(*header) || header->nlmsg_len < sizeof(*header) ||
        header->nlmsg_len > len - at) {
        return NULL;
    }
    return header;
}

static size_t next_offset(const struct nlmsghdr *header, size_t len, size_t at)
{
    return MIN(len, at + NLMSG_ALIGN(header->nlmsg_len));
}

static const struct inet_diag_msg *diag_of(const struct nlmsghdr *header)
{
    return header->nlmsg_len < NLMSG_HDRLEN + sizeof(struct inet_diag_msg)
               ? NULL
               : (const void *)((const char *)header + NLMSG_HDRLEN);
}

static int error_code(const struct nlmsghdr *header)
{
    const struct nlmsgerr *body = (const void *)((const char *)header + NLMSG_HDRLEN);

    return header->nlmsg_len < NLMSG_HDRLEN + sizeof(int) ? EBADMSG : -body->error;
}

static void add_socket(const struct inet_diag_msg *msg, struct portset *set)
{
    bool v6 = msg->idiag_family == AF_INET6;

    if (msg->idiag_state == STATE_LISTEN && (v6 || msg->idiag_family == AF_INET)) {
        portset_add(set, msg->id.idiag_src, v6 ? 16 : 4, ntohs(msg->id.idiag_sport));
    }
}

int sockdiag_parse(const void *data, size_t len, struct portset *set, struct sockdiag_reply *ret)
{
    *ret = (struct sockdiag_reply){0};
    for (size_t at = 0; at < len && !ret->done;) {
        const struct nlmsghdr *header = message_at(data, len, at);
        const struct inet_diag_msg *msg;

        if (!header) {
            return -EBADMSG;
        }
        if (header->nlmsg_type == NLMSG_DONE) {
            ret->done = true;
        } else if (header->nlmsg_type == NLMSG_ERROR) {
            ret->done = true;
            ret->code = error_code(header);
        } else if (header->nlmsg_type == SOCK_DIAG_BY_FAMILY) {
            msg = diag_of(header);
            if (!msg) {
                return -EBADMSG;
            }
            add_socket(msg, set);
        }
        at = next_offset(header, len, at);
    }
    return 0;
}

bool sockdiag_notice_matches(const void *data, size_t len, const struct portset *set)
{
    for (size_t at = 0; at < len;) {
        const struct nlmsghdr *header = message_at(data, len, at);
        const struct inet_diag_msg *msg = header ? diag_of(header) : NULL;

        if (!header) {
            return false;
        }
        if (msg && portset_has_port(set, ntohs(msg->id.idiag_sport))) {
            return true;
        }
        at = next_offset(header, len, at);
    }
    return false;
}

static int open_socket(int flags, unsigned groups, int *ret_fd, struct error *err)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = groups};
    scoped(fd_close) int fd =
        socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | flags, NETLINK_SOCK_DIAG);

    if (fd < 0) {
        return error_errno(err, errno, "opening a socket diagnosis socket");
    }
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return error_errno(err, errno, "binding a socket diagnosis socket");
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

int sockdiag_open(int *ret_fd, struct error *err)
{
    /* The kernel fills the answer while it takes the request; the timeout is a net below that. */
    struct timeval timeout = {.tv_sec = DUMP_TIMEOUT_S};
    int r = open_socket(0, 0, ret_fd, err);

    if (r == 0) {
        setsockopt(*ret_fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    }
    return r;
}

int sockdiag_watch_open(int *ret_fd, struct error *err)
{
    return open_socket(SOCK_NONBLOCK,
                       1u << (SKNLGRP_INET_TCP_DESTROY - 1) | 1u << (SKNLGRP_INET6_TCP_DESTROY - 1),
                       ret_fd, err);
}

bool sockdiag_watch_read(int fd, const struct portset *set)
{
    _Alignas(struct nlmsghdr) static char datagram[DATAGRAM_MAX];
    bool found = false;
    ssize_t n;

    while ((n = recv(fd, datagram, sizeof(datagram), 0)) > 0 || (n < 0 && errno == ENOBUFS)) {
        found = found || n < 0 || sockdiag_notice_matches(datagram, (size_t)n, set);
    }
    return found;
}

static int request_dump(int fd, uint8_t family, struct error *err)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 body;
    } request = {
        .header = {.nlmsg_len = sizeof(request),
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .body = {.sdiag_family = family,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_states = 1u << STATE_LISTEN},
    };

    if (send(fd, &request, sizeof(request), 0) != (ssize_t)sizeof(request)) {
        return error_errno(err, errno, "asking for listening sockets");
    }
    return 0;
}

static int read_dump(int fd, struct portset *set, struct error *err)
{
    _Alignas(struct nlmsghdr) static char datagram[DATAGRAM_MAX];
    struct sockdiag_reply reply = {0};

    while (!reply.done) {
        ssize_t n = recv(fd, datagram, sizeof(datagram), 0);
        int r;

        if (n <= 0) {
            return error_errno(err, n < 0 ? errno : EIO, "reading listening sockets");
        }
        r = sockdiag_parse(datagram, (size_t)n, set, &reply);
        if (r < 0) {
            return error_set(err, -r, "malformed answer about listening sockets");
        }
    }
    /* ENOENT: the kernel has no such family. */
    if (reply.code && reply.code != ENOENT) {
        return error_errno(err, reply.code, "listing listening sockets");
    }
    return 0;
}

int sockdiag_listeners(int fd, struct portset *set, struct error *err)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};

    portset_clear(set);
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        int r = request_dump(fd, families[i], err);

        r = r < 0 ? r : read_dump(fd, set, err);
        if (r < 0) {
            return r;
        }
    }
    portset_seal(set);
    return 0;
}
