/* SPDX-License-Identifier: Apache-2.0 */
/*
 * It lives through these states:
 *
 *   waiting    no stream yet; the socket is not read, so its program waits too
 *   carrying   both directions copy
 *   draining   the stream has ended in both directions; what it brought is still being written
 *   pumping    the stream had a connection of its own, whose bytes the kernel moves now
 *
 * Host to guest: the socket is read only while the stream has room, straight into the stream;
 * nothing is kept here. Guest to host: written to the socket at once, what does not fit waits in
 * @pending, which the credit of the stream bounds, as bytes are acknowledged to the peer only when
 * the socket took them.
 */
#include "forward/carry.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "mux/direct.h"
#include "mux/pump.h"

#define READ_CHUNK 65536

struct carry {
    int fd;
    struct loop_io *io;
    struct mux_stream *stream; /* while carrying */
    struct buf pending;        /* guest to host, not yet written */
    bool connecting;           /* the socket takes nothing yet */
    bool read_ended;           /* the socket has no more to say */
    bool fin_wanted;           /* shut the socket's write side down after pending */
    bool hand_over;            /* looks whether it can pump, from the loop */
    struct pump *pump;         /* while pumping */
    int far_fd;                /* the same: the stream's connection */
    struct loop_io *far_io;
    struct loop *loop;
    carry_ended_fn ended;
    void *arg;
};

static void carry_free(struct carry *c)
{
    if (c->stream) {
        mux_stream_reset(c->stream, MUX_RESET_CONNECTION);
    }
    pump_free(c->pump);
    loop_io_free(c->far_io);
    fd_close(c->far_fd);
    loop_io_free(c->io);
    fd_close(c->fd);
    buf_done(&c->pending);
    free(c);
}

/* So that the host's program sees a reset, not an orderly end. */
static void break_socket(struct carry *c)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void carry_abort(struct carry *c)
{
    if (c) {
        break_socket(c);
        carry_free(c);
    }
}

/* The last statement of its callers. */
static void finish(struct carry *c, bool broken)
{
    carry_ended_fn ended = c->ended;
    void *arg = c->arg;

    if (broken) {
        break_socket(c);
    }
    carry_free(c);
    ended(arg);
}

static void watch(struct carry *c)
{
    bool write = c->connecting || c->pending.len > 0 || c->hand_over;
    bool read = !c->connecting && c->stream && !c->read_ended && mux_stream_room(c->stream) > 0;

    loop_io_want(c->io, (short)((read ? EV_READ : 0) | (write ? EV_WRITE : 0)));
}

static ssize_t send_some(struct carry *c, const void *data, size_t len)
{
    ssize_t n;

    do {
        n = send(c->fd, data, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : errno == EAGAIN ? 0 : -errno;
}

/* Writes what waits. -errno on a broken socket. */
static int flush(struct carry *c)
{
    while (c->pending.len > 0) {
        ssize_t n = send_some(c, c->pending.data, c->pending.len);

        if (n <= 0) {
            return (int)n;
        }
        buf_drop(&c->pending, (size_t)n);
        if (c->stream) {
            mux_stream_consumed(c->stream, (size_t)n);
        }
    }
    buf_done(&c->pending); /* an idle connection holds no memory */
    if (c->fin_wanted) {
        c->fin_wanted = false;
        shutdown(c->fd, SHUT_WR);
    }
    return 0;
}

/* Reads once into the stream. -errno on a broken socket. */
static int pull(struct carry *c)
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

/* -errno: nobody is there. */
static int connected(struct carry *c)
{
    int code = 0;
    socklen_t len = sizeof(code);

    c->connecting = false;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0) {
        code = errno;
    }
    return -code;
}

static void pump_on(struct carry *c)
{
    int r = pump_run(c->pump);
    struct pump_wants wants = pump_wants(c->pump);

    if (r != 0) {
        finish(c, r < 0);
        return;
    }
    loop_io_want(c->io, (short)((wants.plain_in ? EV_READ : 0) | (wants.plain_out ? EV_WRITE : 0)));
    loop_io_want(c->far_io, (short)((wants.segmented_in ? EV_READ : 0) |
                                    (wants.segmented_out ? EV_WRITE : 0)));
}

static void on_far_ready(evutil_socket_t fd, short what, void *arg)
{
    pump_on(arg);
}

/* True: it pumps, and may be over. */
static bool try_to_pump(struct carry *c)
{
    uint32_t left;
    bool opener;

    c->hand_over = false;
    if (c->connecting || !c->stream || c->pending.len || c->read_ended ||
        !direct_can_hand_over(c->stream)) {
        return false;
    }
    c->far_fd = direct_hand_over(steal(c->stream), &left, &opener);
    c->pump = pump_new(c->fd, c->far_fd, left, opener);
    c->far_io = loop_io_new(c->loop, c->far_fd, 0, on_far_ready, c);
    pump_on(c);
    return true;
}

static void on_socket_ready(evutil_socket_t fd, short what, void *arg)
{
    struct carry *c = arg;
    int r;

    if (c->pump) {
        pump_on(c);
        return;
    }
    if (try_to_pump(c)) {
        return;
    }
    r = c->connecting ? connected(c) : 0;

    if (r == 0 && (what & EV_WRITE)) {
        r = flush(c);
    }
    if (r == 0 && (what & EV_READ) && c->stream && !c->read_ended) {
        r = pull(c);
    }
    if (r < 0) {
        finish(c, true);
        return;
    }
    if (!c->stream && c->pending.len == 0) {
        finish(c, false); /* drained */
        return;
    }
    watch(c);
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct carry *c = arg;
    ssize_t sent = 0;

    if (!c->connecting && c->pending.len == 0) {
        sent = send_some(c, data, len);
    }
    if (sent < 0) {
        finish(c, true);
        return;
    }
    mux_stream_consumed(stream, (size_t)sent);
    if ((size_t)sent < len) {
        buf_put(&c->pending, (const char *)data + sent, len - (size_t)sent);
    }
    c->hand_over = direct_may_hand_over(stream);
    watch(c);
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    struct carry *c = arg;

    c->fin_wanted = true;
    if (!c->connecting && flush(c) < 0) {
        finish(c, true);
    }
}

/* Our turn among the streams: what the socket has goes out at once, without a round of the loop. */
static void on_stream_writable(struct mux_stream *stream, void *arg)
{
    struct carry *c = arg;

    if (!c->connecting && !c->read_ended && pull(c) < 0) {
        finish(c, true);
        return;
    }
    watch(c);
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct carry *c = arg;

    c->stream = NULL;
    if (code != 0) {
        finish(c, true);
    } else if (c->pending.len == 0 && !c->connecting) {
        finish(c, false);
    } else {
        watch(c);
    }
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

struct carry *carry_new(struct loop *loop, int take_fd, bool connecting, carry_ended_fn ended,
                        void *arg)
{
    struct carry *c = xnew(struct carry);

    *c = (struct carry){.fd = take_fd,
                        .connecting = connecting,
                        .far_fd = -1,
                        .loop = loop,
                        .ended = ended,
                        .arg = arg};
    c->io = loop_io_new(loop, take_fd, 0, on_socket_ready, c);
    return c;
}

void carry_join(struct carry *c, struct mux_stream *stream)
{
    c->stream = stream;
    mux_stream_set_ops(stream, &stream_ops, c);
    c->hand_over = direct_may_hand_over(stream);
    watch(c);
}
