/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ports.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/ration.h"
#include "config/forward.h"

/* What a guest that opens and closes ports all day can make us write. */
#define EVENT_BURST 4000
#define EVENT_PER_S 5

struct ports {
    struct forward_table *table;
    const char *lima_home;
    const struct config *config;
    ports_happened_fn happened;
    void *arg;
    struct ration events;
};

/* --- news --- */

/* A guest shows what it likes: only what a rule asked for is worth a warning. */
static void log_news(const struct forward_news *news, const char *type, const char *proto)
{
    const char *host = news->host ? news->host : "";
    const char *to = news->host ? " to " : "";
    const char *error = news->error ? news->error : "";

    if (news->event == FORWARD_EVENT_FAILED && !news->quiet) {
        log_warn("not forwarding %s %s%s%s: %s; retrying", proto, news->guest, to, host, error);
    } else if (news->event == FORWARD_EVENT_FAILED) {
        log_info("not forwarding %s %s%s%s: %s", proto, news->guest, to, host, error);
    } else {
        log_info("%s %s %s%s%s%s%s", type, proto, news->guest, to, host, *error ? ": " : "", error);
    }
}

static void on_forward_changed(const struct forward_news *news, void *arg)
{
    static const char *const types[] = {
        [FORWARD_EVENT_FORWARDING] = "forwarding",
        [FORWARD_EVENT_NOT_FORWARDING] = "not-forwarding",
        [FORWARD_EVENT_STOPPING] = "stopping",
        [FORWARD_EVENT_FAILED] = "failed",
    };
    const char *proto = news->proto == CONFIG_PROTO_UDP ? "udp" : "tcp";
    struct ports *ports = arg;
    struct api_event event = {
        .forward_type = types[news->event],
        .forward_proto = proto,
        .forward_guest = news->guest,
        .forward_host = news->host,
        .forward_error = news->event == FORWARD_EVENT_FORWARDING ? NULL : news->error,
    };

    log_news(news, types[news->event], proto);
    if (ration_take(&ports->events, loop_now_ms())) {
        ports->happened(&event, ports->arg);
    }
}

static const struct forward_events forward_events = {.changed = on_forward_changed};

/* --- life --- */

struct ports *ports_new(const struct forward_env *env, const char *lima_home,
                        const struct config *config, int ssh_port, ports_happened_fn happened,
                        void *arg)
{
    struct ports *ports = xnew(struct ports);

    ports->lima_home = lima_home;
    ports->config = config;
    ports->happened = happened;
    ports->arg = arg;
    ports->events = RATION_INIT(EVENT_BURST, EVENT_PER_S);
    ports->table = forward_table_new(env, config->port_forwards, config->port_forward_count,
                                     ssh_port, &forward_events, ports);
    return ports;
}

void ports_free(struct ports *ports)
{
    if (ports) {
        forward_table_free(ports->table);
        free(ports);
    }
}

void ports_start(struct ports *ports)
{
    forward_table_start(ports->table);
}

void ports_update(struct ports *ports, bool snapshot, const struct peer_port *added,
                  size_t added_count, const struct peer_port *removed, size_t removed_count)
{
    forward_table_update(ports->table, snapshot, added, added_count, removed, removed_count);
}

void ports_failures(struct ports *ports, struct strv *ret)
{
    if (ports) {
        forward_table_failures(ports->table, ret);
    }
}

/* --- as a document --- */

static jv set_text(jv object, const char *key, const char *text)
{
    return text && *text ? jv_object_set(object, jv_string(key), jv_string(text)) : object;
}

static jv set_flag(jv object, const char *key, bool flag)
{
    return flag ? jv_object_set(object, jv_string(key), jv_true()) : object;
}

static jv status_document(const struct forward_status *status)
{
    const char *proto = status->sockets                     ? "unix"
                        : status->proto == CONFIG_PROTO_UDP ? "udp"
                                                            : "tcp";
    jv document = set_text(jv_object(), "guestAddr", status->guest);

    document = set_text(document, "hostAddr", status->host);
    document = set_text(document, "protocol", proto);
    document = set_text(document, "state", forward_state_names[status->state]);
    document = set_text(document, "reason", status->reason);
    document = set_text(document, "origin", status->origin);
    document = set_text(document, "rule", status->rule);
    document = set_flag(document, "static", status->is_static);
    document = set_flag(document, "temporary", status->temporary);
    document = set_flag(document, "reverse", status->reverse);
    document = set_flag(document, "remapped", status->remapped);
    return jv_object_set(document, jv_string("connections"),
                         jv_number((double)status->connections));
}

static void collect(const struct forward_status *status, void *arg)
{
    jv *list = arg;

    *list = jv_array_append(*list, status_document(status));
}

static void collect_trouble(const struct forward_status *status, void *arg)
{
    if (status->trouble) {
        collect(status, arg);
    }
}

jv ports_conflicts(struct ports *ports)
{
    jv list = jv_array();

    forward_table_list(ports->table, false, collect_trouble, &list);
    return list;
}

void ports_get(struct ports *ports, struct api_exchange *take_exchange)
{
    jv list = jv_array();

    forward_table_list(ports->table, true, collect, &list);
    api_answer(take_exchange, JV_OBJECT(jv_string("ports"), list));
}

/* --- changes --- */

/* {"rule": map, "temporary": bool}; nothing else. Consumes @body. */
static int take_request(const struct ports *ports, jv take_body, bool temporary_too,
                        struct config_port_forward *ret, bool *ret_temporary, struct error *err)
{
    scoped(value_done) jv body = take_body;
    jv rule = jv_object_get(jv_copy(body), jv_string("rule"));
    scoped(value_done) jv temporary = jv_object_get(jv_copy(body), jv_string("temporary"));
    bool has_temporary = jv_is_valid(temporary);

    *ret_temporary = jv_get_kind(temporary) == JV_KIND_TRUE;
    if (jv_get_kind(rule) != JV_KIND_OBJECT) {
        jv_free(rule);
        return error_set(err, EINVAL, "the request's 'rule' must be a map");
    }
    if (has_temporary &&
        (!temporary_too || (!*ret_temporary && jv_get_kind(temporary) != JV_KIND_FALSE))) {
        jv_free(rule);
        return error_set(err, EINVAL, "the request's 'temporary' must be %s",
                         temporary_too ? "true or false" : "absent");
    }
    if (jv_object_length(jv_copy(body)) != 1 + has_temporary) {
        jv_free(rule);
        return error_set(err, EINVAL, "the request has members that nobody knows");
    }
    return config_forward_parse(rule, ports->lima_home, ports->config, ret, err);
}

static void end_change(struct ports *ports, struct api_exchange *take_exchange, int r,
                       const struct error *err)
{
    if (r < 0) {
        api_refuse(take_exchange, err);
    } else {
        ports_get(ports, take_exchange);
    }
}

void ports_post(struct ports *ports, struct api_exchange *take_exchange, jv take_body)
{
    scoped(config_forward_done) struct config_port_forward rule = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    bool temporary;
    int r = take_request(ports, take_body, true, &rule, &temporary, &err);

    if (r == 0) {
        r = forward_table_add(ports->table, &rule, temporary, &err);
    }
    end_change(ports, take_exchange, r, &err);
}

void ports_delete(struct ports *ports, struct api_exchange *take_exchange, jv take_body)
{
    scoped(config_forward_done) struct config_port_forward rule = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    bool temporary;
    int r = take_request(ports, take_body, false, &rule, &temporary, &err);

    if (r == 0) {
        r = forward_table_remove(ports->table, &rule, &err);
    }
    end_change(ports, take_exchange, r, &err);
}
