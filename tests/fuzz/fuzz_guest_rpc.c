/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said to the guest agent: one call after the other on connections of their own. The first
 * byte of the input is the size of the pieces that it arrives in, the others are what arrives:
 * StreamOpen, request, and what follows. Requests of services that would do something to this
 * machine are only decoded; the clock's and the upgrade's are served with nothing behind them.
 *
 * What must hold: an answer begins with a StreamReply, consists of whole messages if its end is not
 * a reset, and nothing is left when the connection is gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "clock.h"
#include "events.h"
#include "fuzz.h"
#include "loop.h"
#include "mux/direct.h"
#include "rpc.h"
#include "upgrade.h"
#include "wire.h"

static int64_t no_time(void *arg)
{
    return 1;
}

static bool is_not_disciplined(void *arg)
{
    return false;
}

static int do_not_adjust(int64_t offset_ns, void *arg)
{
    return offset_ns % 2 ? -EPERM : 0;
}

static const struct clock_ops ops = {no_time, is_not_disciplined, do_not_adjust, do_not_adjust};

/* @arg: descriptor of the request. */
static int decode_only(const struct rpc_call *call, void *arg, struct error *err)
{
    static union {
        lima_guest_v1_InfoRequest info;
        lima_guest_v1_TunnelRequest tunnel;
        lima_guest_v1_ListenRequest listen;
        lima_guest_v1_AcceptRequest accept;
        lima_guest_v1_RegisterRequest reg;
        lima_guest_v1_ExecRequest exec;
        lima_guest_v1_RedirectRequest redirect;
        lima_guest_v1_ShutdownRequest shutdown;
    } request;

    memset(&request, 0, sizeof(request));
    if (!wire_decode(call->request, call->request_len, arg, &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    mux_stream_consumed(call->stream, call->rest_len);
    rpc_answer(call->stream, NULL, NULL);
    return 0;
}

static const struct {
    const char *name;
    const pb_msgdesc_t *request;
} decoded[] = {
    {"Info", lima_guest_v1_InfoRequest_fields},
    {"Tunnel", lima_guest_v1_TunnelRequest_fields},
    {"Listen", lima_guest_v1_ListenRequest_fields},
    {"Accept", lima_guest_v1_AcceptRequest_fields},
    {"Register", lima_guest_v1_RegisterRequest_fields},
    {"Exec", lima_guest_v1_ExecRequest_fields},
    {"Redirect", lima_guest_v1_RedirectRequest_fields},
    {"Shutdown", lima_guest_v1_ShutdownRequest_fields},
};

struct world {
    struct loop *loop;
    struct clock_service *clock;
    struct upgrade *upgrade;
    struct events *events;
    struct rpc *rpc;
    struct mux *mux;
    struct buf out;
};

static void on_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    rpc_accept(((struct world *)arg)->rpc, stream, RPC_FROM_HOST);
}

static void on_output(struct mux *mux, void *arg)
{
}

static const struct mux_ops mux_ops = {.opened = on_opened, .output = on_output};

static void on_replaced(void *arg)
{
    CHECK(false); /* there is no program that could be */
}

static void add_services(struct world *w)
{
    for (size_t i = 0; i < ARRAY_LEN(decoded); i++) {
        rpc_add(w->rpc, &(struct rpc_service){.name = decoded[i].name,
                                              .has_request = true,
                                              .serve = decode_only,
                                              .arg = (void *)decoded[i].request});
    }
    rpc_add(w->rpc, &(struct rpc_service){.name = "Clock", .serve = clock_serve, .arg = w->clock});
    rpc_add(w->rpc,
            &(struct rpc_service){
                .name = "Events", .has_request = true, .serve = events_serve, .arg = w->events});
    rpc_add(w->rpc,
            &(struct rpc_service){
                .name = "Upgrade", .has_request = true, .serve = upgrade_serve, .arg = w->upgrade});
}

static void begin(struct world *w, const struct portset *ports)
{
    w->loop = loop_new();
    w->clock = clock_service_new(w->loop, &ops, NULL);
    w->upgrade = upgrade_new(&(struct upgrade_options){
        .loop = w->loop, .program = "/dev/null/lima-guestagent", .replaced = on_replaced});
    w->events = events_new(ports);
    w->rpc = rpc_new(NULL);
    add_services(w);
    w->mux = direct_new(DIRECT_FORM_BARE, &mux_ops, w);
    direct_accept(w->mux);
}

static void finish(struct world *w)
{
    upgrade_free(w->upgrade);
    clock_service_free(w->clock);
    rpc_free(w->rpc);
    events_free(w->events);
    mux_free(w->mux);
    loop_free(w->loop);
    buf_done(&w->out);
}

static void pull(struct world *w)
{
    const void *data;
    size_t len;

    while ((len = mux_output(w->mux, &data)) > 0) {
        buf_put(&w->out, data, len);
        mux_output_done(w->mux, len);
    }
}

static bool is_open(const struct world *w)
{
    enum direct_state state = direct_state(w->mux);

    return state == DIRECT_STATE_OPEN || state == DIRECT_STATE_SHUT;
}

static void push(struct world *w, const uint8_t *data, size_t len, size_t piece)
{
    while (len > 0 && is_open(w)) {
        size_t n = MIN(MIN(len, piece), direct_room(w->mux));

        if (n == 0) {
            return; /* nobody takes it: the connection would wait */
        }
        direct_input(w->mux, data, n);
        data += n;
        len -= n;
        pull(w);
    }
}

/* The answer so far: a StreamReply, then messages. */
static void check_answer(const struct world *w)
{
    scoped(delimited_done) struct delimited in = DELIMITED_INIT(WIRE_MAX);
    const uint8_t *p = (const uint8_t *)buf_str(&w->out), *body;
    size_t len = w->out.len, used, body_len;
    int r, count = 0;

    while (len > 0) {
        lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;

        r = delimited_next(&in, p, len, &used, &body, &body_len);
        CHECK(r == 1);
        CHECK(count++ > 0 || wire_decode(body, body_len, lima_guest_v1_StreamReply_fields, &reply));
        p += used;
        len -= used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct portset ports;
    struct world w = {0};

    if (len == 0) {
        return 0;
    }
    log_set_level(LOG_LEVEL_FATAL);
    begin(&w, &ports);
    push(&w, data + 1, len - 1, data[0] ? data[0] : len);
    if (is_open(&w)) {
        direct_end(w.mux);
        pull(&w);
    }
    check_answer(&w);
    finish(&w);
    return 0;
}
