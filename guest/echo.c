/* SPDX-License-Identifier: Apache-2.0 */
#include "echo.h"

#include <errno.h>
#include <stdlib.h>
#include "base/alloc.h"
#include "base/buf.h"

struct echo {
    struct buf pending; /* came, not yet on its way back: not consumed */
    bool ended;
};

static void echo_free(struct echo *echo)
{
    buf_done(&echo->pending);
    free(echo);
}

static void pump(struct echo *echo, struct mux_stream *stream)
{
    size_t n = mux_stream_write(stream, echo->pending.data, echo->pending.len);

    buf_drop(&echo->pending, n);
    mux_stream_consumed(stream, n);
    if (echo->ended && !echo->pending.len) {
        mux_stream_finish(stream);
    }
}

static void on_echo_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct echo *echo = arg;

    if (buf_put(&echo->pending, data, len) < 0) { /* more than was granted */
        mux_stream_reset(stream, MUX_RESET_PROTOCOL);
        echo_free(echo);
        return;
    }
    pump(echo, stream);
}

static void on_echo_fin(struct mux_stream *stream, void *arg)
{
    struct echo *echo = arg;

    echo->ended = true;
    pump(echo, stream);
}

static void on_echo_writable(struct mux_stream *stream, void *arg)
{
    pump(arg, stream);
}

static void on_echo_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    echo_free(arg);
}

static const struct mux_stream_ops echo_ops = {
    .data = on_echo_data,
    .fin = on_echo_fin,
    .writable = on_echo_writable,
    .closed = on_echo_closed,
};

int echo_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    struct echo *echo;

    if (!rpc_reply(call->stream, 0, NULL)) {
        return error_set(err, EAGAIN, "no room for an answer");
    }
    echo = xnew(struct echo);
    echo->pending = BUF_INIT_CAP(MUX_WINDOW_MAX);
    mux_stream_set_ops(call->stream, &echo_ops, echo);
    if (call->rest_len) {
        on_echo_data(call->stream, call->rest, call->rest_len, echo);
    }
    return 0;
}
