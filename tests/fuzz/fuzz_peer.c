/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest says to the host, message by message: the first byte chooses the decoder, the others
 * are the message's body. What must hold: every text that comes out can be printed and has its
 * bound, every number is one that the host can compute with, a refused message calls nobody.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "fuzz.h"
#include "peer/wire.h"
#include "peer/wire_upkeep.h"

static int calls;

static void check_text(const char *text, size_t size, bool lines)
{
    CHECK(strlen(text) < size);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        CHECK((*c >= 0x20 && *c != 0x7f) || *c == '\t' || (lines && *c == '\n'));
    }
}

static void on_connected(const struct peer_info *info, void *arg)
{
    calls++;
    check_text(info->agent_version, 64, false);
    check_text(info->boot_id, 40, false);
    check_text(info->instance_id, 128, false);
    check_text(info->hostname, 72, false);
    check_text(info->os, 128, false);
    check_text(info->kernel, 72, false);
    check_text(info->arch, 16, false);
    for (size_t i = 0; i < info->feature_count; i++) {
        check_text(info->features[i], 32, false);
    }
}

static void on_stage(enum peer_stage stage, const char *detail, const char *instance_id,
                     uint64_t uptime_us, void *arg)
{
    calls++;
    CHECK(stage > PEER_STAGE_UNKNOWN && stage <= PEER_STAGE_FAILED);
    check_text(detail, 512, true);
    check_text(instance_id, 128, false);
}

static void on_script(const struct peer_script *script, void *arg)
{
    calls++;
    check_text(script->name, 128, false);
    check_text(script->tail, 4096, true);
    check_text(script->hint, 1024, true);
}

static void check_ports(const struct peer_port *ports, size_t count)
{
    CHECK(count <= 64);
    for (size_t i = 0; i < count; i++) {
        CHECK(ports[i].port > 0);
        CHECK(ports[i].address.family == AF_INET || ports[i].address.family == AF_INET6);
    }
}

static void on_ports(bool snapshot, const struct peer_port *added, size_t added_count,
                     const struct peer_port *removed, size_t removed_count, void *arg)
{
    calls++;
    check_ports(added, added_count);
    check_ports(removed, removed_count);
}

static const struct peer_events events = {
    .connected = on_connected, .stage = on_stage, .script = on_script, .ports = on_ports};

static int give_info(const uint8_t *data, size_t len)
{
    return wire_info_decode(data, len, &events, NULL);
}

static int give_event(const uint8_t *data, size_t len)
{
    return wire_event_decode(data, len, &events, NULL);
}

static int give_reply(const uint8_t *data, size_t len)
{
    struct wire_stream_reply reply;
    int r = wire_stream_reply_decode(data, len, &reply);

    if (r == 0) {
        calls++;
        CHECK(reply.error >= 0 && reply.error < 4096);
        check_text(reply.message, 256, false);
        wire_stream_reply_done(&reply);
    }
    return r;
}

static int give_incoming(const uint8_t *data, size_t len)
{
    struct wire_incoming incoming;
    int r = wire_incoming_decode(data, len, &incoming);

    if (r == 0) {
        calls++;
        CHECK(!incoming.accepted || incoming.id != 0);
        CHECK(!(incoming.accepted && incoming.listening));
    }
    return r;
}

static void on_clock(const struct peer_clock_reply *reply, void *arg)
{
    calls++;
    CHECK(reply->realtime_ns >= 0 && reply->realtime_ns <= PEER_CLOCK_MAX_NS);
    CHECK(reply->action >= PEER_CLOCK_NONE && reply->action <= PEER_CLOCK_STEPPED);
    check_text(reply->error, 128, false);
}

static int give_clock(const uint8_t *data, size_t len)
{
    return wire_clock_decode(data, len, on_clock, NULL);
}

static void on_health(const struct peer_health *health, void *arg)
{
    calls++;
    CHECK(health->uptime_ms <= PEER_HEALTH_MAX && health->memory_total <= PEER_HEALTH_MAX);
    CHECK(health->swap_total <= PEER_HEALTH_MAX && health->disk_total <= PEER_HEALTH_MAX);
    CHECK(health->memory_available <= health->memory_total);
    CHECK(health->swap_free <= health->swap_total);
    CHECK(health->disk_available <= health->disk_total);
    check_text(health->port_method, 16, false);
}

static int give_health(const uint8_t *data, size_t len)
{
    return wire_health_decode(data, len, on_health, NULL);
}

static void on_upgraded(int error, const char *text, const char *version, void *arg)
{
    calls++;
    CHECK(error >= 0 && error < 4096);
    check_text(text, 256, false);
    check_text(version, 64, false);
}

static int give_upgraded(const uint8_t *data, size_t len)
{
    return wire_upgraded_decode(data, len, on_upgraded, NULL);
}

static int (*const decoders[])(const uint8_t *data, size_t len) = {
    give_info, give_event, give_reply, give_incoming, give_clock, give_health, give_upgraded};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    int r;

    if (len == 0) {
        return 0;
    }
    calls = 0;
    r = decoders[data[0] % ARRAY_LEN(decoders)](data + 1, len - 1);
    CHECK(r == 0 || r == -EBADMSG || r == -EMSGSIZE);
    CHECK(calls <= (r == 0));
    return 0;
}
