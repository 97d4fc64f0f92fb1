/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sock_diag tells everybody of each TCP and UDP socket that is destroyed in the network namespace
 * (no right is needed for that), rtnetlink of addresses that come.
 */
#include "forward/release.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>
#include "base/alloc.h"
#include "base/log.h"

#define GROUP(n) (1u << ((n)-1))
#define ALL_SOCKETS                                                                                \
    (GROUP(SKNLGRP_INET_TCP_DESTROY) | GROUP(SKNLGRP_INET_UDP_DESTROY) |                           \
     GROUP(SKNLGRP_INET6_TCP_DESTROY) | GROUP(SKNLGRP_INET6_UDP_DESTROY))
#define READ_SIZE  16384
#define READ_TURNS 64

struct source {
    struct forward_release *release;
    int fd;
    struct loop_io *io;
};

struct forward_release {
    forward_release_fn fn;
    void *arg;
    struct source sockets, addresses;
    bool *gone; /* set when a callback frees us */
};

/*
 * True when something may be free now: *ret_port, or 0 for anything. A socket that had no port
 * frees nothing; ours that could not be bound are such, and would have us try again for ever.
 */
static bool frees(const struct nlmsghdr *header, uint16_t *ret_port)
{
    const struct inet_diag_msg *m = NLMSG_DATA(header);

    *ret_port = 0;
    if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || header->nlmsg_len < NLMSG_LENGTH(sizeof(*m))) {
        return true;
    }
    *ret_port = ntohs(m->id.idiag_sport);
    return *ret_port != 0;
}

/* False when a callback has freed everything. */
static bool tell(struct forward_release *release, uint16_t port)
{
    bool gone = false;

    release->gone = &gone;
    release->fn(port, release->arg);
    if (!gone) {
        release->gone = NULL;
    }
    return !gone;
}

static bool tell_all(struct forward_release *release, const void *data, size_t len)
{
    const struct nlmsghdr *header = data;

    for (; NLMSG_OK(header, len); header = NLMSG_NEXT(header, len)) {
        uint16_t port;

        if (frees(header, &port) && !tell(release, port)) {
            return false;
        }
    }
    return true;
}

static void on_source_readable(evutil_socket_t fd, short what, void *arg)
{
    struct source *source = arg;
    struct forward_release *release = source->release;
    _Alignas(struct nlmsghdr) char data[READ_SIZE];

    for (int i = 0; i < READ_TURNS; i++) {
        ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

        if (n < 0 && errno == ENOBUFS) { /* more has happened than was kept for us */
            if (!tell(release, 0)) {
                return;
            }
        } else if (n <= 0 || !tell_all(release, data, (size_t)n)) {
            return;
        }
    }
}

static void source_open(struct source *source, struct forward_release *release, struct loop *loop,
                        int protocol, unsigned groups)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};

    source->release = release;
    source->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (source->fd < 0 || bind(source->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        log_debug("no notices of netlink %d: %s", protocol, strerror(errno));
        fd_close(steal_fd(&source->fd));
        return;
    }
    source->io = loop_io_new(loop, source->fd, EV_READ, on_source_readable, source);
}

static void source_close(struct source *source)
{
    loop_io_free(source->io);
    fd_close(source->fd);
}

struct forward_release *forward_release_new(struct loop *loop, forward_release_fn fn, void *arg)
{
    struct forward_release *release = xnew(struct forward_release);

    release->fn = fn;
    release->arg = arg;
    source_open(&release->sockets, release, loop, NETLINK_SOCK_DIAG, ALL_SOCKETS);
    source_open(&release->addresses, release, loop, NETLINK_ROUTE,
                RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);
    if (release->sockets.fd < 0 && release->addresses.fd < 0) {
        forward_release_free(steal(release));
    }
    return release;
}

void forward_release_free(struct forward_release *release)
{
    if (!release) {
        return;
    }
    if (release->gone) {
        *release->gone = true;
    }
    source_close(&release->sockets);
    source_close(&release->addresses);
    free(release);
}
