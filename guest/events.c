/* SPDX-License-Identifier: Apache-2.0 */
#include "events.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "loop.h"
#include "rpc.h"
#include "wire.h"

#define PORTS_PER_EVENT 64

static_assert(ARRAY_LEN(((lima_guest_v1_Ports *)0)->added) == PORTS_PER_EVENT, "guest.options");
static_assert(ARRAY_LEN(((lima_guest_v1_Ports *)0)->removed) == PORTS_PER_EVENT, "guest.options");
static_assert(ARRAY_LEN(((lima_guest_v1_EventsRequest *)0)->udp_wanted) == UDP_WANTED_MAX,
              "guest.options");
static_assert((int)PORT_UDP == lima_guest_v1_Port_Protocol_UDP, "guest.proto");
static_assert((int)PORT_CONTAINER == lima_guest_v1_Port_Origin_CONTAINER, "guest.proto");
static_assert((int)PORT_KUBERNETES == lima_guest_v1_Port_Origin_KUBERNETES, "guest.proto");

struct entry {
    size_t len;
    uint8_t *bytes; /* as they go on the wire */
};

struct subscriber {
    struct events *events;
    struct subscriber *next;
    struct mux_stream *stream;
    size_t told;          /* entries of the history */
    struct portset ports; /* that it knows */
    bool replied;         /* StreamReply is out */
    bool snapshot_sent;
    struct udp_range wanted[UDP_WANTED_MAX];
    size_t wanted_count;
    size_t held_len; /* an encoded ports event that found no room yet */
    uint8_t *held;
};

struct events {
    const struct portset *ports;
    events_wanted_fn *wanted;
    void *wanted_arg;
    struct subscriber *subscribers;
    struct entry *history;
    size_t count;
    size_t cap;
};

struct events *events_new(const struct portset *ports)
{
    struct events *events = xnew(struct events);

    events->ports = ports;
    return events;
}

void events_set_wanted(struct events *events, events_wanted_fn *fn, void *arg)
{
    events->wanted = fn;
    events->wanted_arg = arg;
}

static void subscriber_free(struct subscriber *sub)
{
    struct subscriber **link;

    for (link = &sub->events->subscribers; *link != sub; link = &(*link)->next) {
    }
    *link = sub->next;
    portset_done(&sub->ports);
    free(sub->held);
    free(sub);
}

void events_free(struct events *events)
{
    if (!events) {
        return;
    }
    while (events->subscribers) {
        mux_stream_reset(events->subscribers->stream, MUX_RESET_CANCEL);
        subscriber_free(events->subscribers);
    }
    for (size_t i = 0; i < events->count; i++) {
        free(events->history[i].bytes);
    }
    free(events->history);
    free(events);
}

static void put_ports(lima_guest_v1_Port *to, const struct portset_entry *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = (lima_guest_v1_Port){
            .protocol = (lima_guest_v1_Port_Protocol)from[i].protocol,
            .port = from[i].port,
            .origin = (lima_guest_v1_Port_Origin)from[i].origin,
        };
        to[i].address.size = from[i].address_len;
        memcpy(to[i].address.bytes, from[i].address, from[i].address_len);
    }
}

/* Encodes the next difference of ports into held; false when there is none. */
static bool hold_ports(struct subscriber *sub)
{
    struct portset_entry added[PORTS_PER_EVENT], removed[PORTS_PER_EVENT];
    size_t added_count, removed_count;
    lima_guest_v1_Event event = lima_guest_v1_Event_init_zero;
    uint8_t bytes[WIRE_MAX];

    if (!portset_advance(&sub->ports, sub->events->ports, PORTS_PER_EVENT, added, &added_count,
                         removed, &removed_count) &&
        sub->snapshot_sent) {
        return false;
    }
    event.uptime_us = loop_now_us();
    event.which_kind = lima_guest_v1_Event_ports_tag;
    event.kind.ports.snapshot = !sub->snapshot_sent;
    event.kind.ports.added_count = (pb_size_t)added_count;
    event.kind.ports.removed_count = (pb_size_t)removed_count;
    put_ports(event.kind.ports.added, added, added_count);
    put_ports(event.kind.ports.removed, removed, removed_count);
    sub->snapshot_sent = true;
    sub->held_len = wire_encode(lima_guest_v1_Event_fields, &event, bytes);
    sub->held = xmemdup(bytes, sub->held_len);
    return true;
}

static void pump(struct subscriber *sub)
{
    const struct events *events = sub->events;

    if (!sub->replied && !(sub->replied = rpc_reply(sub->stream, 0, NULL))) {
        return;
    }
    while (!sub->held && sub->told < events->count) {
        const struct entry *entry = &events->history[sub->told];

        if (!mux_stream_write_all(sub->stream, entry->bytes, entry->len)) {
            return;
        }
        sub->told++;
    }
    while (sub->held || hold_ports(sub)) {
        if (!mux_stream_write_all(sub->stream, sub->held, sub->held_len)) {
            return;
        }
        free(sub->held);
        sub->held = NULL;
    }
}

static void pump_all(struct events *events)
{
    for (struct subscriber *sub = events->subscribers; sub; sub = sub->next) {
        pump(sub);
    }
}

static void append(struct events *events, lima_guest_v1_Event *event)
{
    uint8_t bytes[WIRE_MAX];
    size_t len;

    event->uptime_us = loop_now_us();
    len = wire_encode(lima_guest_v1_Event_fields, event, bytes);
    array_reserve(events->history, events->cap, events->count + 1);
    events->history[events->count++] = (struct entry){.len = len, .bytes = xmemdup(bytes, len)};
    pump_all(events);
}

void events_stage(struct events *events, lima_guest_v1_Stage_Name name, const char *instance_id,
                  const char *detail)
{
    lima_guest_v1_Event event = lima_guest_v1_Event_init_zero;
    lima_guest_v1_Stage *stage = &event.kind.stage;

    event.which_kind = lima_guest_v1_Event_stage_tag;
    stage->name = name;
    wire_text(stage->instance_id, sizeof(stage->instance_id), instance_id);
    wire_text(stage->detail, sizeof(stage->detail), detail);
    append(events, &event);
}

static void append_script(struct events *events, lima_guest_v1_Event *event)
{
    event->which_kind = lima_guest_v1_Event_script_tag;
    if (events->count < EVENTS_HISTORY_MAX) {
        append(events, event);
    } else {
        log_warn("too many script events in one boot, ignoring");
    }
}

void events_script_began(struct events *events, const char *name)
{
    lima_guest_v1_Event event = lima_guest_v1_Event_init_zero;

    event.kind.script.running = true;
    wire_text(event.kind.script.name, sizeof(event.kind.script.name), name);
    append_script(events, &event);
}

void events_script_ended(struct events *events, const char *name, int status, const char *tail,
                         const char *hint)
{
    lima_guest_v1_Event event = lima_guest_v1_Event_init_zero;
    lima_guest_v1_Script *script = &event.kind.script;

    script->exit_status = status;
    wire_text(script->name, sizeof(script->name), name);
    wire_text(script->tail, sizeof(script->tail), tail ? tail : "");
    wire_text(script->hint, sizeof(script->hint), hint ? hint : "");
    append_script(events, &event);
}

void events_ports_changed(struct events *events)
{
    pump_all(events);
}

static void on_subscriber_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_consumed(stream, len);
}

static void on_subscriber_fin(struct mux_stream *stream, void *arg)
{
}

static void on_subscriber_writable(struct mux_stream *stream, void *arg)
{
    pump(arg);
}

static void on_subscriber_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    subscriber_free(arg);
}

static const struct mux_stream_ops subscriber_ops = {
    .data = on_subscriber_data,
    .fin = on_subscriber_fin,
    .writable = on_subscriber_writable,
    .closed = on_subscriber_closed,
};

/* Those of all subscribers; one that went away is forgotten when the next comes. */
static void tell_wanted(const struct events *events)
{
    struct udp_range all[UDP_WANTED_MAX];
    size_t count = 0;

    for (const struct subscriber *sub = events->subscribers; sub; sub = sub->next) {
        for (size_t i = 0; i < sub->wanted_count && count < ARRAY_LEN(all); i++) {
            all[count++] = sub->wanted[i];
        }
    }
    if (events->wanted) {
        events->wanted(all, count, events->wanted_arg);
    }
}

static int read_wanted(const struct rpc_call *call, struct subscriber *sub)
{
    lima_guest_v1_EventsRequest request = lima_guest_v1_EventsRequest_init_zero;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_EventsRequest_fields,
                     &request)) {
        return -EBADMSG;
    }
    for (size_t i = 0; i < request.udp_wanted_count; i++) {
        const lima_guest_v1_PortRange *range = &request.udp_wanted[i];

        if (range->first < 1 || range->first > range->last || range->last > UINT16_MAX) {
            return -EBADMSG;
        }
        sub->wanted[sub->wanted_count++] =
            (struct udp_range){(uint16_t)range->first, (uint16_t)range->last};
    }
    return 0;
}

int events_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    struct events *events = arg;
    struct subscriber *sub = xnew(struct subscriber);

    *sub =
        (struct subscriber){.events = events, .next = events->subscribers, .stream = call->stream};
    if (read_wanted(call, sub) < 0) {
        free(sub);
        return error_set(err, EBADMSG, "malformed request");
    }
    events->subscribers = sub;
    tell_wanted(events);
    mux_stream_consumed(call->stream, call->rest_len);
    mux_stream_set_ops(call->stream, &subscriber_ops, sub);
    pump(sub);
    return 0;
}
