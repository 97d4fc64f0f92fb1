/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>
#include "base/alloc.h"
#include "forward/holder.h"
#include "forward/internal.h"

#define HOLDER_LOOKS 8 /* in one list; each goes through all processes */

const char *const forward_state_names[] = {
    [FORWARD_STATE_FORWARDING] = "forwarding", [FORWARD_STATE_OPENING] = "opening",
    [FORWARD_STATE_STANDBY] = "standby",       [FORWARD_STATE_CONFLICT] = "conflict",
    [FORWARD_STATE_FAILED] = "failed",         [FORWARD_STATE_IGNORED] = "ignored",
    [FORWARD_STATE_UNMATCHED] = "unmatched",   [FORWARD_STATE_CLOSING] = "closing",
};
static_assert(ARRAY_LEN(forward_state_names) == FORWARD_STATE_COUNT, "a name a state");

static const char *const origin_names[] = {
    [PEER_ORIGIN_SOCKET] = "socket",
    [PEER_ORIGIN_CONTAINER] = "container",
    [PEER_ORIGIN_KUBERNETES] = "kubernetes",
};

struct forward_endpoint forward_host_now(const struct forward *f)
{
    struct forward_endpoint host = f->host;

    if (f->listener && f->listener->port) {
        host.port = f->listener->port;
    }
    return host;
}

char *forward_full_reason(const struct forward *f)
{
    scoped(free) char *holder =
        f->state == FORWARD_STATE_CONFLICT ? forward_holder_find(&f->host) : NULL;

    return holder ? xasprintf("%s by %s", f->reason, holder) : xstrdup(f->reason);
}

static char *ignored_reason(const struct forward_table *table, const struct forward_want *want)
{
    scoped(free) char *rule = NULL;

    if (want->rule < 0) {
        return xasprintf("port %u is that of ssh", want->guest.port);
    }
    rule = forward_rules_name(&table->rules, want->rule);
    return want->of_rule ? xasprintf("a rule before %s ignores it", rule)
                         : xasprintf("%s ignores it", rule);
}

enum forward_state forward_unserved(const struct forward_table *table,
                                    const struct forward_want *want, char **ret_reason)
{
    switch (want->verdict) {
    case FORWARD_VERDICT_IGNORED:
        *ret_reason = ignored_reason(table, want);
        return FORWARD_STATE_IGNORED;
    case FORWARD_VERDICT_NONE:
        *ret_reason = xstrdup("no rule is for this address");
        return FORWARD_STATE_UNMATCHED;
    case FORWARD_VERDICT_FORWARD:
        break;
    }
    if (!want->supported) {
        *ret_reason = xstrdup(want->host.proto == CONFIG_PROTO_UDP
                                  ? "the connection to the guest carries no UDP"
                                  : "the connection to the guest carries no such sockets");
        return FORWARD_STATE_UNMATCHED;
    }
    if (want->holder) {
        scoped(free) char *guest = forward_endpoint_format(&want->holder->guest);

        *ret_reason = xasprintf("the host's address serves %s of the guest", guest);
        return FORWARD_STATE_STANDBY;
    }
    *ret_reason = xstrdup("too many forwards of one instance");
    return FORWARD_STATE_FAILED;
}

static bool is_trouble(const struct forward_want *want, enum forward_state state)
{
    switch (state) {
    case FORWARD_STATE_CONFLICT:
    case FORWARD_STATE_FAILED:
        return true;
    case FORWARD_STATE_STANDBY:
        return want->rule >= 0 && !forward_plan_one_service(&want->guest, &want->holder->guest);
    case FORWARD_STATE_IGNORED:
    case FORWARD_STATE_UNMATCHED:
        return want->of_rule; /* a rule that asked for it */
    default:
        return false;
    }
}

static void list_want(const struct forward_table *table, const struct forward_want *want,
                      int *looks, void (*each)(const struct forward_status *status, void *arg),
                      void *arg)
{
    const struct forward *f = want->forward;
    const struct forward_rule_note *note = want->rule < 0 ? NULL : &table->rules.notes[want->rule];
    struct forward_endpoint at = f ? forward_host_now(f) : want->host;
    scoped(free) char *guest = forward_endpoint_format(&want->guest);
    scoped(free) char *host =
        want->verdict == FORWARD_VERDICT_FORWARD ? forward_endpoint_format(&at) : NULL;
    scoped(free) char *rule = forward_rules_name(&table->rules, want->rule);
    scoped(free) char *reason = NULL;
    enum forward_state state = f ? f->state : forward_unserved(table, want, &reason);
    bool look = state == FORWARD_STATE_CONFLICT && *looks > 0;
    struct forward_status status = {
        .state = state,
        .proto = want->guest.proto,
        .sockets = want->guest.socket || want->host.socket,
        .guest = guest,
        .host = host,
        .rule = rule,
        .origin = want->of_rule ? "rule" : origin_names[want->origin],
        .temporary = note && note->temporary,
        .is_static = want->of_rule,
        .reverse = want->reverse,
        .remapped = f && f->listener && !f->host.socket && f->listener->port != f->host.port,
        .connections = f && f->listener ? f->listener->ops->connections(f->listener) : 0,
    };

    if (f) {
        *looks -= look;
        reason = look ? forward_full_reason(f) : xstrdup(f->reason);
    }
    status.reason = reason;
    status.trouble = is_trouble(want, status.state);
    each(&status, arg);
}

static void list_leaving(const struct forward *f,
                         void (*each)(const struct forward_status *status, void *arg), void *arg)
{
    struct forward_endpoint at = forward_host_now(f);
    scoped(free) char *guest = forward_endpoint_format(&f->guest);
    scoped(free) char *host = forward_endpoint_format(&at);
    const struct forward_status status = {
        .state = FORWARD_STATE_CLOSING,
        .proto = f->guest.proto,
        .sockets = f->guest.socket || f->host.socket,
        .guest = guest,
        .host = host,
        .rule = "",
        .origin = "",
        .reverse = f->reverse,
        .connections = f->listener->ops->connections(f->listener),
    };

    if (status.connections > 0) {
        each(&status, arg);
    }
}

void forward_table_list(struct forward_table *table, bool holders,
                        void (*each)(const struct forward_status *status, void *arg), void *arg)
{
    int looks = holders ? HOLDER_LOOKS : 0;

    for (size_t i = 0; i < table->plan.len; i++) {
        const struct forward_want *want = &table->plan.items[i];

        if (!want->forward || want->forward->want == i) { /* else a rule has it already */
            list_want(table, want, &looks, each, arg);
        }
    }
    for (const struct forward *f = table->leaving; f; f = f->next) {
        list_leaving(f, each, arg);
    }
}

void forward_table_failures(struct forward_table *table, struct strv *ret)
{
    for (const struct forward *f = table->forwards; f; f = f->next) {
        scoped(free) char *guest = NULL;
        scoped(free) char *host = NULL;

        if (f->on_conflict == CONFIG_CONFLICT_FAIL &&
            (f->state == FORWARD_STATE_CONFLICT || f->state == FORWARD_STATE_FAILED)) {
            guest = forward_endpoint_format(&f->guest);
            host = forward_endpoint_format(&f->host);
            strv_addf(ret, "%s of the guest is not forwarded to %s: %s", guest, host, f->reason);
        }
    }
}
