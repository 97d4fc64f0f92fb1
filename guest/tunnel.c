/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   DIALLING  connect(2) is under way, or is tried again soon (no watch); bytes of the host wait
 *   REPLYING  it ended; the StreamReply waits for room in the stream
 *   OPEN      bytes both ways until both directions have ended
 *   REFUSED   a StreamReply with an error was sent; only the peer's end is awaited
 *   DRAINING  the stream is gone in good order, the socket has yet to take its last bytes
 *   PUMPING   the stream had a connection of its own, whose bytes the kernel moves now
 */
#include "tunnel.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "datagram.h"
#include "dial.h"
#include "mux/direct.h"
#include "mux/pump.h"
#include "wire.h"

#define COPY_SIZE (64u << 10)
#define BUSY_MS   5000 /* so long a full queue of a Unix listener is waited for */
#define RETRY_MS  20

enum tunnel_state {
    TUNNEL_DIALLING,
    TUNNEL_REPLYING,
    TUNNEL_OPEN,
    TUNNEL_REFUSED,
    TUNNEL_DRAINING,
    TUNNEL_PUMPING,
};

struct tunnel {
    struct tunnels *tunnels;
    struct tunnel *next, **link;
    struct mux_stream *stream; /* NULL: DRAINING */
    enum tunnel_state state;
    struct error error;                   /* of the dial; code 0: none */
    lima_guest_v1_TunnelRequest *request; /* while DIALLING */
    struct loop_timer *retry;             /* NULL unless it is to be tried again */
    uint64_t give_up_us;
    int fd;
    struct loop_watch *watch;
    struct buf pending; /* from the host, not yet written to the socket */
    bool host_ended;    /* fin came: shut our writing down once pending is out */
    bool shut;          /* done so */
    bool socket_ended;  /* end of file read, our direction of the stream finished */
    bool hand_over;     /* looks whether it can pump, from the loop */
    struct pump *pump;  /* PUMPING */
    int far_fd;         /* the same: the stream's connection */
    struct loop_watch *far_watch;
};

struct tunnels {
    struct loop *loop;
    struct incoming *incoming; /* borrowed */
    struct datagrams *datagrams;
    struct tunnel *list;
    size_t count;
    char *copy; /* COPY_SIZE, shared: never holds bytes between callbacks */
};

struct tunnels *tunnels_new(struct loop *loop, struct incoming *incoming)
{
    struct tunnels *tunnels = xnew(struct tunnels);

    tunnels->loop = loop;
    tunnels->incoming = incoming;
    tunnels->datagrams = datagrams_new(loop);
    tunnels->copy = xmalloc(COPY_SIZE);
    return tunnels;
}

size_t tunnels_count(const struct tunnels *tunnels)
{
    return tunnels->count + datagrams_count(tunnels->datagrams);
}

static void close_socket(struct tunnel *tunnel)
{
    pump_free(steal(tunnel->pump));
    loop_watch_free(steal(tunnel->far_watch));
    fd_close(steal_fd(&tunnel->far_fd));
    loop_watch_free(tunnel->watch);
    tunnel->watch = NULL;
    fd_close(tunnel->fd);
    tunnel->fd = -1;
}

static void tunnel_free(struct tunnel *tunnel)
{
    close_socket(tunnel);
    *tunnel->link = tunnel->next;
    if (tunnel->next) {
        tunnel->next->link = tunnel->link;
    }
    tunnel->tunnels->count--;
    loop_timer_free(tunnel->retry);
    error_done(&tunnel->error);
    free(tunnel->request);
    buf_done(&tunnel->pending);
    free(tunnel);
}

void tunnels_free(struct tunnels *tunnels)
{
    if (!tunnels) {
        return;
    }
    while (tunnels->list) {
        if (tunnels->list->stream) {
            mux_stream_reset(tunnels->list->stream, MUX_RESET_CANCEL);
        }
        tunnel_free(tunnels->list);
    }
    datagrams_free(tunnels->datagrams);
    free(tunnels->copy);
    free(tunnels);
}

/* Ends it with a reset of the connection, so that the local program sees that something broke. */
static void break_socket(struct tunnel *tunnel)
{
    struct linger linger = {.l_onoff = 1};

    if (tunnel->fd >= 0) {
        setsockopt(tunnel->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
}

static void fail(struct tunnel *tunnel)
{
    if (tunnel->stream) {
        mux_stream_reset(tunnel->stream, MUX_RESET_CONNECTION);
    }
    tunnel_free(tunnel);
}

static void update_watch(struct tunnel *tunnel)
{
    short events = 0;

    if (!tunnel->watch) {
        return;
    }
    if (tunnel->state == TUNNEL_DIALLING ||
        (tunnel->state != TUNNEL_REPLYING && (tunnel->pending.len || tunnel->hand_over))) {
        events |= POLLOUT;
    }
    if (tunnel->state == TUNNEL_OPEN && !tunnel->socket_ended && mux_stream_room(tunnel->stream)) {
        events |= POLLIN;
    }
    loop_watch_set(tunnel->watch, events);
}

/* Bytes towards the socket. Returns how many it took, or -errno when the connection broke. */
static ssize_t socket_write(struct tunnel *tunnel, const void *data, size_t len)
{
    ssize_t n;

    do {
        n = send(tunnel->fd, data, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : errno == EAGAIN ? 0 : -errno;
}

static int drain_pending(struct tunnel *tunnel)
{
    while (tunnel->pending.len) {
        ssize_t n = socket_write(tunnel, tunnel->pending.data, tunnel->pending.len);

        if (n <= 0) {
            return (int)n;
        }
        buf_drop(&tunnel->pending, (size_t)n);
        if (tunnel->stream) {
            mux_stream_consumed(tunnel->stream, (size_t)n);
        }
    }
    buf_done(&tunnel->pending); /* an idle tunnel holds no memory */
    if (tunnel->host_ended && !tunnel->shut) {
        tunnel->shut = true;
        shutdown(tunnel->fd, SHUT_WR);
    }
    return 0;
}

/* One turn's worth from the socket to the stream. -errno when the connection broke. */
static int fill_stream(struct tunnel *tunnel)
{
    size_t room = MIN(mux_stream_room(tunnel->stream), COPY_SIZE);
    size_t taken;
    ssize_t n;

    if (!room) {
        return 0;
    }
    n = recv(tunnel->fd, tunnel->tunnels->copy, room, 0);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        tunnel->socket_ended = true;
        mux_stream_finish(tunnel->stream);
        return 0;
    }
    taken = mux_stream_write(tunnel->stream, tunnel->tunnels->copy, (size_t)n);
    assert(taken == (size_t)n);
    return 0;
}

/* True when the tunnel still exists. */
static bool send_reply(struct tunnel *tunnel)
{
    if (!rpc_reply(tunnel->stream, tunnel->error.code, tunnel->error.message)) {
        tunnel->state = TUNNEL_REPLYING;
        update_watch(tunnel);
        return true;
    }
    if (tunnel->error.code) {
        tunnel->state = TUNNEL_REFUSED;
        mux_stream_consumed(tunnel->stream, tunnel->pending.len);
        buf_done(&tunnel->pending);
        close_socket(tunnel);
        mux_stream_finish(tunnel->stream); /* may close the stream, later */
        return true;
    }
    tunnel->state = TUNNEL_OPEN;
    tunnel->hand_over = direct_may_hand_over(tunnel->stream);
    if (drain_pending(tunnel) < 0) {
        fail(tunnel);
        return false;
    }
    update_watch(tunnel);
    return true;
}

static void dialled(struct tunnel *tunnel)
{
    int code = 0;
    socklen_t len = sizeof(code);

    if (getsockopt(tunnel->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0) {
        code = errno;
    }
    if (code) {
        error_set(&tunnel->error, code, "%s", strerror(code));
    }
    send_reply(tunnel);
}

static void pump_on(struct tunnel *tunnel)
{
    int r = pump_run(tunnel->pump);
    struct pump_wants wants = pump_wants(tunnel->pump);

    if (r != 0) {
        if (r < 0) {
            break_socket(tunnel);
        }
        tunnel_free(tunnel);
        return;
    }
    loop_watch_set(tunnel->watch,
                   (short)((wants.plain_in ? POLLIN : 0) | (wants.plain_out ? POLLOUT : 0)));
    loop_watch_set(tunnel->far_watch, (short)((wants.segmented_in ? POLLIN : 0) |
                                              (wants.segmented_out ? POLLOUT : 0)));
}

static void on_far_ready(int fd, short revents, void *arg)
{
    pump_on(arg);
}

/* True: it pumps, and may be over. */
static bool try_to_pump(struct tunnel *tunnel)
{
    uint32_t left;
    bool opener;

    tunnel->hand_over = false;
    if (tunnel->state != TUNNEL_OPEN || tunnel->pending.len || tunnel->socket_ended ||
        !direct_can_hand_over(tunnel->stream)) {
        return false;
    }
    tunnel->state = TUNNEL_PUMPING;
    tunnel->far_fd = direct_hand_over(steal(tunnel->stream), &left, &opener);
    tunnel->pump = pump_new(tunnel->fd, tunnel->far_fd, left, opener);
    tunnel->far_watch =
        loop_watch_new(tunnel->tunnels->loop, tunnel->far_fd, 0, on_far_ready, tunnel);
    pump_on(tunnel);
    return true;
}

static void on_socket_ready(int fd, short revents, void *arg)
{
    struct tunnel *tunnel = arg;
    int r = 0;

    if (tunnel->state == TUNNEL_DIALLING) {
        dialled(tunnel);
        return;
    }
    if (tunnel->state == TUNNEL_PUMPING) {
        pump_on(tunnel);
        return;
    }
    if (try_to_pump(tunnel)) {
        return;
    }
    if (revents & (POLLOUT | POLLERR)) {
        r = drain_pending(tunnel);
    }
    if (r == 0 && tunnel->state == TUNNEL_OPEN && !tunnel->socket_ended && (revents & ~POLLOUT)) {
        r = fill_stream(tunnel);
    }
    if (r < 0) {
        fail(tunnel);
    } else if (tunnel->state == TUNNEL_DRAINING && !tunnel->pending.len) {
        tunnel_free(tunnel);
    } else {
        update_watch(tunnel);
    }
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct tunnel *tunnel = arg;
    ssize_t n = 0;

    if (tunnel->state == TUNNEL_REFUSED) {
        mux_stream_consumed(stream, len);
        return;
    }
    if (tunnel->state == TUNNEL_OPEN && !tunnel->pending.len) {
        n = socket_write(tunnel, data, len);
        if (n < 0) {
            fail(tunnel);
            return;
        }
        mux_stream_consumed(stream, (size_t)n);
    }
    if ((size_t)n < len && buf_put(&tunnel->pending, (const char *)data + n, len - (size_t)n) < 0) {
        mux_stream_reset(stream, MUX_RESET_PROTOCOL); /* more than was granted */
        break_socket(tunnel);
        tunnel_free(tunnel);
        return;
    }
    tunnel->hand_over = tunnel->state == TUNNEL_OPEN && direct_may_hand_over(stream);
    update_watch(tunnel);
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    struct tunnel *tunnel = arg;

    tunnel->host_ended = true;
    if (tunnel->state == TUNNEL_OPEN && drain_pending(tunnel) < 0) {
        fail(tunnel);
    }
}

static void on_stream_writable(struct mux_stream *stream, void *arg)
{
    struct tunnel *tunnel = arg;

    if (tunnel->state == TUNNEL_REPLYING) {
        send_reply(tunnel);
        return;
    }
    /* Our turn among the streams: what the socket has goes out at once. */
    if (tunnel->state == TUNNEL_OPEN && !tunnel->socket_ended && fill_stream(tunnel) < 0) {
        fail(tunnel);
        return;
    }
    update_watch(tunnel);
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct tunnel *tunnel = arg;

    tunnel->stream = NULL;
    if (!code && tunnel->pending.len && tunnel->watch) {
        tunnel->state = TUNNEL_DRAINING;
        update_watch(tunnel);
        return;
    }
    if (code) {
        break_socket(tunnel);
    }
    tunnel_free(tunnel);
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

/* A stream with its ops set, and what came early; NULL: that was too much, and all is over. */
static struct tunnel *tunnel_new(struct tunnels *tunnels, const struct rpc_call *call)
{
    struct tunnel *tunnel = xnew(struct tunnel);

    *tunnel = (struct tunnel){.tunnels = tunnels,
                              .next = tunnels->list,
                              .link = &tunnels->list,
                              .stream = call->stream,
                              .fd = -1,
                              .far_fd = -1,
                              .pending = BUF_INIT_CAP(MUX_WINDOW_MAX)};
    if (tunnel->next) {
        tunnel->next->link = &tunnel->next;
    }
    tunnels->list = tunnel;
    tunnels->count++;
    mux_stream_set_ops(call->stream, &stream_ops, tunnel);
    if (call->rest_len && buf_put(&tunnel->pending, call->rest, call->rest_len) < 0) {
        fail(tunnel);
        return NULL;
    }
    return tunnel;
}

void tunnels_join(struct tunnels *tunnels, struct mux_stream *stream, int take_fd)
{
    struct tunnel *tunnel = tunnel_new(tunnels, &(struct rpc_call){.stream = stream});

    assert(tunnel); /* nothing came early */
    tunnel->fd = take_fd;
    tunnel->state = TUNNEL_OPEN;
    tunnel->hand_over = direct_may_hand_over(stream);
    tunnel->watch = loop_watch_new(tunnels->loop, take_fd, 0, on_socket_ready, tunnel);
    update_watch(tunnel);
}

/* For the first time, and as the timer's callback while a Unix listener's queue is full. */
static void dial(void *arg)
{
    struct tunnel *tunnel = arg;
    struct loop *loop = tunnel->tunnels->loop;
    int r = dial_start(tunnel->request, &tunnel->fd, &tunnel->error);

    if (r == -EAGAIN && loop_now_us() < tunnel->give_up_us) {
        error_done(&tunnel->error);
        tunnel->retry = tunnel->retry ? tunnel->retry : loop_timer_new(loop, dial, tunnel);
        loop_timer_start(tunnel->retry, RETRY_MS);
        return;
    }
    loop_timer_free(steal(tunnel->retry));
    free(steal(tunnel->request));
    if (r < 0) {
        send_reply(tunnel);
    } else {
        tunnel->watch = loop_watch_new(loop, tunnel->fd, POLLOUT, on_socket_ready, tunnel);
    }
}

static int serve_datagrams(struct tunnels *tunnels, const struct rpc_call *call,
                           const lima_guest_v1_TunnelRequest *request, struct error *err)
{
    int fd;
    int r = dial_start(request, &fd, err);

    if (r == 0) {
        datagram_start(tunnels->datagrams, call->stream, fd, call->rest, call->rest_len);
    }
    return r;
}

int tunnels_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    struct tunnels *tunnels = arg;
    lima_guest_v1_TunnelRequest request = lima_guest_v1_TunnelRequest_init_zero;
    struct tunnel *tunnel;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_TunnelRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    if (request.network == lima_guest_v1_TunnelRequest_Network_UDP) {
        return serve_datagrams(tunnels, call, &request, err);
    }
    tunnel = tunnel_new(tunnels, call);
    if (tunnel) {
        tunnel->request = xmemdup(&request, sizeof(request));
        tunnel->give_up_us = loop_now_us() + BUSY_MS * 1000ull;
        dial(tunnel);
    }
    return 0;
}

int tunnels_serve_accept(const struct rpc_call *call, void *arg, struct error *err)
{
    struct tunnels *tunnels = arg;
    lima_guest_v1_AcceptRequest request = lima_guest_v1_AcceptRequest_init_zero;
    struct incoming_taken taken;
    struct tunnel *tunnel;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_AcceptRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    if (!incoming_take(tunnels->incoming, request.id, INCOMING_FOR_HOST, &taken)) {
        return error_set(err, ENOENT, "no connection waits under this id");
    }
    assert(taken.fd >= 0); /* all that the host accepts are descriptors */
    tunnel = tunnel_new(tunnels, call);
    if (!tunnel) {
        fd_close(taken.fd);
        return 0;
    }
    tunnel->fd = taken.fd;
    tunnel->watch = loop_watch_new(tunnels->loop, tunnel->fd, 0, on_socket_ready, tunnel);
    send_reply(tunnel);
    return 0;
}
