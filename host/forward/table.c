/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At every change the wanted set (host address -> guest listener) is computed anew from the rules
 * and the present listeners, and compared with the live one:
 *
 *   wanted and live       the target is changed in place if another guest listener serves it now
 *   wanted, not live      the host listens; a failure is reported once and tried again later
 *   live, not wanted      the host listens no longer; connections go on to their own end
 *
 * That happens once behind all changes that came together: a guest with many listeners reports them
 * in pieces, and the first alone must not close what the others bring. And it happens no sooner
 * than IDLE_SHARE times as long after the last time as that took, which bounds the work that a
 * guest can cause with a flood of changes.
 *
 * Where several guest listeners want one host address, the one that has it keeps it; else the first
 * in the order of the guest's report gets it.
 */
#include "forward/table.h"

#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "forward/listener.h"
#include "forward/rule.h"

#define LISTENERS_MAX 2048 /* guest listeners that are considered; a guest may claim any number */
#define FORWARDS_MAX  1024 /* host listeners of one VM */
#define IDLE_SHARE    9

struct listener {
    struct forward_endpoint endpoint;
    bool reported; /* "not forwarding" was said */
};

struct forward {
    struct forward *next;
    struct forward_endpoint host;
    struct forward_endpoint guest;
    struct forward_listener *listener; /* NULL: failed */
    bool wanted;                       /* during an update */
    bool failed;                       /* and said so */
};

struct forward_table {
    struct forward_env env;
    const struct config_port_forward *rules;
    size_t rule_count;
    int ssh_port;
    const struct forward_events *events;
    void *events_arg;
    struct listener *listeners;
    size_t listener_count, listener_alloc;
    struct forward *forwards;
    struct forward *leaving; /* closed, with connections */
    size_t forward_count;
    struct loop_timer *due; /* set by a change */
    int64_t not_before_ms;
    bool full, full_said; /* some found no place; it was reported */
    bool too_many_said;
};

static void forward_free(struct forward *f)
{
    if (f->listener) {
        f->listener->ops->close(f->listener);
    }
    forward_endpoint_done(&f->host);
    forward_endpoint_done(&f->guest);
    free(f);
}

static void forward_free_all(struct forward *f)
{
    while (f) {
        struct forward *next = f->next;

        forward_free(f);
        f = next;
    }
}

static void report(struct forward_table *table, enum forward_event event,
                   const struct forward_endpoint *guest, const struct forward_endpoint *host,
                   const char *error)
{
    scoped(free) char *from = forward_endpoint_format(guest);
    scoped(free) char *to = host ? forward_endpoint_format(host) : NULL;

    table->events->changed(event, guest->proto, from, to, error, table->events_arg);
}

static struct forward *find_forward(struct forward_table *table,
                                    const struct forward_endpoint *host)
{
    for (struct forward *f = table->forwards; f; f = f->next) {
        if (forward_endpoint_equal(&f->host, host)) {
            return f;
        }
    }
    return NULL;
}

static struct forward *add_forward(struct forward_table *table, const struct forward_endpoint *host,
                                   const struct forward_endpoint *guest)
{
    struct forward *f = xnew(struct forward);
    struct forward **end = &table->forwards;

    f->host = forward_endpoint_copy(host);
    f->guest = forward_endpoint_copy(guest);
    while (*end) {
        end = &(*end)->next;
    }
    *end = f;
    table->forward_count++;
    return f;
}

static void retarget(struct forward *f, const struct forward_endpoint *guest)
{
    if (forward_endpoint_equal(&f->guest, guest)) {
        return;
    }
    if (f->listener) {
        f->listener->ops->retarget(f->listener, guest);
    }
    forward_endpoint_done(&f->guest);
    f->guest = forward_endpoint_copy(guest);
}

/* Claims @host for @guest unless another guest listener keeps it. */
static void want(struct forward_table *table, const struct forward_endpoint *host,
                 const struct forward_endpoint *guest)
{
    struct forward *f = find_forward(table, host);

    if (!f) {
        if (table->forward_count >= FORWARDS_MAX) {
            if (!table->full && !table->full_said) {
                report(table, FORWARD_EVENT_FAILED, guest, host,
                       "too many forwards of one instance");
            }
            table->full = true;
            return;
        }
        f = add_forward(table, host, guest);
    } else if (!f->wanted) {
        retarget(f, guest);
    }
    f->wanted = true;
}

static bool is_present(const struct forward_table *table, const struct forward_endpoint *guest)
{
    for (size_t i = 0; i < table->listener_count; i++) {
        if (forward_endpoint_equal(&table->listeners[i].endpoint, guest)) {
            return true;
        }
    }
    return false;
}

static enum forward_verdict match(const struct forward_table *table,
                                  const struct forward_endpoint *guest, struct forward_match *ret)
{
    return forward_rule_match(table->rules, table->rule_count, table->ssh_port, guest, ret);
}

/* A forward whose guest listener is still there keeps its host address before anyone else asks. */
static void keep_present(struct forward_table *table)
{
    for (struct forward *f = table->forwards; f; f = f->next) {
        struct forward_match found;

        f->wanted = is_present(table, &f->guest) &&
                    match(table, &f->guest, &found) == FORWARD_VERDICT_FORWARD &&
                    forward_endpoint_equal(&found.host, &f->host);
    }
}

static void want_static(struct forward_table *table)
{
    for (size_t i = 0; i < table->rule_count; i++) {
        const struct config_port_forward *rule = &table->rules[i];

        if (!rule->is_static || rule->ignore || rule->proto == CONFIG_PROTO_UDP) {
            continue;
        }
        for (int port = rule->guest_first; port >= 1 && port <= rule->guest_last; port++) {
            struct forward_endpoint guest = {
                .proto = CONFIG_PROTO_TCP, .address = rule->guest_ip, .port = (uint16_t)port};
            struct forward_endpoint host = {
                .proto = CONFIG_PROTO_TCP,
                .address = rule->host_ip,
                .port = (uint16_t)(port - rule->guest_first + rule->host_first),
                .socket = *rule->host_socket ? rule->host_socket : NULL};

            want(table, &host, &guest);
        }
    }
}

static void want_listener(struct forward_table *table, struct listener *listener)
{
    struct forward_match found;

    if (match(table, &listener->endpoint, &found) == FORWARD_VERDICT_FORWARD) {
        want(table, &found.host, &listener->endpoint);
    } else if (!listener->reported) {
        listener->reported = true;
        if (!forward_rules_silent(table->rules, table->rule_count, listener->endpoint.proto)) {
            report(table, FORWARD_EVENT_NOT_FORWARDING, &listener->endpoint, NULL, NULL);
        }
    }
}

/* Lets go of closed forwards whose last connection has ended. */
static void sweep_leaving(struct forward_table *table)
{
    struct forward **link = &table->leaving;

    while (*link) {
        struct forward *f = *link;

        if (f->listener->ops->connections(f->listener) > 0) {
            link = &f->next;
        } else {
            *link = f->next;
            forward_free(f);
        }
    }
}

static void close_unwanted(struct forward_table *table)
{
    struct forward **link = &table->forwards;

    while (*link) {
        struct forward *f = *link;

        if (f->wanted) {
            link = &f->next;
            continue;
        }
        *link = f->next;
        table->forward_count--;
        if (!f->listener) {
            forward_free(f);
            continue;
        }
        f->listener->ops->stop(f->listener);
        report(table, FORWARD_EVENT_STOPPING, &f->guest, &f->host, NULL);
        f->next = table->leaving;
        table->leaving = f;
    }
    sweep_leaving(table);
}

static void open_missing(struct forward_table *table)
{
    for (struct forward *f = table->forwards; f; f = f->next) {
        scoped(error_done) struct error err = ERROR_INIT;
        const struct forward_listener_ops *kind;

        if (f->listener) {
            continue;
        }
        kind = forward_listener_kind(&f->host, &f->guest, false);
        if (kind->open(&table->env, &f->host, &f->guest, &f->listener, &err) == 0) {
            report(table, FORWARD_EVENT_FORWARDING, &f->guest, &f->host, NULL);
            f->failed = false;
        } else if (!f->failed) {
            f->failed = true;
            report(table, FORWARD_EVENT_FAILED, &f->guest, &f->host, error_text(&err));
        }
    }
}

static void reconcile(struct forward_table *table)
{
    table->full = false;
    keep_present(table);
    want_static(table);
    for (size_t i = 0; i < table->listener_count; i++) {
        want_listener(table, &table->listeners[i]);
    }
    table->full_said = table->full;
    close_unwanted(table);
    open_missing(table);
}

static void on_change_due(void *arg)
{
    struct forward_table *table = arg;
    int64_t began_ms = loop_now_ms(), ended_ms;

    reconcile(table);
    ended_ms = loop_now_ms();
    /* What began at the end of a millisecond has not taken one. */
    table->not_before_ms = ended_ms + IDLE_SHARE * MAX(ended_ms - began_ms - 1, 0);
}

struct forward_table *forward_table_new(const struct forward_env *env,
                                        const struct config_port_forward *rules, size_t rule_count,
                                        int ssh_port, const struct forward_events *events,
                                        void *events_arg)
{
    struct forward_table *table = xnew(struct forward_table);

    table->env = *env;
    table->rules = rules;
    table->rule_count = rule_count;
    table->ssh_port = ssh_port;
    table->events = events;
    table->events_arg = events_arg;
    table->due = loop_timer_new(env->loop, on_change_due, table);
    return table;
}

void forward_table_free(struct forward_table *table)
{
    if (!table) {
        return;
    }
    forward_free_all(table->forwards);
    forward_free_all(table->leaving);
    loop_timer_free(table->due);
    free(table->listeners);
    free(table);
}

static struct forward_endpoint endpoint_of(const struct peer_port *port)
{
    return (struct forward_endpoint){
        .proto = port->proto, .address = port->address, .port = port->port};
}

static void remove_listener(struct forward_table *table, const struct forward_endpoint *endpoint)
{
    for (size_t i = 0; i < table->listener_count; i++) {
        if (forward_endpoint_equal(&table->listeners[i].endpoint, endpoint)) {
            memmove(&table->listeners[i], &table->listeners[i + 1],
                    (table->listener_count - i - 1) * sizeof(*table->listeners));
            table->listener_count--;
            return;
        }
    }
}

void forward_table_update(struct forward_table *table, bool snapshot, const struct peer_port *added,
                          size_t added_count, const struct peer_port *removed, size_t removed_count)
{
    if (snapshot) {
        table->listener_count = 0;
    }
    for (size_t i = 0; i < removed_count; i++) {
        struct forward_endpoint endpoint = endpoint_of(&removed[i]);

        remove_listener(table, &endpoint);
    }
    for (size_t i = 0; i < added_count; i++) {
        struct forward_endpoint endpoint = endpoint_of(&added[i]);

        if (endpoint.proto != CONFIG_PROTO_TCP || is_present(table, &endpoint)) {
            continue;
        }
        if (table->listener_count >= LISTENERS_MAX) {
            if (!table->too_many_said) {
                table->too_many_said = true;
                log_warn("the guest reports more than %d listeners, ignoring the rest",
                         LISTENERS_MAX);
            }
            break;
        }
        array_reserve(table->listeners, table->listener_alloc, table->listener_count + 1);
        table->listeners[table->listener_count++] = (struct listener){.endpoint = endpoint};
    }
    if (!loop_timer_pending(table->due)) {
        loop_timer_set(table->due, MAX(table->not_before_ms - loop_now_ms(), 0));
    }
}
