/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc.h"

#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "info.h"
#include "mux/delimited.h"
#include "wire.h"

#define REQUEST_MAX 1024 /* body of the largest request message */

struct call {
    struct rpc *rpc;
    struct call *next, **link;
    struct mux_stream *stream;
    const struct method *method; /* NULL until StreamOpen is read */
    struct delimited in;
};

/* A request and what came behind it in the same piece, which is not consumed yet. */
struct request {
    const uint8_t *body;
    size_t len;
    const uint8_t *rest;
    size_t rest_len;
};

struct method {
    const char *name;
    bool has_request;
    /* Ends or hands on the stream; false when the request is malformed. The call is freed
     * afterwards. */
    bool (*serve)(struct call *call, const struct request *request);
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
    delimited_done(&call->in);
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

/* The whole answer, then our end. Always true. */
static bool answer(struct call *call, const pb_msgdesc_t *fields, const void *message)
{
    uint8_t bytes[WIRE_MAX];
    size_t len = wire_encode(fields, message, bytes);

    if (!mux_stream_write_all(call->stream, bytes, len)) {
        /* A peer that asks faster than it reads. */
        mux_stream_reset(call->stream, MUX_RESET_REFUSED);
        return true;
    }
    mux_stream_set_ops(call->stream, &answered_ops, NULL);
    mux_stream_finish(call->stream);
    return true;
}

static bool serve_info(struct call *call, const struct request *request)
{
    const struct rpc_options *options = &call->rpc->options;
    lima_guest_v1_Info info = lima_guest_v1_Info_init_zero;

    info_fill(&info);
    options->info(&info, options->arg);
    mux_stream_consumed(call->stream, request->rest_len);
    return answer(call, lima_guest_v1_Info_fields, &info);
}

static bool serve_events(struct call *call, const struct request *request)
{
    mux_stream_consumed(call->stream, request->rest_len);
    events_subscribe(call->rpc->options.events, call->stream);
    return true;
}

static bool serve_tunnel(struct call *call, const struct request *request)
{
    lima_guest_v1_TunnelRequest message = lima_guest_v1_TunnelRequest_init_zero;

    if (!wire_decode(request->body, request->len, lima_guest_v1_TunnelRequest_fields, &message)) {
        return false;
    }
    tunnel_start(call->rpc->options.tunnels, call->stream, &message, request->rest,
                 request->rest_len);
    return true;
}

static bool serve_shutdown(struct call *call, const struct request *request)
{
    const struct rpc_options *options = &call->rpc->options;
    lima_guest_v1_ShutdownRequest message = lima_guest_v1_ShutdownRequest_init_zero;
    lima_guest_v1_Empty empty = lima_guest_v1_Empty_init_zero;

    if (!wire_decode(request->body, request->len, lima_guest_v1_ShutdownRequest_fields, &message)) {
        return false;
    }
    mux_stream_consumed(call->stream, request->rest_len);
    answer(call, lima_guest_v1_Empty_fields, &empty);
    options->shutdown(message.reboot, options->arg);
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

/* The code to refuse with, or 0. */
static enum mux_reset read_open(struct call *call, const uint8_t *body, size_t len)
{
    lima_guest_v1_StreamOpen open = lima_guest_v1_StreamOpen_init_zero;

    if (!wire_decode(body, len, lima_guest_v1_StreamOpen_fields, &open)) {
        return MUX_RESET_PROTOCOL;
    }
    call->method = find_method(open.service);
    if (!call->method) {
        log_debug("no service '%s'", open.service);
        return MUX_RESET_UNKNOWN_SERVICE;
    }
    return 0;
}

static void serve(struct call *call, const struct request *request)
{
    if (call->method->serve(call, request)) {
        call_free(call);
    } else {
        refuse(call, MUX_RESET_PROTOCOL);
    }
}

static void on_call_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct call *call = arg;
    struct request request = {.rest = data, .rest_len = len};
    enum mux_reset code = 0;

    while (request.rest_len && !code) {
        bool opened = call->method;
        size_t used;
        int r = delimited_next(&call->in, request.rest, request.rest_len, &used, &request.body,
                               &request.len);

        if (r < 0) {
            code = MUX_RESET_PROTOCOL;
            break;
        }
        mux_stream_consumed(stream, used);
        request.rest += used;
        request.rest_len -= used;
        if (r == 1 && !opened) {
            code = read_open(call, request.body, request.len);
        }
        if (r == 1 && !code && (opened || !call->method->has_request)) {
            serve(call, &request);
            return;
        }
    }
    if (code) {
        refuse(call, code);
    }
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
                          .in = DELIMITED_INIT(REQUEST_MAX)};
    if (call->next) {
        call->next->link = &call->next;
    }
    rpc->calls = call;
    mux_stream_set_ops(stream, &call_ops, call);
}
