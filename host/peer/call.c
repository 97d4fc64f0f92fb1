/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/call.h"

#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "peer/wire.h"

static int errno_of(uint32_t code)
{
    static const int codes[] = {
        [MUX_RESET_CANCEL] = ECONNABORTED, [MUX_RESET_UNKNOWN_SERVICE] = EOPNOTSUPP,
        [MUX_RESET_REFUSED] = EAGAIN,      [MUX_RESET_PROTOCOL] = EPROTO,
        [MUX_RESET_SESSION] = ENOTCONN,    [MUX_RESET_CONNECTION] = ECONNRESET,
    };

    return code < ARRAY_LEN(codes) ? codes[code] : EIO;
}

void call_free(struct call *call)
{
    if (call->gone) {
        *call->gone = true;
    }
    way_dial_cancel(call->dial);
    if (call->stream) {
        mux_stream_reset(call->stream, MUX_RESET_CANCEL);
    }
    buf_done(&call->request);
    delimited_done(&call->replies);
    free(call);
}

struct mux_stream *call_take(struct call *call)
{
    static const struct mux_stream_ops none;
    struct mux_stream *stream = steal(call->stream);

    mux_stream_set_ops(stream, &none, NULL);
    call_free(call);
    return stream;
}

/* @reset ends the stream, unless it is gone already. */
static void call_end(struct call *call, int r, const char *text, uint32_t reset)
{
    if (call->stream) {
        mux_stream_reset(steal(call->stream), reset);
    }
    call->ops->ended(call, r, text);
}

static void call_write(struct call *call)
{
    size_t n = mux_stream_write(call->stream, call->request.data, call->request.len);

    buf_drop(&call->request, n);
    if (call->request.len == 0) {
        buf_done(&call->request);
        if (call->ops->finish) {
            mux_stream_finish(call->stream);
        }
    }
}

void call_send(struct call *call, const void *data, size_t len)
{
    buf_put(&call->request, data, len);
    if (call->stream) {
        call_write(call);
    }
}

/* The first message. CALL_ON, CALL_TAKEN or -errno. */
static int on_reply(struct call *call, const uint8_t *data, size_t len)
{
    struct wire_stream_reply reply;
    int r = wire_stream_reply_decode(data, len, &reply);

    if (r < 0) {
        return r;
    }
    if (reply.error) {
        call_end(call, -reply.error, reply.message, MUX_RESET_CANCEL);
        wire_stream_reply_done(&reply);
        return CALL_TAKEN;
    }
    wire_stream_reply_done(&reply);
    call->replied = true;
    return call->ops->accepted ? call->ops->accepted(call) : CALL_ON;
}

static int on_message(struct call *call, const uint8_t *data, size_t len)
{
    if (!call->replied) {
        return on_reply(call, data, len);
    }
    return call->ops->message ? call->ops->message(call, data, len) : -EBADMSG;
}

static void on_call_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct call *call = arg;
    const uint8_t *p = data, *message = NULL;
    size_t used = 0, message_len = 0;
    bool gone = false;
    int r = 0;

    call->gone = &gone;
    while (len > 0) {
        r = delimited_next(&call->replies, p, len, &used, &message, &message_len);
        if (r < 0) {
            break;
        }
        mux_stream_consumed(stream, used);
        p += used;
        len -= used;
        if (r == 0) {
            break;
        }
        r = on_message(call, message, message_len);
        if (gone) {
            mux_stream_pass(stream, p, len); /* no-op if the stream is gone as well */
            return;
        }
        if (r < 0) {
            break;
        }
    }
    call->gone = NULL;
    if (r < 0) {
        log_debug("guest agent: malformed message: %s", strerror(-r));
        call_end(call, r, NULL, MUX_RESET_PROTOCOL);
    }
}

static void on_call_fin(struct mux_stream *stream, void *arg)
{
    struct call *call = arg;

    call_end(call, call->replied ? 0 : -EPROTO, NULL, MUX_RESET_CANCEL);
}

static void on_call_writable(struct mux_stream *stream, void *arg)
{
    struct call *call = arg;

    if (call->request.len > 0) {
        call_write(call);
    }
}

static void on_call_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct call *call = arg;

    call->stream = NULL;
    call_end(call, code ? -errno_of(code) : 0, NULL, 0);
}

static const struct mux_stream_ops call_stream_ops = {
    .data = on_call_data,
    .fin = on_call_fin,
    .writable = on_call_writable,
    .closed = on_call_closed,
};

void call_init(struct call *call, struct peer *peer, const struct call_ops *ops,
               const char *service)
{
    call->peer = peer;
    call->ops = ops;
    call->replies = DELIMITED_INIT(WIRE_MESSAGE_MAX);
    wire_put_open(&call->request, service);
}

/* What vsock did not do the session does: nothing was sent yet. */
static void on_call_dialled(struct mux_stream *stream, void *arg)
{
    struct call *call = arg;

    call->dial = NULL;
    call->stream = stream;
    if (stream) {
        mux_stream_set_ops(stream, &call_stream_ops, call);
    } else if (call->kind != WAY_KIND_PROBE) {
        call->stream = peer_stream_open(call->peer, &call_stream_ops, call);
    }
    if (call->stream) {
        call_write(call);
    } else {
        call_end(call, -ENOTCONN, NULL, 0);
    }
}

bool call_start(struct call *take_call)
{
    struct call *call = take_call;

    call->dial = ways_dial(peer_ways(call->peer), call->kind, on_call_dialled, call);
    if (call->dial) {
        return true;
    }
    if (call->kind != WAY_KIND_PROBE) {
        call->stream = peer_stream_open(call->peer, &call_stream_ops, call);
    }
    if (!call->stream) {
        call_free(call);
        return false;
    }
    call_write(call);
    return true;
}
