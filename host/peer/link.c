/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/link.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"

#define READ_SIZE (64u << 10)

struct link {
    struct mux *mux;
    int fd;
    struct loop_io *io;
    struct event *due; /* active while settle() is to be called */
    link_closed_fn closed;
    void *arg;
};

void link_free(struct link *link)
{
    if (!link) {
        return;
    }
    event_free(link->due);
    loop_io_free(link->io);
    fd_close(link->fd);
    mux_free(link->mux);
    free(link);
}

static void end(struct link *link)
{
    link_closed_fn closed = link->closed;
    void *arg = link->arg;

    link_free(link);
    if (closed) {
        closed(arg);
    }
}

static void break_socket(struct link *link)
{
    struct linger linger = {.l_onoff = 1};

    setsockopt(link->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

/* 0 when all is out or the socket is full, -errno when it is broken. */
static int write_output(struct link *link)
{
    const void *data;
    size_t len;

    while ((len = mux_output(link->mux, &data)) > 0) {
        ssize_t n = send(link->fd, data, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN ? 0 : -errno;
        }
        mux_output_done(link->mux, (size_t)n);
    }
    return 0;
}

/* Output, ends and what is waited for. May free the link. */
static void settle(struct link *link)
{
    const void *data;

    if (link->fd < 0) { /* given away */
        end(link);
        return;
    }
    if (direct_state(link->mux) != DIRECT_STATE_BROKEN && write_output(link) < 0) {
        direct_break(link->mux);
    }
    switch (direct_state(link->mux)) {
    case DIRECT_STATE_BROKEN:
        break_socket(link);
        end(link);
        return;
    case DIRECT_STATE_OVER:
        end(link);
        return;
    case DIRECT_STATE_SHUT:
        shutdown(link->fd, SHUT_WR);
        direct_shut(link->mux);
        if (direct_state(link->mux) == DIRECT_STATE_OVER) {
            end(link);
            return;
        }
        break;
    case DIRECT_STATE_OPEN:
        break;
    }
    loop_io_want(link->io, (short)((direct_room(link->mux) ? EV_READ : 0) |
                                   (mux_output(link->mux, &data) ? EV_WRITE : 0)));
}

static void read_input(struct link *link)
{
    uint8_t chunk[READ_SIZE];
    size_t room = MIN(direct_room(link->mux), sizeof(chunk));
    ssize_t n;

    if (!room) {
        return;
    }
    n = recv(link->fd, chunk, room, 0);
    if (n > 0) {
        direct_input(link->mux, chunk, (size_t)n);
    } else if (n == 0) {
        direct_end(link->mux);
    } else if (errno != EAGAIN && errno != EINTR) {
        direct_break(link->mux);
    }
}

static void on_link_ready(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;

    if (what & EV_READ) {
        read_input(link);
    }
    settle(link);
}

static void on_link_due(evutil_socket_t fd, short what, void *arg)
{
    settle(arg);
}

static void on_mux_output(struct mux *mux, void *arg)
{
    struct link *link = arg;

    if (link->due) {
        event_active(link->due, EV_TIMEOUT, 0);
    }
}

static int on_mux_take(struct mux *mux, void *arg)
{
    struct link *link = arg;

    loop_io_free(steal(link->io));
    event_active(link->due, EV_TIMEOUT, 0);
    return steal_fd(&link->fd);
}

static const struct mux_ops mux_ops = {.output = on_mux_output, .take = on_mux_take};

struct link *link_new(struct loop *loop, int take_fd, enum direct_form form,
                      struct mux_stream **ret_stream, link_closed_fn closed, void *arg)
{
    static const struct mux_stream_ops none;
    struct link *link = xnew(struct link);

    link->fd = take_fd;
    link->closed = closed;
    link->arg = arg;
    link->due = event_new(loop_base(loop), -1, 0, on_link_due, link);
    link->io = loop_io_new(loop, take_fd, EV_READ, on_link_ready, link);
    link->mux = direct_new(form, &mux_ops, link);
    *ret_stream = direct_open(link->mux, &none, NULL);
    return link;
}
