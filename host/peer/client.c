/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's first call is Info, whose answer opens Events; both live as long as the session. A
 * guest that breaks the rules there loses the transport, as if it had closed it: who owns the peer
 * decides when to try again. In a tunnel it loses the tunnel.
 *
 * Output is written in one go, behind all events of the loop's round, so that what many streams
 * have queued leaves in few system calls.
 */
#include "peer/client.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "peer/call.h"
#include "peer/wire.h"
#include "util/strv.h"
#include "util/version.h"

#define READ_SIZE  (128u << 10)
#define READ_TURNS 4 /* reads before other events of the loop get their turn */

struct peer {
    struct loop *loop;
    const struct peer_events *events;
    void *arg;
    struct mux *mux;
    struct ways *ways;
    int fd; /* -1: detached */
    struct loop_io *io;
    struct event *flush; /* made active when there is output */
    uint8_t *in;
    bool blocked;            /* the transport takes no more for now */
    bool failed;             /* the transport is to be closed when the mux is off the stack */
    bool known;              /* Info has come: disconnected() is owed */
    struct strv features;    /* of the guest that is known */
    struct call *event_call; /* NULL: none */
    struct peer_range udp_wanted[PEER_WANTED_MAX];
    size_t udp_wanted_count;
    struct peer_ping *pings;
    uint64_t last_ping;
};

struct peer_ping {
    struct peer *peer;
    struct peer_ping *next;
    uint64_t number; /* in the PING */
    struct loop_timer *timer;
    peer_ping_fn done;
    void *arg;
};

/* ---- transport ---- */

static void transport_close(struct peer *peer)
{
    if (peer->fd < 0) {
        return;
    }
    event_del(peer->flush);
    loop_io_free(peer->io);
    peer->io = NULL;
    fd_close(steal_fd(&peer->fd));
    peer->blocked = false;
    peer->failed = false;
    mux_stop(peer->mux);
}

/* It ended by itself or must be ended. Not from a callback of the mux: see peer->failed. */
static void transport_lost(struct peer *peer)
{
    transport_close(peer);
    peer->events->closed(peer->arg);
}

static void transport_want(struct peer *peer)
{
    loop_io_want(peer->io, (short)(EV_READ | (peer->blocked ? EV_WRITE : 0)));
}

/* 0, or -errno when the transport is broken. */
static int transport_write(struct peer *peer)
{
    const void *data;
    size_t len;

    while ((len = mux_output(peer->mux, &data)) > 0) {
        ssize_t n = send(peer->fd, data, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            peer->blocked = true;
            break;
        }
        if (n < 0) {
            return -errno;
        }
        mux_output_done(peer->mux, (size_t)n);
        if (peer->fd < 0 || peer->failed) { /* by a callback */
            break;
        }
    }
    return 0;
}

static void flush_output(struct peer *peer)
{
    int r = transport_write(peer);

    if (peer->fd < 0) {
        return;
    }
    if (r < 0) {
        log_debug("guest agent's port: %s", strerror(-r));
    }
    if (r < 0 || peer->failed) {
        transport_lost(peer);
        return;
    }
    transport_want(peer);
}

/* 1: more may be there, 0: none for now, -errno: broken, -EPIPE: end-of-file. */
static int transport_read(struct peer *peer)
{
    ssize_t n = recv(peer->fd, peer->in, READ_SIZE, 0);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        return -EPIPE;
    }
    if (mux_input(peer->mux, peer->in, (size_t)n) > 0) {
        log_debug("guest agent's port: what came made no sense, session dropped");
    }
    return n == READ_SIZE;
}

static void read_input(struct peer *peer)
{
    int r = 1;

    for (int i = 0; i < READ_TURNS && r > 0; i++) {
        r = transport_read(peer);
        if (peer->fd < 0) { /* closed by a callback */
            return;
        }
        if (peer->failed) {
            r = -EPROTO;
        }
    }
    if (r < 0) {
        log_debug("guest agent's port: %s", r == -EPIPE ? "end of file" : strerror(-r));
        transport_lost(peer);
    }
}

static void on_transport_ready(evutil_socket_t fd, short what, void *arg)
{
    struct peer *peer = arg;

    if (what & EV_WRITE) {
        peer->blocked = false;
        event_active(peer->flush, EV_TIMEOUT, 0);
    }
    if (what & EV_READ) {
        read_input(peer); /* may have called closed(), whose callee may not free but may attach */
    }
}

static void on_flush_due(evutil_socket_t fd, short what, void *arg)
{
    struct peer *peer = arg;

    if (peer->fd >= 0 && !peer->blocked) {
        flush_output(peer);
    }
}

struct mux_stream *peer_stream_open(struct peer *peer, const struct mux_stream_ops *ops, void *arg)
{
    return mux_open(peer->mux, ops, arg);
}

struct ways *peer_ways(const struct peer *peer)
{
    return peer->ways;
}

/* ---- Events ---- */

static int on_events_message(struct call *call, const uint8_t *data, size_t len)
{
    return wire_event_decode(data, len, call->peer->events, call->peer->arg);
}

static void on_events_ended(struct call *call, int r, const char *text)
{
    struct peer *peer = call->peer;

    peer->event_call = NULL;
    call_free(call);
    if (r != -ENOTCONN) {
        log_debug("guest agent: event stream ended: %s", strerror(-r));
        peer->failed = true;
    }
}

static const struct call_ops events_ops = {
    .message = on_events_message,
    .ended = on_events_ended,
};

static void events_start(struct peer *peer)
{
    struct call *call = xnew(struct call);

    call_init(call, peer, &events_ops, "Events");
    wire_put_events_request(&call->request, peer->udp_wanted, peer->udp_wanted_count);
    if (call_start(call)) {
        peer->event_call = call;
    } else {
        peer->failed = true;
    }
}

void peer_want_udp(struct peer *peer, const struct peer_range *ranges, size_t count)
{
    count = MIN(count, PEER_WANTED_MAX);
    if (count == peer->udp_wanted_count &&
        (!count || memcmp(ranges, peer->udp_wanted, count * sizeof(*ranges)) == 0)) {
        return;
    }
    peer->udp_wanted_count = count;
    if (count) {
        memcpy(peer->udp_wanted, ranges, count * sizeof(*ranges));
    }
    if (peer->event_call) {
        call_free(steal(peer->event_call));
        events_start(peer);
    }
}

/* ---- Info ---- */

/* Keeps what we ask for later. */
static void on_info_decoded(const struct peer_info *info, void *arg)
{
    struct peer *peer = arg;

    strv_done(&peer->features);
    for (size_t i = 0; i < info->feature_count; i++) {
        strv_add(&peer->features, info->features[i]);
    }
    peer->events->connected(info, peer->arg);
}

static int on_info_message(struct call *call, const uint8_t *data, size_t len)
{
    static const struct peer_events decoded = {.connected = on_info_decoded};
    struct peer *peer = call->peer;
    int r;

    if (peer->known) { /* one was enough */
        peer->failed = true;
        return -EBADMSG;
    }
    peer->known = true; /* before connected(), which may detach */
    r = wire_info_decode(data, len, &decoded, peer);
    if (r < 0) {
        peer->known = false;
    } else if (peer->known) {
        events_start(peer);
    }
    return r;
}

static void on_info_ended(struct call *call, int r, const char *text)
{
    struct peer *peer = call->peer;

    call_free(call);
    if (r != -ENOTCONN && !peer->known) {
        log_debug("guest agent: no information: %s", strerror(-r));
        peer->failed = true;
    }
}

static const struct call_ops info_ops = {
    .message = on_info_message,
    .ended = on_info_ended,
    .finish = true,
};

static void info_start(struct peer *peer)
{
    struct call *call = xnew(struct call);

    call_init(call, peer, &info_ops, "Info");
    wire_put_info_request(&call->request, LIMA_VERSION);
    if (!call_start(call)) {
        peer->failed = true;
    }
}

/* ---- signs of life ---- */

void peer_ping_cancel(struct peer_ping *ping)
{
    struct peer_ping **link;

    if (ping) {
        for (link = &ping->peer->pings; *link != ping; link = &(*link)->next) {
        }
        *link = ping->next;
        loop_timer_free(ping->timer);
        free(ping);
    }
}

static void end_ping(struct peer_ping *ping, bool answered)
{
    peer_ping_fn done = ping->done;
    void *arg = ping->arg;

    peer_ping_cancel(ping);
    done(answered, arg);
}

static void on_ping_overdue(void *arg)
{
    end_ping(arg, false);
}

/* The session is over: no answer can come. From the loop, as done() promises. */
static void expire_pings(struct peer *peer)
{
    for (struct peer_ping *ping = peer->pings; ping; ping = ping->next) {
        loop_timer_set(ping->timer, 0);
    }
}

struct peer_ping *peer_ping(struct peer *peer, unsigned timeout_ms, peer_ping_fn done, void *arg)
{
    struct peer_ping *ping = xnew(struct peer_ping);

    *ping = (struct peer_ping){.peer = peer,
                               .next = peer->pings,
                               .number = ++peer->last_ping,
                               .timer = loop_timer_new(peer->loop, on_ping_overdue, ping),
                               .done = done,
                               .arg = arg};
    peer->pings = ping;
    static_assert(sizeof(ping->number) == 8, "what a PING holds");
    mux_ping(peer->mux, (const uint8_t *)&ping->number);
    loop_timer_set(ping->timer, peer->known ? (int64_t)timeout_ms : 0);
    return ping;
}

static void on_mux_pong(struct mux *mux, const uint8_t data[8], void *arg)
{
    struct peer *peer = arg;
    struct peer_ping *ping = peer->pings;
    uint64_t number;

    memcpy(&number, data, sizeof(number));
    while (ping && ping->number != number) {
        ping = ping->next;
    }
    if (ping) {
        end_ping(ping, true);
    }
}

/* ---- peer ---- */

static void on_mux_up(struct mux *mux, void *arg)
{
    info_start(arg);
}

static void on_mux_down(struct mux *mux, void *arg)
{
    struct peer *peer = arg;

    peer->failed = false;
    expire_pings(peer);
    ways_reset(peer->ways);
    if (peer->known) {
        peer->known = false;
        peer->events->disconnected(peer->arg);
    }
}

static void on_mux_output(struct mux *mux, void *arg)
{
    struct peer *peer = arg;

    if (peer->fd >= 0 && !peer->blocked) {
        event_active(peer->flush, EV_TIMEOUT, 0);
    }
}

/* The guest opens no streams: they are reset as unknown. */
static const struct mux_ops mux_ops = {
    .up = on_mux_up,
    .down = on_mux_down,
    .pong = on_mux_pong,
    .output = on_mux_output,
};

struct peer *peer_new(struct loop *loop, const struct peer_events *events, void *events_arg)
{
    struct peer *peer = xnew(struct peer);

    peer->loop = loop;
    peer->events = events;
    peer->arg = events_arg;
    peer->fd = -1;
    peer->mux = mux_new(MUX_ROLE_HOST, &mux_ops, peer);
    peer->ways = ways_new(peer, loop);
    peer->in = xmalloc(READ_SIZE);
    peer->flush = event_new(loop_base(loop), -1, 0, on_flush_due, peer);
    assert(peer->flush);
    return peer;
}

void peer_free(struct peer *peer)
{
    if (!peer) {
        return;
    }
    peer->known = false; /* who frees it needs no disconnected() */
    transport_close(peer);
    while (peer->pings) {
        peer_ping_cancel(peer->pings);
    }
    ways_free(peer->ways);
    mux_free(peer->mux);
    event_free(peer->flush);
    strv_done(&peer->features);
    free(peer->in);
    free(peer);
}

void peer_attach(struct peer *peer, int take_fd, bool pad)
{
    transport_close(peer);
    peer->fd = take_fd;
    peer->io = loop_io_new(peer->loop, peer->fd, EV_READ, on_transport_ready, peer);
    mux_start(peer->mux, pad);
}

void peer_restart(struct peer *peer)
{
    /* What waits for a blocked transport (padding and a sync) is not lost: it needs no repeating.
     */
    if (peer->fd >= 0 && !mux_is_up(peer->mux) && !peer->blocked) {
        mux_start(peer->mux, false);
    }
}

void peer_interrupted(struct peer *peer)
{
    if (peer->fd >= 0 && mux_is_up(peer->mux)) {
        mux_start(peer->mux, true);
    }
}

void peer_detach(struct peer *peer)
{
    transport_close(peer);
}

bool peer_is_up(const struct peer *peer)
{
    return peer->known;
}

bool peer_has(const struct peer *peer, const char *feature)
{
    return peer->known && strv_contains(&peer->features, feature);
}
