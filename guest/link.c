/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define READ_SIZE (64u << 10)

struct link {
    struct links *links;
    struct link *next, **back;
    int fd;
    enum rpc_from from;
    struct loop_watch *watch;
    struct mux *mux;
    bool eof; /* was read */
    bool due; /* links_flush() has to look at it */
};

struct links {
    struct loop *loop;
    struct rpc *rpc;
    struct link *list;
    size_t count;
    char *buffer; /* READ_SIZE, never holds bytes between callbacks */
};

struct links *links_new(struct loop *loop, struct rpc *rpc)
{
    struct links *links = xnew(struct links);

    links->loop = loop;
    links->rpc = rpc;
    links->buffer = xmalloc(READ_SIZE);
    return links;
}

static void link_free(struct link *link)
{
    *link->back = link->next;
    if (link->next) {
        link->next->back = link->back;
    }
    link->links->count--;
    loop_watch_free(link->watch);
    fd_close(link->fd);
    mux_free(link->mux); /* the stream, if it is there still, hears of it */
    free(link);
}

void links_free(struct links *links)
{
    if (!links) {
        return;
    }
    while (links->list) {
        link_free(links->list);
    }
    free(links->buffer);
    free(links);
}

size_t links_count(const struct links *links)
{
    return links->count;
}

/* Makes the other end see a reset rather than an end. */
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

    link->due = false;
    if (link->fd < 0) { /* given away */
        link_free(link);
        return;
    }
    if (direct_state(link->mux) != DIRECT_STATE_BROKEN && write_output(link) < 0) {
        direct_break(link->mux);
    }
    switch (direct_state(link->mux)) {
    case DIRECT_STATE_BROKEN:
        break_socket(link);
        link_free(link);
        return;
    case DIRECT_STATE_OVER:
        link_free(link);
        return;
    case DIRECT_STATE_SHUT:
        shutdown(link->fd, SHUT_WR);
        direct_shut(link->mux);
        if (direct_state(link->mux) == DIRECT_STATE_OVER) {
            link_free(link);
            return;
        }
        break;
    case DIRECT_STATE_OPEN:
        break;
    }
    /* POLLERR asks for nothing and lets a hang-up be seen. */
    loop_watch_set(link->watch,
                   (short)((direct_room(link->mux) ? POLLIN : 0) | (link->eof ? POLLERR : 0) |
                           (mux_output(link->mux, &data) ? POLLOUT : 0)));
}

static void read_input(struct link *link)
{
    size_t room = MIN(direct_room(link->mux), READ_SIZE);
    ssize_t n;

    if (!room) {
        return;
    }
    n = recv(link->fd, link->links->buffer, room, 0);
    if (n > 0) {
        direct_input(link->mux, link->links->buffer, (size_t)n);
    } else if (n == 0) {
        link->eof = true;
        direct_end(link->mux);
    } else if (errno != EAGAIN && errno != EINTR) {
        direct_break(link->mux);
    }
}

static void on_link_ready(int fd, short revents, void *arg)
{
    struct link *link = arg;

    if (link->eof && (revents & (POLLERR | POLLHUP))) {
        direct_break(link->mux); /* who said all has left: there is nobody to answer */
    } else if (revents & ~POLLOUT) {
        read_input(link);
    }
    settle(link);
}

static void on_mux_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    struct link *link = arg;

    rpc_accept(link->links->rpc, stream, link->from);
}

static void on_mux_output(struct mux *mux, void *arg)
{
    struct link *link = arg;

    link->due = true;
}

static int on_mux_take(struct mux *mux, void *arg)
{
    struct link *link = arg;

    loop_watch_free(steal(link->watch));
    link->due = true;
    return steal_fd(&link->fd);
}

static const struct mux_ops mux_ops = {
    .opened = on_mux_opened, .output = on_mux_output, .take = on_mux_take};

void links_add(struct links *links, int take_fd, enum direct_form form, enum rpc_from from)
{
    struct link *link;

    if (links->count >= LINKS_MAX) {
        log_debug("too many connections, ignoring one");
        fd_close(take_fd);
        return;
    }
    link = xnew(struct link);
    *link = (struct link){
        .links = links, .next = links->list, .back = &links->list, .fd = take_fd, .from = from};
    if (link->next) {
        link->next->back = &link->next;
    }
    links->list = link;
    links->count++;
    link->watch = loop_watch_new(links->loop, take_fd, POLLIN, on_link_ready, link);
    link->mux = direct_new(form, &mux_ops, link);
    direct_accept(link->mux);
}

bool links_flush(struct links *links)
{
    bool busy = false;

    for (struct link *link = links->list, *next; link; link = next) {
        next = link->next;
        if (link->due) {
            busy = true;
            settle(link);
        }
    }
    return busy;
}
