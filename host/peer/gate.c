/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/gate.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "mux/join.h"
#include "peer/call.h"
#include "peer/link.h"
#include "peer/wire.h"
#include "util/file.h"

#define BACKLOG         128
#define ACCEPTS_MAX     64  /* before other events of the loop get their turn */
#define ACCEPT_PAUSE_MS 250 /* without descriptors */

struct visitor {
    struct gate *gate;
    struct visitor *next, **back;
    int fd;                /* not yet read while a stream is looked for; else -1 */
    struct way_dial *dial; /* NULL: over */
    struct link *link;     /* NULL: the connection is closed */
    struct join *join;     /* NULL: over, or the guest could not be had */
};

struct gate {
    struct loop *loop;
    struct peer *peer;
    char *path;
    int fd;
    struct loop_io *io;
    struct loop_timer *pause;
    struct visitor *visitors;
    size_t count;
};

static void listen_again(struct gate *gate)
{
    loop_io_want(gate->io, gate->count < GATE_CONNECTIONS_MAX ? EV_READ : 0);
}

static void visitor_free(struct visitor *visitor)
{
    *visitor->back = visitor->next;
    if (visitor->next) {
        visitor->next->back = visitor->back;
    }
    visitor->gate->count--;
    free(visitor);
}

/* Either may end first: the connection once its last output is out, the guest's stream later. */
static void leave(struct visitor *visitor)
{
    struct gate *gate = visitor->gate;

    if (!visitor->link && !visitor->join) {
        visitor_free(visitor);
        listen_again(gate);
    }
}

static void on_link_closed(void *arg)
{
    struct visitor *visitor = arg;

    visitor->link = NULL;
    leave(visitor);
}

static void on_join_done(bool ordered, void *arg)
{
    struct visitor *visitor = arg;

    visitor->join = NULL;
    leave(visitor);
}

/* Of a visitor who got an answer already. */
static void on_refused_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_consumed(stream, len);
}

static const struct mux_stream_ops refused_ops = {.data = on_refused_data};

static void refuse(struct mux_stream *stream)
{
    scoped(buf_done) struct buf reply = BUF_INIT;

    wire_put_stream_reply(&reply, ENOTCONN, "the guest agent does not answer now");
    mux_stream_set_ops(stream, &refused_ops, NULL);
    mux_stream_write_all(stream, reply.data, reply.len);
    mux_stream_finish(stream);
}

/* @guest NULL: there is no stream to be had. */
static void unite(struct visitor *visitor, struct mux_stream *guest)
{
    struct mux_stream *local;

    visitor->link = link_new(visitor->gate->loop, steal_fd(&visitor->fd), DIRECT_FORM_BARE, &local,
                             on_link_closed, visitor);
    if (guest) {
        visitor->join = join_new(local, guest, on_join_done, visitor);
    } else {
        refuse(local);
    }
}

static struct mux_stream *session_stream(const struct gate *gate)
{
    static const struct mux_stream_ops none;

    return peer_is_up(gate->peer) ? peer_stream_open(gate->peer, &none, NULL) : NULL;
}

static void on_visitor_dialled(struct mux_stream *stream, void *arg)
{
    struct visitor *visitor = arg;

    visitor->dial = NULL;
    unite(visitor, stream ? stream : session_stream(visitor->gate));
}

static void let_in(struct gate *gate, int take_fd)
{
    struct visitor *visitor = xnew(struct visitor);

    visitor->gate = gate;
    visitor->fd = take_fd;
    visitor->next = gate->visitors;
    visitor->back = &gate->visitors;
    if (visitor->next) {
        visitor->next->back = &visitor->next;
    }
    gate->visitors = visitor;
    gate->count++;
    visitor->dial =
        ways_dial(peer_ways(gate->peer), WAY_KIND_INTERACTIVE, on_visitor_dialled, visitor);
    if (!visitor->dial) {
        unite(visitor, session_stream(gate));
    }
}

static void on_gate_readable(evutil_socket_t fd, short what, void *arg)
{
    struct gate *gate = arg;

    for (int i = 0; i < ACCEPTS_MAX && gate->count < GATE_CONNECTIONS_MAX; i++) {
        int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (client >= 0) {
            let_in(gate, client);
            continue;
        }
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            log_warn("accepting on '%s': %s, retrying", gate->path, strerror(errno));
            loop_io_want(gate->io, 0);
            loop_timer_set(gate->pause, ACCEPT_PAUSE_MS);
        }
        return;
    }
    if (gate->count >= GATE_CONNECTIONS_MAX) {
        loop_io_want(gate->io, 0);
    }
}

static void on_pause_end(void *arg)
{
    listen_again(arg);
}

int gate_open(struct loop *loop, const char *path, struct peer *peer, struct gate **ret,
              struct error *err)
{
    struct gate *gate;
    int fd, r = file_listen_unix(path, BACKLOG, &fd, err);

    if (r < 0) {
        return r;
    }
    gate = xnew(struct gate);
    gate->loop = loop;
    gate->peer = peer;
    gate->path = xstrdup(path);
    gate->fd = fd;
    gate->io = loop_io_new(loop, fd, EV_READ, on_gate_readable, gate);
    gate->pause = loop_timer_new(loop, on_pause_end, gate);
    *ret = gate;
    return 0;
}

void gate_close(struct gate *gate)
{
    if (!gate) {
        return;
    }
    while (gate->visitors) {
        struct visitor *visitor = gate->visitors;

        way_dial_cancel(visitor->dial);
        fd_close(visitor->fd);
        join_free(visitor->join);
        link_free(visitor->link);
        visitor_free(visitor);
    }
    loop_io_free(gate->io);
    loop_timer_free(gate->pause);
    fd_close(gate->fd);
    unlink(gate->path);
    free(gate->path);
    free(gate);
}
