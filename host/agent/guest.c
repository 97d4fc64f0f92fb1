/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest.h"

#include <errno.h>
#include <string.h>
#include "agent/clock.h"
#include "agent/upgrade.h"
#include "base/alloc.h"
#include "base/log.h"
#include "peer/ways.h"
#include "peer/health.h"
#include "util/units.h"

#define WAITING_MAX 64 /* questions at a time; beyond it the old answer is good enough */

struct guest {
    struct peer *peer;
    struct clock *clock;
    struct upgrade *upgrade;
    bool ready;

    struct peer_info info; /* owns its texts; agent_version NULL: never met */
    struct peer_health health;
    char *port_method; /* of health */
    int64_t health_ms; /* when it came; 0: never */
    struct loop_timer *late;
    struct peer_health_call *call; /* NULL: none under way */
    struct api_exchange *waiting[WAITING_MAX];
    size_t waiting_count;
};

/* ---- what is known ---- */

static const struct {
    const char *key;
    size_t offset; /* of a const char * in struct peer_info */
} texts[] = {
    {"agentVersion", offsetof(struct peer_info, agent_version)},
    {"bootID", offsetof(struct peer_info, boot_id)},
    {"hostname", offsetof(struct peer_info, hostname)},
    {"os", offsetof(struct peer_info, os)},
    {"kernel", offsetof(struct peer_info, kernel)},
    {"arch", offsetof(struct peer_info, arch)},
};

static const char **text_of(const struct peer_info *info, size_t i)
{
    return (const char **)((char *)info + texts[i].offset);
}

static jv amounts(const char *left_name, uint64_t total, uint64_t left)
{
    return JV_OBJECT(jv_string("total"), jv_number((double)total), jv_string(left_name),
                     jv_number((double)left));
}

static jv set(jv object, const char *key, jv value)
{
    return jv_object_set(object, jv_string(key), value);
}

static jv add_health(jv document, const struct peer_health *health)
{
    jv load = jv_array();
    jv agent = JV_OBJECT(jv_string("memory"), jv_number((double)health->agent_rss_kib * 1024),
                         jv_string("streams"), jv_number(health->agent_streams), jv_string("ports"),
                         jv_string(health->port_method));

    for (size_t i = 0; i < ARRAY_LEN(health->load_milli); i++) {
        load = jv_array_append(load, jv_number((double)health->load_milli[i] / 1000));
    }
    document = set(document, "load", load);
    document = set(document, "processes", jv_number(health->processes));
    document = set(document, "memory",
                   amounts("available", health->memory_total, health->memory_available));
    document = set(document, "swap", amounts("free", health->swap_total, health->swap_free));
    document =
        set(document, "disk", amounts("available", health->disk_total, health->disk_available));
    return set(document, "agent", agent);
}

jv guest_document(const struct peer_info *info, const struct peer_health *health, double age_s)
{
    uint64_t uptime_ms = health ? health->uptime_ms : info->uptime_ms;
    jv document = jv_object();

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        document = set(document, texts[i].key, jv_string(*text_of(info, i)));
    }
    document = set(document, "uptime", jv_number((double)uptime_ms / 1000));
    if (health) {
        document = add_health(document, health);
    }
    return set(document, "age", jv_number(age_s));
}

static void forget_info(struct guest *guest)
{
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        free((char *)*text_of(&guest->info, i));
        *text_of(&guest->info, i) = NULL;
    }
}

static void keep_info(struct guest *guest, const struct peer_info *info)
{
    forget_info(guest);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        *text_of(&guest->info, i) = xstrdup(*text_of(info, i));
    }
    guest->info.uptime_ms = info->uptime_ms;
    guest->health_ms = 0; /* it may be another boot */
}

static void keep_health(struct guest *guest, const struct peer_health *health)
{
    guest->health = *health;
    free(guest->port_method);
    guest->health.port_method = guest->port_method = xstrdup(health->port_method);
    guest->health_ms = loop_now_ms();
}

/* ---- questions ---- */

static void refuse(struct api_exchange *take_exchange, int code, const char *why)
{
    scoped(error_done) struct error err = ERROR_INIT;

    error_set(&err, code, "%s", why);
    api_refuse(take_exchange, &err);
}

static void answer(struct guest *guest, struct api_exchange *take_exchange)
{
    double age_s = guest->health_ms ? (double)(loop_now_ms() - guest->health_ms) / 1000 : 0;

    if (peer_is_up(guest->peer)) {
        jv document = guest_document(&guest->info, guest->health_ms ? &guest->health : NULL, age_s);

        api_answer(take_exchange, set(document, "transport", peer_describe_transport(guest->peer)));
    } else {
        refuse(take_exchange, ENOTCONN, "the guest agent does not speak");
    }
}

static void answer_all(struct guest *guest)
{
    loop_timer_set(guest->late, -1);
    while (guest->waiting_count > 0) {
        answer(guest, guest->waiting[--guest->waiting_count]);
    }
}

static void on_health(int r, const struct peer_health *health, void *arg)
{
    struct guest *guest = arg;

    guest->call = NULL;
    if (health) {
        keep_health(guest, health);
    } else {
        log_debug("the guest does not say how it does: %s", strerror(-r));
    }
    answer_all(guest);
}

/* The call goes on: its answer is for the next who asks. */
static void on_late(void *arg)
{
    answer_all(arg);
}

void guest_describe(struct guest *guest, struct api_exchange *take_exchange)
{
    if (!guest->call && peer_has(guest->peer, "health")) {
        guest->call = peer_health_ask(guest->peer, on_health, guest);
    }
    if (!guest->call || guest->waiting_count == WAITING_MAX) {
        answer(guest, take_exchange);
        return;
    }
    if (guest->waiting_count == 0) {
        loop_timer_set(guest->late, GUEST_ANSWER_MS);
    }
    guest->waiting[guest->waiting_count++] = take_exchange;
}

void guest_upgrade(struct guest *guest, struct api_exchange *take_exchange, jv body)
{
    if (!guest->ready) {
        jv_free(body);
        refuse(take_exchange, EAGAIN, "the guest has not finished its boot");
        return;
    }
    upgrade_request(guest->upgrade, take_exchange, body);
}

/* ---- life ---- */

struct guest *guest_new(const struct guest_options *options)
{
    struct guest *guest = xnew(struct guest);

    guest->peer = options->peer;
    guest->late = loop_timer_new(options->loop, on_late, guest);
    guest->clock = clock_new(options->loop, options->peer);
    guest->upgrade = upgrade_new(options->loop, options->peer, options->program);
    return guest;
}

void guest_free(struct guest *guest)
{
    if (!guest) {
        return;
    }
    peer_health_cancel(guest->call);
    while (guest->waiting_count > 0) {
        refuse(guest->waiting[--guest->waiting_count], ENOTCONN, "the host agent ends");
    }
    clock_free(guest->clock);
    upgrade_free(guest->upgrade);
    loop_timer_free(guest->late);
    forget_info(guest);
    free(guest->port_method);
    free(guest);
}

void guest_connected(struct guest *guest, const struct peer_info *info)
{
    keep_info(guest, info);
    clock_start(guest->clock);
    upgrade_connected(guest->upgrade, info->agent_version);
}

void guest_disconnected(struct guest *guest)
{
    clock_stop(guest->clock);
    upgrade_disconnected(guest->upgrade);
}

void guest_ready(struct guest *guest)
{
    guest->ready = true;
    upgrade_if_older(guest->upgrade);
}

void guest_resumed(struct guest *guest)
{
    clock_resumed(guest->clock);
}
