/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/wire_upkeep.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "guest.pb-c.h"
#include "peer/wire.h"

typedef Lima__Guest__V1__ClockReply clock_msg;
typedef Lima__Guest__V1__Health health_msg;
typedef Lima__Guest__V1__Upgraded upgraded_msg;

/* ---- to the guest ---- */

void wire_put_clock_probe(struct buf *out, uint64_t probe)
{
    Lima__Guest__V1__ClockRequest message = LIMA__GUEST__V1__CLOCK_REQUEST__INIT;

    message.kind_case = LIMA__GUEST__V1__CLOCK_REQUEST__KIND_PROBE;
    message.probe = probe;
    wire_put_message(out, &message.base);
}

void wire_put_clock_adjust(struct buf *out, int64_t offset_ns, bool resumed)
{
    Lima__Guest__V1__ClockAdjust adjust = LIMA__GUEST__V1__CLOCK_ADJUST__INIT;
    Lima__Guest__V1__ClockRequest message = LIMA__GUEST__V1__CLOCK_REQUEST__INIT;

    adjust.offset_ns = offset_ns;
    adjust.resumed = resumed;
    message.kind_case = LIMA__GUEST__V1__CLOCK_REQUEST__KIND_ADJUST;
    message.adjust = &adjust;
    wire_put_message(out, &message.base);
}

void wire_put_upgrade_request(struct buf *out, const struct peer_upgrade_source *source)
{
    Lima__Guest__V1__UpgradeRequest message = LIMA__GUEST__V1__UPGRADE_REQUEST__INIT;

    message.version = (char *)source->version;
    message.size = source->size;
    message.sha256.data = (uint8_t *)source->sha256;
    message.sha256.len = sizeof(source->sha256);
    wire_put_message(out, &message.base);
}

void wire_put_rollback_request(struct buf *out)
{
    Lima__Guest__V1__UpgradeRequest message = LIMA__GUEST__V1__UPGRADE_REQUEST__INIT;

    message.rollback = true;
    wire_put_message(out, &message.base);
}

/* ---- from the guest ---- */

static void free_clock(clock_msg *message)
{
    lima__guest__v1__clock_reply__free_unpacked(message, NULL);
}
SCOPED_PTR(clock_msg, free_clock)

static void free_health(health_msg *message)
{
    lima__guest__v1__health__free_unpacked(message, NULL);
}
SCOPED_PTR(health_msg, free_health)

static void free_upgraded(upgraded_msg *message)
{
    lima__guest__v1__upgraded__free_unpacked(message, NULL);
}
SCOPED_PTR(upgraded_msg, free_upgraded)

static enum peer_clock_action action_of(int action)
{
    static_assert((int)PEER_CLOCK_STEPPED == (int)LIMA__GUEST__V1__CLOCK_REPLY__ACTION__STEPPED,
                  "the actions have the numbers of guest.proto");
    return action > PEER_CLOCK_NONE && action <= PEER_CLOCK_STEPPED ? (enum peer_clock_action)action
                                                                    : PEER_CLOCK_NONE;
}

int wire_clock_decode(const uint8_t *data, size_t len, wire_clock_fn *fn, void *arg)
{
    static const struct wire_text texts[] = {{offsetof(clock_msg, error), 128, false}};
    scoped(free_clock) clock_msg *m = lima__guest__v1__clock_reply__unpack(NULL, len, data);
    struct peer_clock_reply reply;
    int r;

    if (!m || m->realtime_ns < 0 || m->realtime_ns > PEER_CLOCK_MAX_NS) {
        return -EBADMSG;
    }
    r = wire_check_texts(m, texts, ARRAY_LEN(texts));
    if (r < 0) {
        return r;
    }
    reply = (struct peer_clock_reply){
        .probe = m->probe,
        .was_set = m->was_set,
        .realtime_ns = m->realtime_ns,
        .action = action_of((int)m->action),
        .error = m->error,
    };
    fn(&reply, arg);
    return 0;
}

static int check_numbers(const health_msg *m)
{
    const uint64_t numbers[] = {m->uptime_ms, m->memory_total, m->swap_total, m->disk_total};

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (numbers[i] > PEER_HEALTH_MAX) {
            return -EBADMSG;
        }
    }
    return 0;
}

int wire_health_decode(const uint8_t *data, size_t len, wire_health_fn *fn, void *arg)
{
    static const struct wire_text texts[] = {{offsetof(health_msg, port_method), 16, false}};
    scoped(free_health) health_msg *m = lima__guest__v1__health__unpack(NULL, len, data);
    struct peer_health health;
    int r;

    if (!m) {
        return -EBADMSG;
    }
    r = check_numbers(m);
    if (r == 0) {
        r = wire_check_texts(m, texts, ARRAY_LEN(texts));
    }
    if (r < 0) {
        return r;
    }
    health = (struct peer_health){
        .uptime_ms = m->uptime_ms,
        .load_milli = {m->load1_milli, m->load5_milli, m->load15_milli},
        .memory_total = m->memory_total,
        .memory_available = MIN(m->memory_available, m->memory_total),
        .swap_total = m->swap_total,
        .swap_free = MIN(m->swap_free, m->swap_total),
        .disk_total = m->disk_total,
        .disk_available = MIN(m->disk_available, m->disk_total),
        .processes = m->processes,
        .agent_rss_kib = m->agent_rss_kib,
        .agent_streams = m->agent_streams,
        .port_method = m->port_method,
    };
    fn(&health, arg);
    return 0;
}

int wire_upgraded_decode(const uint8_t *data, size_t len, wire_upgraded_fn *fn, void *arg)
{
    static const struct wire_text texts[] = {
        {offsetof(upgraded_msg, version), 64, false},
        {offsetof(upgraded_msg, message), 256, false},
    };
    scoped(free_upgraded) upgraded_msg *m = lima__guest__v1__upgraded__unpack(NULL, len, data);
    int r;

    if (!m) {
        return -EBADMSG;
    }
    r = wire_check_texts(m, texts, ARRAY_LEN(texts));
    if (r < 0) {
        return r;
    }
    fn(wire_errno(m->error), m->message, m->version, arg);
    return 0;
}
