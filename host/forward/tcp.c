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
#include "forward/tcp.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
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
    struct loop *loop;
    struct dialer *dialer;
    struct forward_endpoint guest;
    char *socket_path; /* NULL for TCP */
    int fd;
    struct loop_io *io;
    struct loop_timer *pause; /* pending: no descriptor was left */
    struct connection *connections;
    size_t connection_count;
};

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
    dialer_cancel(forward->dialer, c->dialing);
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

static void on_dialling_done(int r, struct mux_stream *stream, void *arg)
{
    struct connection *c = arg;

    c->dialing = NULL;
    if (r < 0) {
        log_debug("guest port %u: %s", c->forward->guest.port, strerror(-r));
        connection_abort(c);
        return;
    }
    c->stream = stream;
    mux_stream_set_ops(stream, &stream_ops, c);
    connection_watch(c);
}

static void connection_new(struct forward_tcp *forward, int take_fd)
{
    struct connection *c = xnew(struct connection);
    struct peer_address to = {.network = PEER_NETWORK_TCP,
                              .address = forward->guest.address,
                              .port = forward->guest.port};
    int on = 1;

    if (!forward->socket_path) {
        setsockopt(take_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(take_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    if (forward_address_is_any(&to.address)) {
        if (to.address.family == AF_INET) {
            to.address.v4.s_addr = htonl(INADDR_LOOPBACK);
        } else {
            to.address.v6 = in6addr_loopback;
        }
    }
    c->forward = forward;
    c->fd = take_fd;
    c->io = loop_io_new(forward->loop, take_fd, 0, on_connection_ready, c);
    c->next = forward->connections;
    if (c->next) {
        c->next->prev = c;
    }
    forward->connections = c;
    if (++forward->connection_count == CONNECTIONS_MAX) {
        loop_io_want(forward->io, 0);
    }
    c->dialing = dialer_open(forward->dialer, &to, on_dialling_done, c);
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

static int listen_tcp(const struct forward_target *host, int *ret_fd, struct error *err)
{
    scoped(free) char *text = forward_address_format(&host->address, host->port);
    scoped(fd_close) int fd = -1;
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(host->port)};
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(host->port)};
    bool v4 = host->address.family == AF_INET;
    int on = 1;

    fd = socket(host->address.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return error_errno(err, errno, "creating a socket for %s", text);
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    a4.sin_addr = host->address.v4;
    if (!v4) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        a6.sin6_addr = host->address.v6;
    }
    if (bind(fd, v4 ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6,
             v4 ? sizeof(a4) : sizeof(a6)) < 0 ||
        listen(fd, BACKLOG) < 0) {
        int code = errno;

        error_errno(err, code, "listening on %s", text);
        if (code == EACCES) {
            error_hint(err, "ports below net.ipv4.ip_unprivileged_port_start need root; give the "
                            "rule another hostPort");
        }
        return -code;
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

int forward_tcp_open(struct loop *loop, struct dialer *dialer, const struct forward_target *host,
                     const struct forward_endpoint *guest, struct forward_tcp **ret,
                     struct error *err)
{
    struct forward_tcp *forward;
    int fd, r;

    r = host->socket ? listen_unix(host->socket, &fd, err) : listen_tcp(host, &fd, err);
    if (r < 0) {
        return r;
    }
    forward = xnew(struct forward_tcp);
    forward->loop = loop;
    forward->dialer = dialer;
    forward->guest = *guest;
    forward->socket_path = xstrdup(host->socket);
    forward->fd = fd;
    forward->io = loop_io_new(loop, fd, EV_READ, on_forward_readable, forward);
    forward->pause = loop_timer_new(loop, on_pause_end, forward);
    *ret = forward;
    return 0;
}

void forward_tcp_retarget(struct forward_tcp *forward, const struct forward_endpoint *guest)
{
    forward->guest = *guest;
}

void forward_tcp_stop(struct forward_tcp *forward)
{
    loop_io_free(forward->io);
    forward->io = NULL;
    fd_close(steal_fd(&forward->fd));
    if (forward->socket_path) {
        unlink(forward->socket_path);
    }
    free(steal(forward->socket_path));
}

void forward_tcp_close(struct forward_tcp *forward)
{
    if (!forward) {
        return;
    }
    while (forward->connections) {
        connection_abort(forward->connections);
    }
    forward_tcp_stop(forward);
    loop_timer_free(forward->pause);
    free(forward);
}

size_t forward_tcp_connections(const struct forward_tcp *forward)
{
    return forward->connection_count;
}
