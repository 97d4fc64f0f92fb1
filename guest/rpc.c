/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mux/delimited.h"
#include "wire.h"

struct entry {
    struct rpc_service service;
    char *feature;
};

struct call {
    struct rpc *rpc;
    struct call *next, **link;
    struct mux_stream *stream;
    enum rpc_from from;
    const struct rpc_service *service; /* NULL until StreamOpen is read */
    char *name;
    struct delimited in;
};

struct rpc {
    struct entry *entries;
    size_t count, cap;
    struct rpc_service other; /* serve NULL: none */
    struct call *calls;
};

static void call_free(struct call *call)
{
    *call->link = call->next;
    if (call->next) {
        call->next->link = call->link;
    }
    delimited_done(&call->in);
    free(call->name);
    free(call);
}

struct rpc *rpc_new(const struct rpc_service *other)
{
    struct rpc *rpc = xnew(struct rpc);

    if (other) {
        rpc->other = *other;
    }
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
    for (size_t i = 0; i < rpc->count; i++) {
        free(rpc->entries[i].feature);
    }
    free(rpc->entries);
    free(rpc);
}

void rpc_add(struct rpc *rpc, const struct rpc_service *service)
{
    struct entry *entry;

    array_reserve(rpc->entries, rpc->cap, rpc->count + 1);
    entry = &rpc->entries[rpc->count++];
    *entry =
        (struct entry){.service = *service,
                       .feature = xstrdup(service->feature ? service->feature : service->name)};
    for (char *p = entry->feature; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
}

const char *rpc_feature(const struct rpc *rpc, size_t index)
{
    return index < rpc->count ? rpc->entries[index].feature : NULL;
}

/* ---- answers ---- */

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

bool rpc_reply(struct mux_stream *stream, int error, const char *message)
{
    lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;
    uint8_t bytes[WIRE_MAX];
    size_t len;

    reply.error = (uint32_t)error;
    if (error) {
        wire_text(reply.message, sizeof(reply.message), message ? message : strerror(error));
    }
    len = wire_encode(lima_guest_v1_StreamReply_fields, &reply, bytes);
    return mux_stream_write_all(stream, bytes, len);
}

void rpc_end(struct mux_stream *stream, const pb_msgdesc_t *fields, const void *message)
{
    uint8_t bytes[WIRE_MAX];
    size_t len = fields ? wire_encode(fields, message, bytes) : 0;

    if (!mux_stream_write_all(stream, bytes, len)) {
        mux_stream_reset(stream, MUX_RESET_REFUSED);
        return;
    }
    mux_stream_set_ops(stream, &answered_ops, NULL);
    mux_stream_finish(stream);
}

void rpc_answer(struct mux_stream *stream, const pb_msgdesc_t *fields, const void *message)
{
    if (!rpc_reply(stream, 0, NULL)) {
        mux_stream_reset(stream, MUX_RESET_REFUSED);
        return;
    }
    rpc_end(stream, fields, message);
}

void rpc_refuse(struct mux_stream *stream, int error, const char *message)
{
    if (!rpc_reply(stream, error, message)) {
        mux_stream_reset(stream, MUX_RESET_REFUSED);
        return;
    }
    mux_stream_set_ops(stream, &answered_ops, NULL);
    mux_stream_finish(stream);
}

/* ---- requests ---- */

static const struct rpc_service *find_service(const struct rpc *rpc, const char *name,
                                              enum rpc_from from)
{
    bool known = false;

    for (size_t i = 0; i < rpc->count; i++) {
        const struct rpc_service *service = &rpc->entries[i].service;
        unsigned allowed = service->from ? service->from : RPC_FROM_HOST;

        if (strcmp(service->name, name) != 0) {
            continue;
        }
        if (allowed & from) {
            return service;
        }
        known = true;
    }
    return !known && rpc->other.serve && from == RPC_FROM_HOST ? &rpc->other : NULL;
}

/* Ends a call that never came to its handler; @used of what came last are not consumed yet. */
static void refuse(struct call *call, int error, const char *message, size_t rest_len)
{
    mux_stream_consumed(call->stream, rest_len);
    rpc_refuse(call->stream, error, message);
    call_free(call);
}

/* 0, or an errno to refuse with. */
static int read_open(struct call *call, const uint8_t *body, size_t len)
{
    lima_guest_v1_StreamOpen open = lima_guest_v1_StreamOpen_init_zero;

    if (!wire_decode(body, len, lima_guest_v1_StreamOpen_fields, &open)) {
        return EBADMSG;
    }
    call->service = find_service(call->rpc, open.service, call->from);
    if (!call->service) {
        log_debug("no service '%s'", open.service);
        return EOPNOTSUPP;
    }
    call->name = xstrdup(open.service);
    call->in.max = call->service->request_max ? call->service->request_max : RPC_REQUEST_MAX;
    return 0;
}

static void serve(struct call *call, const uint8_t *body, size_t len, const uint8_t *rest,
                  size_t rest_len)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct rpc_call view = {.stream = call->stream,
                            .from = call->from,
                            .service = call->name,
                            .request = body,
                            .request_len = len,
                            .rest = rest,
                            .rest_len = rest_len};
    int r = call->service->serve(&view, call->service->arg, &err);

    if (r < 0) {
        refuse(call, -r, error_text(&err), rest_len);
    } else {
        call_free(call);
    }
}

static void on_call_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct call *call = arg;
    const uint8_t *p = data, *body = NULL;
    size_t used = 0, body_len = 0;

    while (len) {
        bool opened = call->service;
        int r = delimited_next(&call->in, p, len, &used, &body, &body_len);

        if (r < 0) {
            refuse(call, -r, "the request is malformed or too long", len);
            return;
        }
        mux_stream_consumed(stream, used);
        p += used;
        len -= used;
        if (r == 0) {
            return;
        }
        if (!opened && (r = read_open(call, body, body_len)) > 0) {
            refuse(call, r, NULL, len);
            return;
        }
        if (opened || !call->service->has_request) {
            serve(call, opened ? body : NULL, opened ? body_len : 0, p, len);
            return;
        }
    }
}

static void on_call_fin(struct mux_stream *stream, void *arg)
{
    /* A complete request would have left this table already. */
    refuse(arg, EBADMSG, "the request is not complete", 0);
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

void rpc_accept(struct rpc *rpc, struct mux_stream *stream, enum rpc_from from)
{
    struct call *call = xnew(struct call);

    *call = (struct call){.rpc = rpc,
                          .next = rpc->calls,
                          .link = &rpc->calls,
                          .stream = stream,
                          .from = from,
                          .in = DELIMITED_INIT(RPC_REQUEST_MAX)};
    if (call->next) {
        call->next->link = &call->next;
    }
    rpc->calls = call;
    mux_stream_set_ops(stream, &call_ops, call);
}
