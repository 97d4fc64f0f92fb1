/* SPDX-License-Identifier: Apache-2.0 */
#include "incoming.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"

struct waiting {
    struct incoming *incoming;
    struct incoming_owner *owner;
    struct waiting *next, **link; /* in order of arrival */
    uint64_t id;
    uint64_t due_us;
    int fd;
    struct mux_stream *stream;
    struct buf early;
    bool ended;
};

struct incoming {
    unsigned wait_ms;
    struct loop_timer *timer; /* for the first */
    struct waiting *first, **end;
};

static void start_timer(struct incoming *incoming)
{
    uint64_t now = loop_now_us();

    if (!incoming->first) {
        loop_timer_stop(incoming->timer);
    } else {
        uint64_t due = incoming->first->due_us;

        loop_timer_start(incoming->timer, due > now ? (unsigned)((due - now) / 1000 + 1) : 0);
    }
}

/* Out of the list; what it held stays with the caller. */
static void unlink_waiting(struct waiting *w)
{
    struct incoming *incoming = w->incoming;

    *w->link = w->next;
    if (w->next) {
        w->next->link = w->link;
    } else {
        incoming->end = w->link;
    }
    w->owner->waiting--;
    start_timer(incoming);
}

static void discard(struct waiting *w)
{
    struct linger linger = {.l_onoff = 1}; /* so that the other end sees that nobody took it */

    unlink_waiting(w);
    if (w->fd >= 0) {
        setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        fd_close(w->fd);
    }
    if (w->stream) {
        mux_stream_reset(w->stream, MUX_RESET_REFUSED);
    }
    buf_done(&w->early);
    free(w);
}

static void on_due(void *arg)
{
    struct incoming *incoming = arg;
    uint64_t now = loop_now_us();

    while (incoming->first && incoming->first->due_us <= now) {
        struct incoming_owner *owner = incoming->first->owner;

        discard(incoming->first);
        if (owner->room) {
            owner->room(owner);
        }
    }
    start_timer(incoming);
}

struct incoming *incoming_new(struct loop *loop, unsigned wait_ms)
{
    struct incoming *incoming = xnew(struct incoming);

    incoming->wait_ms = wait_ms;
    incoming->timer = loop_timer_new(loop, on_due, incoming);
    incoming->end = &incoming->first;
    return incoming;
}

void incoming_free(struct incoming *incoming)
{
    if (!incoming) {
        return;
    }
    while (incoming->first) {
        discard(incoming->first);
    }
    loop_timer_free(incoming->timer);
    free(incoming);
}

bool incoming_has_room(const struct incoming_owner *owner)
{
    return owner->waiting < INCOMING_MAX;
}

static struct waiting *find(const struct incoming *incoming, uint64_t id)
{
    struct waiting *w = incoming->first;

    while (w && w->id != id) {
        w = w->next;
    }
    return w;
}

static uint64_t draw_id(const struct incoming *incoming)
{
    uint64_t id = 0;

    while (!id || find(incoming, id)) {
        if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id)) {
            abort(); /* no kernel that we run on refuses so few bytes */
        }
    }
    return id;
}

static struct waiting *add(struct incoming *incoming, struct incoming_owner *owner)
{
    struct waiting *w = xnew(struct waiting);

    assert(incoming_has_room(owner));
    *w = (struct waiting){.incoming = incoming,
                          .owner = owner,
                          .link = incoming->end,
                          .id = draw_id(incoming),
                          .due_us = loop_now_us() + incoming->wait_ms * 1000ull,
                          .fd = -1,
                          .early = BUF_INIT_CAP(MUX_WINDOW_MAX)};
    *incoming->end = w;
    incoming->end = &w->next;
    owner->waiting++;
    start_timer(incoming);
    return w;
}

uint64_t incoming_add_fd(struct incoming *incoming, struct incoming_owner *owner, int take_fd)
{
    struct waiting *w = add(incoming, owner);

    w->fd = take_fd;
    return w->id;
}

static void gone(struct waiting *w)
{
    struct incoming_owner *owner = w->owner;

    discard(w);
    if (owner->room) {
        owner->room(owner);
    }
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct waiting *w = arg;

    if (buf_put(&w->early, data, len) < 0) { /* more than was granted */
        gone(w);
    }
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    ((struct waiting *)arg)->ended = true;
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct waiting *w = arg;

    w->stream = NULL;
    gone(w);
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .closed = on_stream_closed,
};

uint64_t incoming_add_stream(struct incoming *incoming, struct incoming_owner *owner,
                             struct mux_stream *stream)
{
    struct waiting *w = add(incoming, owner);

    w->stream = stream;
    mux_stream_set_ops(stream, &stream_ops, w);
    return w->id;
}

bool incoming_take(struct incoming *incoming, uint64_t id, enum incoming_for by,
                   struct incoming_taken *ret)
{
    struct waiting *w = find(incoming, id);
    struct incoming_owner *owner;

    if (!w || w->owner->accepts != by) {
        return false;
    }
    owner = w->owner;
    unlink_waiting(w);
    *ret = (struct incoming_taken){
        .fd = w->fd, .stream = w->stream, .early = w->early, .ended = w->ended};
    free(w);
    if (owner->room) {
        owner->room(owner);
    }
    return true;
}

void incoming_drop(struct incoming *incoming, struct incoming_owner *owner)
{
    struct waiting *next;

    for (struct waiting *w = incoming->first; w; w = next) {
        next = w->next;
        if (w->owner == owner) {
            discard(w);
        }
    }
}
