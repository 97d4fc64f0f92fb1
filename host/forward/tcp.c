/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection lives through these states:
 *
 *   dialling   accepted; the tunnel is being opened; the socket is not read yet
 *   carrying   both directions copy
 *   draining   the stream has ended in both directions; what it brought is still being written
 *
 * Host to guest: the socket is read only while the stream has room, straight into the stream;
 * nothing is kept here. Guest to host: written to the socket at once, what does not fit waits in
 * @pending, which the credit of the stream bounds, as bytes are acknowledged to the peer only when
 * the socket took them.
 *
 * While no connection can be accepted (too many of them, or no descriptor is left) the listener is
 * not watched, because it would be readable all the time. The end of a connection resumes it, and
 * as descriptors are freed elsewhere too, a timer does.
 */
#include "forward/listener.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "forward/bind.h"
#include "util/file.h"
#include "util/path.h"

#define BACKLOG         512
#define READ_CHUNK      65536
#define CONNECTIONS_MAX 4000 /* below the streams that a mux carries */
#define ACCEPTS_MAX     256  /* before other events of the loop get their turn */
#define ACCEPT_PAUSE_MS 250  /* without descriptors */

struct connection {
    struct forward_tcp *forward;
    struct connection *prev, *next;
    int fd;
    struct loop_io *io;
    struct dialing *dialing;   /* while dialling */
    struct mux_stream *stream; /* while carrying */
    struct buf pending;        /* guest to host, not yet written */
    bool read_ended;           /* the socket has no more to say */
    bool fin_wanted;           /* shut the socket's write side down after pending */
};

struct forward_tcp {
    struct forward_listener base; /* first */
    const struct forward_env *env;
    struct forward_endpoint guest; /* a copy */
    char *socket_path;             /* NULL for TCP */
    int fd;
    struct loop_io *io;
    struct loop_timer *pause; /* pending: no descriptor was left */
    struct connection *connections;
    size_t connection_count;
};

static struct forward_tcp *forward_of(const struct forward_listener *listener)
{
    return container_of(listener, struct forward_tcp, base);
}

static void on_pause_end(void *arg)
{
    struct forward_tcp *forward = arg;

    loop_timer_set(forward->pause, -1);
    if (forward->io && forward->connection_count < CONNECTIONS_MAX) {
        loop_io_want(forward->io, EV_READ);
    }
}

static void connection_free(struct connection *c)
{
    struct forward_tcp *forward = c->forward;

    if (c->prev) {
        c->prev->next = c->next;
    } else {
        forward->connections = c->next;
    }
    if (c->next) {
        c->next->prev = c->prev;
    }
    forward->connection_count--;
    dialer_cancel(forward->env->dialer, c->dialing);
    if (c->stream) {
        mux_stream_reset(c->stream, MUX_RESET_CANCEL);
    }
    loop_io_free(c->io);
    fd_close(c->fd);
    buf_done(&c->pending);
    free(c);
    on_pause_end(forward);
}

/* Ends it so that the host's program sees a reset, not an orderly end. */
static void connection_abort(struct connection *c)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    connection_free(c);
}

static void connection_watch(struct connection *c)
{
    bool read = c->stream && !c->read_ended && mux_stream_room(c->stream) > 0;

    loop_io_want(c->io, (short)((read ? EV_READ : 0) | (c->pending.len > 0 ? EV_WRITE : 0)));
}

/* Writes what waits. -errno on a broken socket. */
static int connection_flush(struct connection *c)
{
    size_t done = 0;

    while (done < c->pending.len) {
        ssize_t n = send(c->fd, c->pending.data + done, c->pending.len - done, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            if (errno != EAGAIN) {
                return -errno;
            }
            break;
        }
        done += (size_t)n;
    }
    if (done > 0) {
        buf_drop(&c->pending, done);
        if (c->stream) {
            mux_stream_consumed(c->stream, done);
        }
    }
    if (c->pending.len == 0) {
        buf_done(&c->pending);
        if (c->fin_wanted) {
            c->fin_wanted = false;
            shutdown(c->fd, SHUT_WR);
        }
    }
    return 0;
}

/* Reads once into the stream. -errno on a broken socket. */
static int connection_pull(struct connection *c)
{
    char chunk[READ_CHUNK];
    size_t room = MIN(mux_stream_room(c->stream), sizeof(chunk));
    ssize_t n;

    if (room == 0) {
        return 0;
    }
    n = recv(c->fd, chunk, room, 0);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        c->read_ended = true;
        mux_stream_finish(c->stream);
        return 0;
    }
    mux_stream_write(c->stream, chunk, (size_t)n);
    return 0;
}

static void on_connection_ready(evutil_socket_t fd, short what, void *arg)
{
    struct connection *c = arg;
    int r = 0;

    if (what & EV_WRITE) {
        r = connection_flush(c);
    }
    if (r == 0 && (what & EV_READ) && c->stream && !c->read_ended) {
        r = connection_pull(c);
    }
    if (r < 0) {
        connection_abort(c);
        return;
    }
    if (!c->stream && c->pending.len == 0) {
        connection_free(c); /* drained */
        return;
    }
    connection_watch(c);
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct connection *c = arg;
    size_t sent = 0;

    if (c->pending.len == 0) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            connection_abort(c);
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
    }
    if (sent > 0) {
        mux_stream_consumed(stream, sent);
    }
    if (sent < len) {
        buf_put(&c->pending, (const char *)data + sent, len - sent);
        connection_watch(c);
    }
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    struct connection *c = arg;

    c->fin_wanted = true;
    if (connection_flush(c) < 0) {
        connection_abort(c);
    }
}

/* Our turn among the streams: what the socket has goes out at once, without a round of the loop. */
static void on_stream_writable(struct mux_stream *stream, void *arg)
{
    struct connection *c = arg;

    if (!c->read_ended && connection_pull(c) < 0) {
        connection_abort(c);
        return;
    }
    connection_watch(c);
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct connection *c = arg;

    c->stream = NULL;
    if (code != 0) {
        connection_abort(c);
    } else if (c->pending.len == 0) {
        connection_free(c);
    } else {
        connection_watch(c);
    }
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

static void log_dial(const struct forward_tcp *forward, int code)
{
    scoped(free) char *guest = forward_endpoint_format(&forward->guest);

    log_debug("guest's %s: %s", guest, strerror(code));
}

static void on_dialling_done(int r, struct mux_stream *stream, void *arg)
{
    struct connection *c = arg;

    c->dialing = NULL;
    if (r < 0) {
        log_dial(c->forward, -r);
        connection_abort(c);
        return;
    }
    c->stream = stream;
    mux_stream_set_ops(stream, &stream_ops, c);
    connection_watch(c);
}

static struct peer_address dialled(const struct forward_tcp *forward)
{
    const struct forward_endpoint *guest = &forward->guest;

    if (guest->socket) {
        return (struct peer_address){
            .network = PEER_NETWORK_UNIX, .path = guest->socket, .user = forward->env->user};
    }
    return (struct peer_address){.network = PEER_NETWORK_TCP,
                                 .address = forward_address_dialled(&guest->address),
                                 .port = guest->port};
}

static void connection_new(struct forward_tcp *forward, int take_fd)
{
    struct connection *c = xnew(struct connection);
    struct peer_address to = dialled(forward);
    int on = 1;

    if (!forward->socket_path) {
        setsockopt(take_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(take_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    c->forward = forward;
    c->fd = take_fd;
    c->io = loop_io_new(forward->env->loop, take_fd, 0, on_connection_ready, c);
    c->next = forward->connections;
    if (c->next) {
        c->next->prev = c;
    }
    forward->connections = c;
    if (++forward->connection_count == CONNECTIONS_MAX) {
        loop_io_want(forward->io, 0);
    }
    c->dialing = dialer_open(forward->env->dialer, &to, on_dialling_done, c);
    if (!c->dialing) {
        connection_abort(c); /* no session: nothing can be reached now */
    }
}

static void on_accept_failed(struct forward_tcp *forward, int code)
{
    bool exhausted = code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM;

    if (code != EAGAIN && code != EINTR && code != ECONNABORTED) {
        log_debug("accepting a connection to guest port %u: %s%s", forward->guest.port,
                  strerror(code), exhausted ? ", retrying" : "");
    }
    if (exhausted) {
        loop_io_want(forward->io, 0);
        loop_timer_set(forward->pause, ACCEPT_PAUSE_MS);
    }
}

static void on_forward_readable(evutil_socket_t fd, short what, void *arg)
{
    struct forward_tcp *forward = arg;

    for (int i = 0; i < ACCEPTS_MAX && forward->connection_count < CONNECTIONS_MAX; i++) {
        int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (client < 0) {
            on_accept_failed(forward, errno);
            return;
        }
        connection_new(forward, client);
    }
}

static int listen_tcp(const struct forward_endpoint *host, int *ret_fd, uint16_t *ret_port,
                      struct error *err)
{
    scoped(fd_close) int fd = -1;
    int r = forward_bind(host, SOCK_STREAM, &fd, ret_port, err);

    if (r < 0) {
        return r;
    }
    /* Two sockets with SO_REUSEADDR may be bound to one port; only one of them may listen. */
    if (listen(fd, BACKLOG) < 0) {
        scoped(free) char *text = forward_endpoint_format(host);

        return error_errno(err, errno, "listening on %s", text);
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int listen_unix(const char *path, int *ret_fd, struct error *err)
{
    scoped(free) char *dir = path_dir(path);
    int r = file_mkdirs(dir, 0750, err);

    return r < 0 ? r : file_listen_unix(path, BACKLOG, ret_fd, err);
}

static int tcp_open(const struct forward_env *env, const struct forward_endpoint *host,
                    const struct forward_endpoint *guest, struct forward_listener **ret,
                    struct error *err)
{
    struct forward_tcp *forward;
    uint16_t port = 0;
    int fd, r;

    r = host->socket ? listen_unix(host->socket, &fd, err) : listen_tcp(host, &fd, &port, err);
    if (r < 0) {
        return r;
    }
    forward = xnew(struct forward_tcp);
    forward->base.ops = &forward_tcp_ops;
    forward->base.port = port;
    forward->env = env;
    forward->guest = forward_endpoint_copy(guest);
    forward->socket_path = xstrdup(host->socket);
    forward->fd = fd;
    forward->io = loop_io_new(env->loop, fd, EV_READ, on_forward_readable, forward);
    forward->pause = loop_timer_new(env->loop, on_pause_end, forward);
    *ret = &forward->base;
    return 0;
}

static void tcp_retarget(struct forward_listener *listener, const struct forward_endpoint *guest)
{
    struct forward_tcp *forward = forward_of(listener);

    forward_endpoint_done(&forward->guest);
    forward->guest = forward_endpoint_copy(guest);
}

static void tcp_stop(struct forward_listener *listener)
{
    struct forward_tcp *forward = forward_of(listener);

    loop_io_free(forward->io);
    forward->io = NULL;
    fd_close(steal_fd(&forward->fd));
    if (forward->socket_path) {
        unlink(forward->socket_path);
    }
    free(steal(forward->socket_path));
}

static void tcp_close(struct forward_listener *listener)
{
    struct forward_tcp *forward = forward_of(listener);

    while (forward->connections) {
        connection_abort(forward->connections);
    }
    tcp_stop(listener);
    loop_timer_free(forward->pause);
    forward_endpoint_done(&forward->guest);
    free(forward);
}

static size_t tcp_connections(const struct forward_listener *listener)
{
    return forward_of(listener)->connection_count;
}

const struct forward_listener_ops forward_tcp_ops = {
    .open = tcp_open,
    .retarget = tcp_retarget,
    .stop = tcp_stop,
    .close = tcp_close,
    .connections = tcp_connections,
};
