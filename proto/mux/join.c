/* SPDX-License-Identifier: Apache-2.0 */
#include "mux/join.h"

#include <stdlib.h>
#include "base/alloc.h"
#include "base/buf.h"

struct half {
    struct join *join;
    struct mux_stream *stream; /* NULL: gone */
    struct buf pending;        /* of this stream, for the other one */
    bool ended;                /* this stream has said all */
    bool passed;               /* and the other one's direction was finished */
};

struct join {
    struct half halves[2];
    join_done_fn *done;
    void *arg;
};

static struct half *other_of(struct half *half)
{
    struct join *join = half->join;

    return half == &join->halves[0] ? &join->halves[1] : &join->halves[0];
}

void join_free(struct join *join)
{
    if (!join) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (join->halves[i].stream) {
            mux_stream_reset(join->halves[i].stream, MUX_RESET_CANCEL);
        }
        buf_done(&join->halves[i].pending);
    }
    free(join);
}

/* Its streams are gone. */
static void finish(struct join *join, bool ordered)
{
    join_done_fn *done = join->done;
    void *arg = join->arg;

    join_free(join);
    if (done) {
        done(ordered, arg);
    }
}

/* What waits of @half goes on, then its end. */
static void pump(struct half *half)
{
    struct half *to = other_of(half);
    size_t n;

    if (!to->stream) {
        return;
    }
    if (half->pending.len) {
        n = mux_stream_write(to->stream, half->pending.data, half->pending.len);
        buf_drop(&half->pending, n);
        if (half->stream) {
            mux_stream_consumed(half->stream, n);
        }
    }
    if (half->pending.len) {
        return;
    }
    buf_done(&half->pending); /* an idle join holds no memory */
    half->pending = BUF_INIT_CAP(MUX_WINDOW_MAX);
    if (half->ended && !half->passed) {
        half->passed = true;
        mux_stream_finish(to->stream);
    }
}

/* One end broke: so does the other. */
static void fail(struct half *half, uint32_t code)
{
    struct half *to = other_of(half);

    if (half->stream) {
        mux_stream_reset(steal(half->stream), code);
    }
    if (to->stream) {
        mux_stream_reset(steal(to->stream), code);
    }
    finish(half->join, false);
}

static void on_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct half *half = arg;
    struct half *to = other_of(half);
    size_t n = 0;

    if (!to->stream) { /* gone in good order: nobody wants it */
        mux_stream_consumed(stream, len);
        return;
    }
    if (!half->pending.len) {
        n = mux_stream_write(to->stream, data, len);
        mux_stream_consumed(stream, n);
    }
    if (n < len && buf_put(&half->pending, (const char *)data + n, len - n) < 0) {
        fail(half, MUX_RESET_PROTOCOL); /* more than was granted */
    }
}

static void on_fin(struct mux_stream *stream, void *arg)
{
    struct half *half = arg;

    half->ended = true;
    pump(half);
}

static void on_writable(struct mux_stream *stream, void *arg)
{
    pump(other_of(arg));
}

static void on_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct half *half = arg;

    half->stream = NULL;
    if (code) {
        fail(half, code == MUX_RESET_SESSION ? MUX_RESET_CONNECTION : code);
    } else if (!other_of(half)->stream) {
        finish(half->join, true);
    }
}

static const struct mux_stream_ops stream_ops = {
    .data = on_data,
    .fin = on_fin,
    .writable = on_writable,
    .closed = on_closed,
};

struct join *join_new(struct mux_stream *a, struct mux_stream *b, join_done_fn *done, void *arg)
{
    struct join *join = xnew(struct join);
    struct mux_stream *streams[] = {a, b};

    join->done = done;
    join->arg = arg;
    for (int i = 0; i < 2; i++) {
        join->halves[i] = (struct half){
            .join = join, .stream = streams[i], .pending = BUF_INIT_CAP(MUX_WINDOW_MAX)};
        mux_stream_set_ops(streams[i], &stream_ops, &join->halves[i]);
    }
    return join;
}

void join_early(struct join *join, const void *data, size_t len, bool ended)
{
    struct half *half = &join->halves[0];

    buf_put(&half->pending, data, len);
    half->ended = ended;
    pump(half);
}
