/* SPDX-License-Identifier: Apache-2.0 */
#include "sockdiag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include "base/alloc.h"
#include "loop.h"
#include "netlink.h"

#define STATE_CLOSE  7 /* of UDP: not connected */
#define STATE_LISTEN 10
#define READS_MAX    64 /* in one go */

struct listing {
    enum port_protocol protocol;
    struct portset *set;
};

static uint8_t state_of(enum port_protocol protocol)
{
    return protocol == PORT_TCP ? STATE_LISTEN : STATE_CLOSE;
}

static int take_socket(const struct netlink_message *message, struct inet_diag_msg *ret)
{
    if (message->len < sizeof(*ret)) {
        return -EBADMSG;
    }
    memcpy(ret, message->body, sizeof(*ret));
    return 0;
}

static int on_socket(const struct netlink_message *message, void *arg)
{
    const struct listing *listing = arg;
    struct inet_diag_msg msg;
    bool v6;

    if (message->type != SOCK_DIAG_BY_FAMILY) {
        return 0;
    }
    if (take_socket(message, &msg) < 0) {
        return -EBADMSG;
    }
    v6 = msg.idiag_family == AF_INET6;
    if (msg.idiag_state == state_of(listing->protocol) && !msg.id.idiag_dport &&
        (v6 || msg.idiag_family == AF_INET)) {
        portset_add(listing->set, listing->protocol, msg.id.idiag_src, v6 ? 16 : 4,
                    ntohs(msg.id.idiag_sport));
    }
    return 0;
}

int sockdiag_parse(const void *data, size_t len, enum port_protocol protocol, struct portset *set)
{
    struct listing listing = {.protocol = protocol, .set = set};

    return netlink_parse(data, len, on_socket, &listing);
}

struct notice {
    const struct portset *tcp, *udp;
    struct sockdiag_gone *gone;
};

/* A notice names no protocol but in an attribute that old kernels leave out: both are looked up. */
static int on_notice(const struct netlink_message *message, void *arg)
{
    const struct notice *notice = arg;
    struct inet_diag_msg msg;
    uint16_t port;

    if (take_socket(message, &msg) == 0 && !msg.id.idiag_dport) {
        port = ntohs(msg.id.idiag_sport);
        notice->gone->tcp = notice->gone->tcp || portset_has_port(notice->tcp, PORT_TCP, port);
        notice->gone->udp = notice->gone->udp || portset_has_port(notice->udp, PORT_UDP, port);
    }
    return 0;
}

void sockdiag_notice_parse(const void *data, size_t len, const struct portset *tcp,
                           const struct portset *udp, struct sockdiag_gone *gone)
{
    struct notice notice = {.tcp = tcp, .udp = udp, .gone = gone};

    if (netlink_parse(data, len, on_notice, &notice) < 0) {
        *gone = (struct sockdiag_gone){.tcp = true, .udp = true}; /* whatever it was: look */
    }
}

int sockdiag_open(int *ret_fd, struct error *err)
{
    int r = netlink_open(NETLINK_SOCK_DIAG, 0, ret_fd, err);

    return r < 0 ? error_wrap(err, r, "asking for sockets") : 0;
}

static uint32_t group(unsigned number)
{
    return 1u << (number - 1);
}

int sockdiag_watch_open(bool tcp, int *ret_fd, struct error *err)
{
    uint32_t groups = group(SKNLGRP_INET_UDP_DESTROY) | group(SKNLGRP_INET6_UDP_DESTROY);
    int r;

    groups |= tcp ? group(SKNLGRP_INET_TCP_DESTROY) | group(SKNLGRP_INET6_TCP_DESTROY) : 0;
    r = netlink_open(NETLINK_SOCK_DIAG, groups, ret_fd, err);
    return r < 0 ? error_wrap(err, r, "asking for closed sockets") : 0;
}

/*
 * Connections, which have a peer's port, and sockets that never had one end by the thousand: these
 * notices are dropped in the kernel too.
 */
int sockdiag_watch_skip(int fd, uint16_t first, uint16_t last, struct error *err)
{
    const uint32_t id = NLMSG_HDRLEN + offsetof(struct inet_diag_msg, id);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, id + offsetof(struct inet_diag_sockid, idiag_dport)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 5),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, id + offsetof(struct inet_diag_sockid, idiag_sport)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 1),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, last, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0) {
        return error_errno(err, errno, "filtering notices of closed sockets");
    }
    return 0;
}

struct sockdiag_gone sockdiag_watch_read(int fd, const struct portset *tcp,
                                         const struct portset *udp)
{
    char datagram[4096]; /* a notice has some 100 bytes */
    struct sockdiag_gone gone = {0};

    for (int i = 0; i < READS_MAX; i++) {
        ssize_t n = recv(fd, datagram, sizeof(datagram), 0);

        if (n < 0 && errno == ENOBUFS) {
            gone = (struct sockdiag_gone){.tcp = true, .udp = true};
        } else if (n <= 0) {
            break;
        } else {
            sockdiag_notice_parse(datagram, (size_t)n, tcp, udp, &gone);
        }
    }
    return gone;
}

static int list_family(int fd, uint8_t family, struct listing *listing)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 body;
    } request = {
        .header = {.nlmsg_len = sizeof(request),
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_seq = (uint32_t)loop_now_us()},
        .body = {.sdiag_family = family,
                 .sdiag_protocol = listing->protocol == PORT_TCP ? IPPROTO_TCP : IPPROTO_UDP,
                 .idiag_states = 1u << state_of(listing->protocol)},
    };
    int r = netlink_dump(fd, &request.header, on_socket, listing);

    return r == -ENOENT ? 0 : r; /* the kernel has no such family */
}

int sockdiag_list(int fd, enum port_protocol protocol, struct portset *set, struct error *err)
{
    struct listing listing = {.protocol = protocol, .set = set};
    int r;

    portset_clear(set);
    r = list_family(fd, AF_INET, &listing);
    r = r < 0 ? r : list_family(fd, AF_INET6, &listing);
    if (r < 0) {
        return error_errno(err, -r, "listing %s sockets", protocol == PORT_TCP ? "TCP" : "UDP");
    }
    portset_seal(set);
    return 0;
}
