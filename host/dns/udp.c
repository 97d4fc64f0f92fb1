/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/udp.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "dns/message.h"

#define BATCH        64
#define ROUNDS_MAX   8         /* batches before others on the loop have their turn */
#define SOCKET_BYTES (4 << 20) /* asked for; the kernel gives what its limit allows */
#define QUERY_MAX    DNS_UDP_MAX

struct dns_udp {
    const struct dns_udp_events *events;
    void *arg;
    int fd;
    uint16_t port;
    struct loop_io *io;
    struct buf out; /* answers of a batch, one behind the other */
    struct mmsghdr in_messages[BATCH], out_messages[BATCH];
    struct iovec in_pieces[BATCH], out_pieces[BATCH];
    struct sockaddr_in peers[BATCH];
    uint8_t queries[BATCH][QUERY_MAX];
};

int dns_bind_loopback(int type, int *ret_fd, uint16_t *ret_port, struct error *err)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    scoped(fd_close) int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        return error_errno(err, errno, "opening a port of 127.0.0.1 for DNS");
    }
    *ret_port = ntohs(addr.sin_port);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int receive(struct dns_udp *udp)
{
    for (size_t i = 0; i < BATCH; i++) {
        udp->in_pieces[i] = (struct iovec){udp->queries[i], QUERY_MAX};
        udp->in_messages[i].msg_hdr = (struct msghdr){.msg_name = &udp->peers[i],
                                                      .msg_namelen = sizeof(udp->peers[i]),
                                                      .msg_iov = &udp->in_pieces[i],
                                                      .msg_iovlen = 1};
    }
    return recvmmsg(udp->fd, udp->in_messages, BATCH, MSG_DONTWAIT, NULL);
}

/* Answers lie in udp->out, whose place in memory is known only when all are there. */
static void transmit(struct dns_udp *udp, unsigned count)
{
    char *at = udp->out.data;
    unsigned sent = 0;

    for (unsigned i = 0; i < count; i++) {
        udp->out_pieces[i].iov_base = at;
        at += udp->out_pieces[i].iov_len;
    }
    while (sent < count) {
        int n = sendmmsg(udp->fd, udp->out_messages + sent, count - sent, MSG_DONTWAIT);

        if (n < 0) {
            log_debug("an answer could not be sent: %s, ignoring", strerror(errno));
        }
        sent += n > 0 ? (unsigned)n : 1;
    }
}

static void serve(struct dns_udp *udp, int received)
{
    unsigned count = 0;

    udp->events->batch(udp->arg);
    for (int i = 0; i < received; i++) {
        size_t before = udp->out.len;

        if (udp->in_messages[i].msg_hdr.msg_flags & MSG_TRUNC) {
            dns_refuse(udp->queries[i], LDNS_RCODE_FORMERR, &udp->out);
        } else {
            udp->events->query(&udp->peers[i], udp->queries[i], udp->in_messages[i].msg_len,
                               &udp->out, udp->arg);
        }
        if (udp->out.len > before) {
            udp->out_pieces[count].iov_len = udp->out.len - before;
            udp->out_messages[count].msg_hdr = (struct msghdr){.msg_name = &udp->peers[i],
                                                               .msg_namelen = sizeof(udp->peers[i]),
                                                               .msg_iov = &udp->out_pieces[count],
                                                               .msg_iovlen = 1};
            count++;
        }
    }
    transmit(udp, count);
    buf_truncate(&udp->out, 0);
}

static void on_udp_readable(evutil_socket_t fd, short what, void *arg)
{
    struct dns_udp *udp = arg;
    int received = BATCH;

    for (int round = 0; round < ROUNDS_MAX && received == BATCH; round++) {
        received = receive(udp);
        if (received > 0) {
            serve(udp, received);
        }
    }
}

int dns_udp_new(struct loop *loop, const struct dns_udp_events *events, void *arg,
                struct dns_udp **ret, struct error *err)
{
    scoped(dns_udp_free) struct dns_udp *udp = xnew(struct dns_udp);
    int bytes = SOCKET_BYTES;
    int r;

    udp->events = events;
    udp->arg = arg;
    udp->fd = -1;
    r = dns_bind_loopback(SOCK_DGRAM, &udp->fd, &udp->port, err);
    if (r < 0) {
        return r;
    }
    setsockopt(udp->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    setsockopt(udp->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    udp->io = loop_io_new(loop, udp->fd, EV_READ, on_udp_readable, udp);
    *ret = steal(udp);
    return 0;
}

void dns_udp_free(struct dns_udp *udp)
{
    if (udp) {
        loop_io_free(udp->io);
        fd_close(udp->fd);
        buf_done(&udp->out);
        free(udp);
    }
}

uint16_t dns_udp_port(const struct dns_udp *udp)
{
    return udp->port;
}

void dns_udp_answer(struct dns_udp *udp, const struct sockaddr_in *peer, const void *data,
                    size_t len)
{
    if (sendto(udp->fd, data, len, MSG_DONTWAIT, (const struct sockaddr *)peer, sizeof(*peer)) <
        0) {
        log_debug("an answer could not be sent: %s, ignoring", strerror(errno));
    }
}
