/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that was accepted waits until the guest has been dialled; then carry.h has it.
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
#include "base/log.h"
#include "forward/bind.h"
#include "forward/carry.h"
#include "util/file.h"
#include "util/path.h"

#define BACKLOG         512
#define CONNECTIONS_MAX 4000 /* below the streams that a mux carries */
#define ACCEPTS_MAX     256  /* before other events of the loop get their turn */
#define ACCEPT_PAUSE_MS 250  /* without descriptors */

struct connection {
    struct forward_tcp *forward;
    struct connection *prev, *next;
    struct carry *carry;
    struct dialing *dialing; /* while dialling */
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
    free(c);
    on_pause_end(forward);
}

/* Ends it so that the host's program sees a reset, not an orderly end. */
static void connection_abort(struct connection *c)
{
    carry_abort(c->carry);
    connection_free(c);
}

static void on_carry_ended(void *arg)
{
    connection_free(arg);
}

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
    carry_join(c->carry, stream);
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
                                 .port = guest->port,
                                 .named = guest->named};
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
    c->carry = carry_new(forward->env->loop, take_fd, false, on_carry_ended, c);
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

/* A socket that nobody listens on is a leftover and may be replaced; a live one stays. */
static int listen_unix(const char *path, int *ret_fd, struct error *err)
{
    scoped(free) char *dir = path_dir(path);
    int r = file_mkdirs(dir, 0750, err);

    if (r < 0) {
        return r;
    }
    if (forward_bind_is_live(path)) {
        return error_set(err, EADDRINUSE, "listening on '%s': another process does", path);
    }
    return file_listen_unix(path, BACKLOG, ret_fd, err);
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
