/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc.h"

#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "info.h"
#include "wire.h"

#define REQUEST_MAX 1024 /* body of the largest request message */

struct call {
    struct rpc *rpc;
    struct call *next, **link;
    struct mux_stream *stream;
    const struct method *method; /* NULL until StreamOpen is read */
    struct buf in;
};

struct method {
    const char *name;
    bool has_request;
    /* Consumes @used bytes and ends or hands on the stream. The call is freed afterwards. */
    bool (*serve)(struct call *call, const uint8_t *body, size_t len, size_t used);
};

struct rpc {
    struct rpc_options options;
    struct call *calls;
};

static void call_free(struct call *call)
{
    *call->link = call->next;
    if (call->next) {
        call->next->link = call->link;
    }
    buf_done(&call->in);
    free(call);
}

struct rpc *rpc_new(const struct rpc_options *options)
{
    struct rpc *rpc = xnew(struct rpc);

    rpc->options = *options;
    return rpc;
}

void rpc_free(struct rpc *rpc)
{
    if (!rpc) {
        return;
    }
    while (rpc->calls) {
        mux_stream_reset(rpc->calls->stream, MUX_RESET_CANCEL);
        call_free(rpc->calls);
    }
    free(rpc);
}

static void on_idle_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_consumed(stream, len);
}

static void on_idle_event(struct mux_stream *stream, void *arg)
{
}

static void on_idle_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
}

/* Of a stream that has been answered: only the peer's end is awaited. */
static const struct mux_stream_ops answered_ops = {
    .data = on_idle_data,
    .fin = on_idle_event,
    .writable = on_idle_event,
    .closed = on_idle_closed,
};

static bool answer(struct call *call, const pb_msgdesc_t *fields, const void *message)
{
    uint8_t bytes[WIRE_MAX];
    size_t len = wire_encode(fields, message, bytes);

    mux_stream_consumed(call->stream, call->in.len);
    if (!mux_stream_write_all(call->stream, bytes, len)) {
        /* A peer that asks faster than it reads. */
        mux_stream_reset(call->stream, MUX_RESET_REFUSED);
        return true;
    }
    mux_stream_set_ops(call->stream, &answered_ops, NULL);
    mux_stream_finish(call->stream);
    return true;
}

static bool serve_info(struct call *call, const uint8_t *body, size_t len, size_t used)
{
    const struct rpc_options *options = &call->rpc->options;
    lima_guest_v1_Info info = lima_guest_v1_Info_init_zero;

    info_fill(&info);
    options->info(&info, options->arg);
    return answer(call, lima_guest_v1_Info_fields, &info);
}

static bool serve_events(struct call *call, const uint8_t *body, size_t len, size_t used)
{
    mux_stream_consumed(call->stream, call->in.len);
    events_subscribe(call->rpc->options.events, call->stream);
    return true;
}

static bool serve_tunnel(struct call *call, const uint8_t *body, size_t len, size_t used)
{
    lima_guest_v1_TunnelRequest request = lima_guest_v1_TunnelRequest_init_zero;

    if (!wire_decode(body, len, lima_guest_v1_TunnelRequest_fields, &request)) {
        return false;
    }
    mux_stream_consumed(call->stream, used);
    tunnel_start(call->rpc->options.tunnels, call->stream, &request, call->in.data + used,
                 call->in.len - used);
    return true;
}

static bool serve_shutdown(struct call *call, const uint8_t *body, size_t len, size_t used)
{
    const struct rpc_options *options = &call->rpc->options;
    lima_guest_v1_ShutdownRequest request = lima_guest_v1_ShutdownRequest_init_zero;
    lima_guest_v1_Empty empty = lima_guest_v1_Empty_init_zero;

    if (!wire_decode(body, len, lima_guest_v1_ShutdownRequest_fields, &request)) {
        return false;
    }
    answer(call, lima_guest_v1_Empty_fields, &empty);
    options->shutdown(request.reboot, options->arg);
    return true;
}

static const struct method methods[] = {
    {"Info", false, serve_info},
    {"Events", true, serve_events},
    {"Tunnel", true, serve_tunnel},
    {"Shutdown", true, serve_shutdown},
};

static const struct method *find_method(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (strcmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

static void refuse(struct call *call, enum mux_reset code)
{
    mux_stream_reset(call->stream, code);
    call_free(call);
}

/* Reads StreamOpen. 1 when it is there, 0 when more is needed, -1 when the call was refused. */
static int read_open(struct call *call)
{
    lima_guest_v1_StreamOpen open = lima_guest_v1_StreamOpen_init_zero;
    const uint8_t *body;
    size_t len, used;
    int r = wire_split((uint8_t *)call->in.data, call->in.len, REQUEST_MAX, &body, &len, &used);

    if (r == 0) {
        return 0;
    }
    if (r < 0 || !wire_decode(body, len, lima_guest_v1_StreamOpen_fields, &open)) {
        refuse(call, MUX_RESET_PROTOCOL);
        return -1;
    }
    call->method = find_method(open.service);
    if (!call->method) {
        log_debug("no service '%s'", open.service);
        refuse(call, MUX_RESET_UNKNOWN_SERVICE);
        return -1;
    }
    buf_drop(&call->in, used);
    mux_stream_consumed(call->stream, used);
    return 1;
}

/* As far as the bytes go; may free the call. */
static void advance(struct call *call)
{
    const uint8_t *body = NULL;
    size_t len = 0, used = 0;
    int r = 1;

    if (!call->method && read_open(call) != 1) {
        return;
    }
    if (call->method->has_request) {
        r = wire_split((uint8_t *)call->in.data, call->in.len, REQUEST_MAX, &body, &len, &used);
    }
    if (r == 0) {
        return;
    }
    if (r < 0 || !call->method->serve(call, body, len, used)) {
        refuse(call, MUX_RESET_PROTOCOL);
        return;
    }
    call_free(call);
}

static void on_call_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct call *call = arg;

    if (buf_put(&call->in, data, len) < 0) {
        refuse(call, MUX_RESET_PROTOCOL);
        return;
    }
    advance(call);
}

static void on_call_fin(struct mux_stream *stream, void *arg)
{
    /* A complete request would have left this table already. */
    refuse(arg, MUX_RESET_PROTOCOL);
}

static void on_call_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    call_free(arg);
}

static const struct mux_stream_ops call_ops = {
    .data = on_call_data,
    .fin = on_call_fin,
    .writable = on_idle_event,
    .closed = on_call_closed,
};

void rpc_accept(struct rpc *rpc, struct mux_stream *stream)
{
    struct call *call = xnew(struct call);

    *call = (struct call){.rpc = rpc,
                          .next = rpc->calls,
                          .link = &rpc->calls,
                          .stream = stream,
                          .in = BUF_INIT_CAP(MUX_WINDOW)};
    if (call->next) {
        call->next->link = &call->next;
    }
    rpc->calls = call;
    mux_stream_set_ops(stream, &call_ops, call);
}
