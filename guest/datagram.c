/* SPDX-License-Identifier: Apache-2.0 */
#include "datagram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "mux/delimited.h"
#include "rpc.h"

#define PREFIX_LEN  3   /* of the longest datagram */
#define READS       128 /* before other events of the loop get their turn */
#define GATHER_SIZE (64u << 10)
#define COPY_SIZE   (GATHER_SIZE + PREFIX_LEN + DATAGRAM_MAX)

struct datagram {
    struct datagrams *datagrams;
    struct datagram *next, **link;
    struct mux_stream *stream;
    bool replied;
    int fd;
    struct loop_watch *watch;
    struct delimited in; /* from the host */
    struct buf held;     /* for the host: what found no room, begun with in the midst of one */
};

struct datagrams {
    struct loop *loop;
    struct datagram *list;
    size_t count;
    uint8_t *copy; /* COPY_SIZE, shared: never holds bytes between callbacks */
};

struct datagrams *datagrams_new(struct loop *loop)
{
    struct datagrams *datagrams = xnew(struct datagrams);

    datagrams->loop = loop;
    datagrams->copy = xmalloc(COPY_SIZE);
    return datagrams;
}

size_t datagrams_count(const struct datagrams *datagrams)
{
    return datagrams->count;
}

static void datagram_free(struct datagram *d)
{
    *d->link = d->next;
    if (d->next) {
        d->next->link = d->link;
    }
    d->datagrams->count--;
    loop_watch_free(d->watch);
    fd_close(d->fd);
    delimited_done(&d->in);
    buf_done(&d->held);
    free(d);
}

static void fail(struct datagram *d, enum mux_reset code)
{
    mux_stream_reset(d->stream, code);
    datagram_free(d);
}

void datagrams_free(struct datagrams *datagrams)
{
    if (!datagrams) {
        return;
    }
    while (datagrams->list) {
        fail(datagrams->list, MUX_RESET_CANCEL);
    }
    free(datagrams->copy);
    free(datagrams);
}

static void update_watch(struct datagram *d)
{
    bool read = d->replied && !d->held.len && mux_stream_room(d->stream);

    loop_watch_set(d->watch, read ? POLLIN : 0);
}

/* One datagram with its length to @out; returns how many bytes, 0: none is there, or -errno. */
static ssize_t read_one(const struct datagram *d, uint8_t *out)
{
    uint8_t prefix[DELIMITED_PREFIX_MAX];
    ssize_t n;
    size_t len;

    do {
        n = recv(d->fd, out + PREFIX_LEN, DATAGRAM_MAX, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    len = delimited_prefix(prefix, (size_t)n);
    memcpy(out, prefix, len);
    memmove(out + len, out + PREFIX_LEN, (size_t)n);
    return (ssize_t)len + n;
}

/* Many small ones leave as one piece. -errno: the socket is broken. */
static int read_socket(struct datagram *d)
{
    uint8_t *copy = d->datagrams->copy;
    size_t used = 0, written;
    ssize_t n = 1;

    for (int i = 0; i < READS && used < GATHER_SIZE && n > 0; i++) {
        n = read_one(d, copy + used);
        used += (size_t)MAX(n, 0);
    }
    written = mux_stream_write(d->stream, copy, used);
    buf_put(&d->held, copy + written, used - written);
    return n < 0 ? (int)n : 0;
}

static void pump(struct datagram *d)
{
    size_t n = mux_stream_write(d->stream, d->held.data, d->held.len);
    int r = 0;

    buf_drop(&d->held, n);
    if (!d->held.len) {
        buf_done(&d->held);
        r = read_socket(d);
    }
    if (r < 0) {
        fail(d, MUX_RESET_CONNECTION);
    } else {
        update_watch(d);
    }
}

static void on_socket_ready(int fd, short revents, void *arg)
{
    pump(arg);
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct datagram *d = arg;
    const uint8_t *p = data, *message = NULL;
    size_t used, message_len = 0;

    while (len) {
        int r = delimited_next(&d->in, p, len, &used, &message, &message_len);

        if (r < 0) {
            fail(d, MUX_RESET_PROTOCOL);
            return;
        }
        mux_stream_consumed(stream, used);
        p += used;
        len -= used;
        if (r == 1 && send(d->fd, message, message_len, MSG_NOSIGNAL) < 0 &&
            errno == ECONNREFUSED) {
            fail(d, MUX_RESET_CONNECTION);
            return;
        }
    }
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    mux_stream_finish(stream); /* closed() follows */
}

static void reply(struct datagram *d)
{
    d->replied = rpc_reply(d->stream, 0, NULL);
    update_watch(d);
}

static void on_stream_writable(struct mux_stream *stream, void *arg)
{
    struct datagram *d = arg;

    if (!d->replied) {
        reply(d);
    } else {
        pump(d);
    }
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    datagram_free(arg);
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

void datagram_start(struct datagrams *datagrams, struct mux_stream *stream, int take_fd,
                    const void *early, size_t early_len)
{
    struct datagram *d = xnew(struct datagram);

    *d = (struct datagram){.datagrams = datagrams,
                           .next = datagrams->list,
                           .link = &datagrams->list,
                           .stream = stream,
                           .fd = take_fd,
                           .in = DELIMITED_INIT(DATAGRAM_MAX)};
    if (d->next) {
        d->next->link = &d->next;
    }
    datagrams->list = d;
    datagrams->count++;
    d->watch = loop_watch_new(datagrams->loop, take_fd, 0, on_socket_ready, d);
    mux_stream_set_ops(stream, &stream_ops, d);
    reply(d);
    if (early_len) {
        on_stream_data(stream, early, early_len, d);
    }
}
