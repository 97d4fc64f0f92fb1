/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A UDP port of the host. Each address that sends to it is a client and gets a tunnel of its own,
 * so that answers find back; a client that is quiet for the idle time, in both directions, is
 * forgotten, and so is the one that was quiet longest when there are too many.
 *
 * Datagrams that come before the guest has been dialled, or find no room in the stream, wait: of
 * one client as many as HELD_MAX has bytes, of all no more than HELD_TOTAL. What comes on top is
 * dropped, so a guest that does not take its datagrams costs that much and holds nobody up.
 *
 * On a socket of all addresses the answers leave from the address that the client has sent to.
 */
#include "forward/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "forward/bind.h"
#include "mux/delimited.h"

#define CLIENTS_MAX   1024
#define BUCKETS       256 /* a power of two */
#define IDLE_MS       90000
#define HELD_MAX      (256u << 10)
#define HELD_TOTAL    (4u << 20)
#define PREFIX_LEN    3   /* of the longest datagram */
#define READS         128 /* before other events of the loop get their turn */
#define SOCKET_BUFFER (1 << 20)

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Ancillary data with our address, as it came and as it goes back. */
union origin {
    struct cmsghdr header; /* for alignment */
    uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

struct client {
    struct forward_udp *forward;
    struct client *hash_next;
    struct client *newer, *older; /* by last use */
    int64_t used_ms;
    union address address;
    union origin origin;
    size_t origin_len; /* 0: the socket has one address */
    struct dialing *dialing;
    struct mux_stream *stream; /* once dialled */
    struct delimited in;       /* from the guest */
    struct buf held;           /* for the guest, with prefixes */
};

struct forward_udp {
    struct forward_listener base; /* first */
    const struct forward_env *env;
    struct forward_endpoint guest; /* a copy */
    int fd;
    struct loop_io *io;
    struct loop_timer *idle; /* for the client that was quiet longest */
    int64_t idle_ms;
    socklen_t address_len;
    struct client *buckets[BUCKETS];
    struct client *newest, *oldest;
    size_t count;
    size_t held; /* bytes, of all clients */
    uint8_t packet[PREFIX_LEN + PEER_DATAGRAM_MAX];
};

static struct forward_udp *forward_of(const struct forward_listener *listener)
{
    return container_of(listener, struct forward_udp, base);
}

/* ---- clients ---- */

static struct client **bucket_of(struct forward_udp *forward, const union address *address)
{
    const uint8_t *bytes = (const uint8_t *)address;
    uint32_t hash = 2166136261u;

    for (socklen_t i = 0; i < forward->address_len; i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    return &forward->buckets[hash & (BUCKETS - 1)];
}

static struct client *find_client(struct forward_udp *forward, const union address *address)
{
    for (struct client *c = *bucket_of(forward, address); c; c = c->hash_next) {
        if (memcmp(&c->address, address, forward->address_len) == 0) {
            return c;
        }
    }
    return NULL;
}

static void unlink_use(struct client *c)
{
    struct forward_udp *forward = c->forward;

    *(c->newer ? &c->newer->older : &forward->newest) = c->older;
    *(c->older ? &c->older->newer : &forward->oldest) = c->newer;
}

static void link_newest(struct client *c)
{
    struct forward_udp *forward = c->forward;

    c->newer = NULL;
    c->older = forward->newest;
    *(c->older ? &c->older->newer : &forward->oldest) = c;
    forward->newest = c;
    c->used_ms = loop_now_ms();
}

static void touch(struct client *c)
{
    unlink_use(c);
    link_newest(c);
}

static void client_free(struct client *c)
{
    struct client **slot = bucket_of(c->forward, &c->address);

    while (*slot != c) {
        slot = &(*slot)->hash_next;
    }
    *slot = c->hash_next;
    unlink_use(c);
    c->forward->count--;
    dialer_cancel(c->forward->env->dialer, c->dialing);
    if (c->stream) {
        mux_stream_reset(c->stream, MUX_RESET_CANCEL);
    }
    delimited_done(&c->in);
    c->forward->held -= c->held.len;
    buf_done(&c->held);
    free(c);
}

static void forget_all(struct forward_udp *forward)
{
    while (forward->newest) {
        client_free(forward->newest);
    }
}

static void on_idle_due(void *arg)
{
    struct forward_udp *forward = arg;
    int64_t now = loop_now_ms();

    while (forward->oldest && forward->oldest->used_ms + forward->idle_ms <= now) {
        client_free(forward->oldest);
    }
    if (forward->oldest) {
        loop_timer_set(forward->idle, forward->oldest->used_ms + forward->idle_ms - now);
    }
}

/* ---- guest to host ---- */

static void send_to_client(struct client *c, const uint8_t *data, size_t len)
{
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr message = {.msg_name = &c->address,
                             .msg_namelen = c->forward->address_len,
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = c->origin_len ? &c->origin : NULL,
                             .msg_controllen = c->origin_len};

    if (sendmsg(c->forward->fd, &message, 0) < 0 && errno != EAGAIN) {
        log_debug("answering a UDP client of the host: %s", strerror(errno));
    }
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct client *c = arg;
    const uint8_t *p = data, *message = NULL;
    size_t used, message_len = 0;

    while (len > 0) {
        int r = delimited_next(&c->in, p, len, &used, &message, &message_len);

        if (r < 0) { /* no datagram */
            client_free(c);
            return;
        }
        mux_stream_consumed(stream, used);
        p += used;
        len -= used;
        if (r == 1) {
            send_to_client(c, message, message_len);
            touch(c);
        }
    }
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    client_free(arg);
}

static void flush_held(struct client *c)
{
    size_t n = mux_stream_write(c->stream, c->held.data, c->held.len);

    buf_drop(&c->held, n);
    c->forward->held -= n;
    if (c->held.len == 0) {
        buf_done(&c->held);
    }
}

static void on_stream_writable(struct mux_stream *stream, void *arg)
{
    struct client *c = arg;

    if (c->held.len > 0) {
        flush_held(c);
    }
}

/* Also when nobody listens in the guest: the next datagram dials anew. */
static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct client *c = arg;

    c->stream = NULL;
    client_free(c);
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

/* ---- host to guest ---- */

static void on_dialling_done(int r, struct mux_stream *stream, void *arg)
{
    struct client *c = arg;

    c->dialing = NULL;
    if (r < 0) {
        log_debug("guest port %u: %s", c->forward->guest.port, strerror(-r));
        client_free(c);
        return;
    }
    c->stream = stream;
    mux_stream_set_ops(stream, &stream_ops, c);
    flush_held(c);
}

static void hold(struct client *c, const uint8_t *data, size_t len)
{
    if (buf_put(&c->held, data, len) == 0) {
        c->forward->held += len;
    }
}

static void hand_on(struct client *c, const uint8_t *data, size_t len)
{
    size_t n = 0;

    touch(c);
    if (c->stream && c->held.len == 0) {
        n = mux_stream_write(c->stream, data, len);
    }
    /* The rest of one that was begun must follow; a whole one may as well be dropped. */
    if (n < len && (n > 0 || c->forward->held + len <= HELD_TOTAL)) {
        hold(c, data + n, len - n);
    }
}

static struct client *client_new(struct forward_udp *forward, const union address *address)
{
    struct client *c = xnew(struct client), **slot = bucket_of(forward, address);
    struct peer_address to = {.network = PEER_NETWORK_UDP,
                              .address = forward_address_dialled(&forward->guest.address),
                              .port = forward->guest.port,
                              .named = forward->guest.named};

    *c = (struct client){.forward = forward,
                         .hash_next = *slot,
                         .address = *address,
                         .in = DELIMITED_INIT(PEER_DATAGRAM_MAX),
                         .held = BUF_INIT_CAP(HELD_MAX)};
    *slot = c;
    link_newest(c);
    forward->count++;
    c->dialing = dialer_open(forward->env->dialer, &to, on_dialling_done, c);
    if (!c->dialing) { /* no session: nothing can be reached now */
        client_free(c);
        return NULL;
    }
    return c;
}

static void take_packet(struct forward_udp *forward, const union address *address, size_t len,
                        const struct msghdr *message)
{
    struct client *c = find_client(forward, address);
    uint8_t prefix[DELIMITED_PREFIX_MAX];
    size_t prefix_len = delimited_prefix(prefix, len);
    uint8_t *begin = forward->packet + PREFIX_LEN - prefix_len;

    if (!c && forward->count >= CLIENTS_MAX) {
        client_free(forward->oldest);
    }
    c = c ? c : client_new(forward, address);
    if (!c) {
        return;
    }
    c->origin_len = MIN(message->msg_controllen, sizeof(c->origin));
    memcpy(&c->origin, message->msg_control, c->origin_len);
    memcpy(begin, prefix, prefix_len);
    hand_on(c, begin, prefix_len + len);
}

/* False when none is there. */
static bool read_packet(struct forward_udp *forward)
{
    union address address = {0};
    union origin origin;
    struct iovec iov = {.iov_base = forward->packet + PREFIX_LEN, .iov_len = PEER_DATAGRAM_MAX};
    struct msghdr message = {.msg_name = &address,
                             .msg_namelen = sizeof(address),
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &origin,
                             .msg_controllen = sizeof(origin)};
    ssize_t n = recvmsg(forward->fd, &message, 0);

    if (n < 0) {
        return errno != EAGAIN; /* an error of an earlier answer is told but once */
    }
    take_packet(forward, &address, (size_t)n, &message);
    return true;
}

static void on_forward_readable(evutil_socket_t fd, short what, void *arg)
{
    struct forward_udp *forward = arg;

    for (int i = 0; i < READS && read_packet(forward); i++) {
    }
    if (forward->oldest && !loop_timer_pending(forward->idle)) {
        on_idle_due(forward);
    }
}

/* ---- listener ---- */

static int udp_open(const struct forward_env *env, const struct forward_endpoint *host,
                    const struct forward_endpoint *guest, struct forward_listener **ret,
                    struct error *err)
{
    bool v4 = host->address.family == AF_INET;
    struct forward_udp *forward;
    int fd, on = 1, size = SOCKET_BUFFER;
    uint16_t port = 0;
    int r = forward_bind(host, SOCK_DGRAM, &fd, &port, err);

    if (r < 0) {
        return r;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (forward_address_is_any(&host->address)) {
        setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, &on,
                   sizeof(on));
    }
    forward = xnew(struct forward_udp);
    forward->base = (struct forward_listener){.ops = &forward_udp_ops, .port = port};
    forward->env = env;
    forward->guest = forward_endpoint_copy(guest);
    forward->fd = fd;
    forward->address_len = v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    forward->idle_ms = env->udp_idle_ms ? env->udp_idle_ms : IDLE_MS;
    forward->idle = loop_timer_new(env->loop, on_idle_due, forward);
    forward->io = loop_io_new(env->loop, fd, EV_READ, on_forward_readable, forward);
    *ret = &forward->base;
    return 0;
}

/* Clients stay with what they have until that ends them. */
static void udp_retarget(struct forward_listener *listener, const struct forward_endpoint *guest)
{
    struct forward_udp *forward = forward_of(listener);

    forward_endpoint_done(&forward->guest);
    forward->guest = forward_endpoint_copy(guest);
}

/* Clients need the socket, and the port is to be free: they go with it. */
static void udp_stop(struct forward_listener *listener)
{
    struct forward_udp *forward = forward_of(listener);

    forget_all(forward);
    loop_timer_set(forward->idle, -1);
    loop_io_free(steal(forward->io));
    fd_close(steal_fd(&forward->fd));
}

static void udp_close(struct forward_listener *listener)
{
    struct forward_udp *forward = forward_of(listener);

    udp_stop(listener);
    loop_timer_free(forward->idle);
    forward_endpoint_done(&forward->guest);
    free(forward);
}

static size_t udp_connections(const struct forward_listener *listener)
{
    return forward_of(listener)->count;
}

const struct forward_listener_ops forward_udp_ops = {
    .open = udp_open,
    .retarget = udp_retarget,
    .stop = udp_stop,
    .close = udp_close,
    .connections = udp_connections,
};
