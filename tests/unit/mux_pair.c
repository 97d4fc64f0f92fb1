/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "mux_pair.h"

static void stream_go_on(struct pair_stream *stream)
{
    size_t n = mux_stream_write(stream->handle, stream->send, stream->send_left);

    stream->send += n;
    stream->send_left -= n;
    if (stream->send_left == 0 && stream->finish) {
        stream->finish = false;
        mux_stream_finish(stream->handle);
    }
}

static void on_stream_data(struct mux_stream *handle, const void *data, size_t len, void *arg)
{
    struct pair_stream *stream = arg;

    assert_ptr_equal(handle, stream->handle);
    assert_false(stream->fin || stream->closed);
    buf_put(&stream->got, data, len);
    if (stream->hold) {
        stream->held += len;
    } else {
        mux_stream_consumed(handle, len);
    }
}

static void on_stream_fin(struct mux_stream *handle, void *arg)
{
    struct pair_stream *stream = arg;

    assert_false(stream->fin || stream->closed);
    stream->fin = true;
}

static void on_stream_writable(struct mux_stream *handle, void *arg)
{
    struct pair_stream *stream = arg;

    assert_false(stream->closed);
    stream->writable++;
    stream_go_on(stream);
}

static void on_stream_closed(struct mux_stream *handle, uint32_t code, void *arg)
{
    struct pair_stream *stream = arg;

    assert_false(stream->closed);
    stream->closed = true;
    stream->code = code;
    stream->handle = NULL;
}

const struct mux_stream_ops pair_stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

static void on_mux_up(struct mux *mux, void *arg)
{
    ((struct pair_end *)arg)->ups++;
}

static void on_mux_down(struct mux *mux, void *arg)
{
    struct pair_end *end = arg;

    end->downs++;
    assert_int_equal(mux_stream_count(mux), 0);
}

static struct pair_stream *stream_add(struct pair_end *end, struct mux_stream *handle)
{
    struct pair_stream *stream = &end->streams[end->count++ % PAIR_STREAMS];

    buf_done(&stream->got);
    *stream = (struct pair_stream){.end = end, .handle = handle, .hold = end->hold};
    return stream;
}

static void on_mux_opened(struct mux *mux, struct mux_stream *handle, void *arg)
{
    static const struct mux_stream_ops nothing;
    struct pair_end *end = arg;

    if (end->ignore) {
        mux_stream_set_ops(handle, &nothing, NULL);
    } else if (!end->refuse) {
        mux_stream_set_ops(handle, &pair_stream_ops, stream_add(end, handle));
    }
}

static void on_mux_pong(struct mux *mux, const uint8_t data[8], void *arg)
{
    ((struct pair_end *)arg)->pongs++;
}

static void on_mux_output(struct mux *mux, void *arg)
{
}

static const struct mux_ops pair_ops = {
    .up = on_mux_up,
    .down = on_mux_down,
    .opened = on_mux_opened,
    .pong = on_mux_pong,
    .output = on_mux_output,
};

/* Nonces that differ each time and are the same in each run. */
static void pair_random(void *out, size_t len, void *arg)
{
    struct pair *pair = arg;
    uint8_t *bytes = out;

    pair->seed++;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(pair->seed * 59 + i * 101 + 7);
    }
}

static void end_init(struct pair *pair, struct pair_end *end, enum mux_role role)
{
    end->mux = mux_new(role, &pair_ops, end);
    mux_set_random(end->mux, pair_random, pair);
}

void pair_init(struct pair *pair)
{
    *pair = (struct pair){0};
    end_init(pair, &pair->host, MUX_ROLE_HOST);
    end_init(pair, &pair->guest, MUX_ROLE_GUEST);
}

static void end_done(struct pair_end *end)
{
    mux_free(end->mux);
    buf_done(&end->pipe);
    for (size_t i = 0; i < PAIR_STREAMS; i++) {
        buf_done(&end->streams[i].got);
    }
}

void pair_done(struct pair *pair)
{
    end_done(&pair->host);
    end_done(&pair->guest);
}

size_t pair_pull(struct pair_end *end)
{
    const void *data;
    size_t total = 0, n;

    while ((n = mux_output(end->mux, &data)) > 0) {
        n = MIN(n, (size_t)32768); /* as much as one write to a port takes */
        buf_put(&end->pipe, data, n);
        mux_output_done(end->mux, n);
        total += n;
    }
    return total;
}

void pair_push(struct pair_end *from, struct pair_end *to, size_t len, size_t piece)
{
    len = MIN(len, from->pipe.len);
    while (len > 0) {
        size_t n = piece ? MIN(piece, len) : len;
        scoped(free) void *copy = xmemdup(from->pipe.data, n); /* tight, for the sanitizer */

        buf_drop(&from->pipe, n);
        mux_input(to->mux, copy, n);
        len -= n;
    }
}

void pair_run(struct pair *pair, size_t piece)
{
    size_t quiet = 0;

    while (quiet < 2) {
        pair_pull(&pair->host);
        pair_pull(&pair->guest);
        quiet = pair->host.pipe.len + pair->guest.pipe.len ? 0 : quiet + 1;
        pair_push(&pair->host, &pair->guest, SIZE_MAX, piece);
        pair_push(&pair->guest, &pair->host, SIZE_MAX, piece);
    }
}

void pair_up(struct pair *pair)
{
    mux_start(pair->host.mux, false);
    mux_start(pair->guest.mux, false);
    pair_run(pair, 0);
    assert_true(mux_is_up(pair->host.mux));
    assert_true(mux_is_up(pair->guest.mux));
}

struct pair_stream *pair_open(struct pair_end *end)
{
    struct pair_stream *stream = stream_add(end, NULL);

    stream->handle = mux_open(end->mux, &pair_stream_ops, stream);
    return stream;
}

void pair_send(struct pair_stream *stream, const void *data, size_t len, bool finish)
{
    stream->send = data;
    stream->send_left = len;
    stream->finish = finish;
    stream_go_on(stream);
}

struct pair_stream *pair_last(struct pair_end *end)
{
    assert_true(end->count > 0);
    return &end->streams[(end->count - 1) % PAIR_STREAMS];
}

void pair_consume(struct pair_stream *stream)
{
    size_t held = stream->held;

    stream->held = 0;
    if (stream->handle) {
        mux_stream_consumed(stream->handle, held);
    }
}
