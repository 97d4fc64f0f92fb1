/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/plan.h"

#include "base/alloc.h"

static struct forward_want *add(struct forward_plan *plan)
{
    array_reserve(plan->items, plan->alloc, plan->len + 1);
    plan->items[plan->len] = (struct forward_want){.rule = FORWARD_RULE_IMPLICIT};
    return &plan->items[plan->len++];
}

/* True when a rule before @index, or an implicit one, ignores @guest. */
static bool ignored_before(const struct forward_rules *rules, size_t index,
                           const struct forward_endpoint *guest)
{
    struct forward_match found;

    for (size_t i = 0; i <= index; i++) { /* with none of the rules only the implicit ones */
        const struct config_port_forward *rule = i ? &rules->items[i - 1] : NULL;

        if ((!rule || rule->ignore) &&
            forward_rule_match(rule, rule != NULL, rules->ssh_port, guest, &found) ==
                FORWARD_VERDICT_IGNORED) {
            return true;
        }
    }
    return false;
}

static void add_static(struct forward_plan *plan, const struct forward_rules *rules, size_t index,
                       enum config_proto proto, int port)
{
    const struct config_port_forward *rule = &rules->items[index];
    struct forward_want *want;
    struct forward_endpoint guest, host;

    if (plan->len >= FORWARD_PLAN_STATIC_MAX) {
        plan->cut = true;
        return;
    }
    forward_rule_ends(rule, proto, port, &guest, &host);
    want = add(plan);
    want->guest = guest;
    want->host = host;
    want->rule = (int)index;
    want->reverse = rule->reverse;
    want->of_rule = true;
    want->verdict = !guest.socket && ignored_before(rules, index, &guest) ? FORWARD_VERDICT_IGNORED
                                                                          : FORWARD_VERDICT_FORWARD;
}

static void add_rule(struct forward_plan *plan, const struct forward_rules *rules, size_t index,
                     bool udp)
{
    const struct config_port_forward *rule = &rules->items[index];
    bool udp_too = rule->proto == CONFIG_PROTO_UDP ||
                   (rule->proto == CONFIG_PROTO_ANY && udp && !*rule->host_socket);

    if (rule->ignore) {
        return;
    }
    if (*rule->guest_socket) {
        add_static(plan, rules, index, CONFIG_PROTO_TCP, 0);
        return;
    }
    for (int port = rule->guest_first; rule->is_static && port <= rule->guest_last; port++) {
        if (rule->proto != CONFIG_PROTO_UDP) {
            add_static(plan, rules, index, CONFIG_PROTO_TCP, port);
        }
        if (udp_too) {
            add_static(plan, rules, index, CONFIG_PROTO_UDP, port);
        }
        if (plan->cut) {
            return;
        }
    }
}

static void add_listening(struct forward_plan *plan, const struct forward_rules *rules,
                          struct forward_listening *listening)
{
    struct forward_want *want = add(plan);
    struct forward_match found;

    want->listening = listening;
    want->origin = listening->origin;
    want->guest = listening->endpoint;
    want->verdict =
        forward_rule_match(rules->items, rules->len, rules->ssh_port, &want->guest, &found);
    want->host = found.host;
    want->rule = found.rule;
}

void forward_plan_make(struct forward_plan *plan, const struct forward_rules *rules, bool udp,
                       struct forward_listening *listening, size_t count)
{
    plan->len = 0;
    plan->cut = false;
    for (size_t i = 0; i < rules->len; i++) {
        add_rule(plan, rules, i, udp);
    }
    for (size_t i = 0; i < count; i++) {
        add_listening(plan, rules, &listening[i]);
    }
}

void forward_plan_done(struct forward_plan *plan)
{
    free(plan->items);
    *plan = (struct forward_plan){0};
}

static bool is_local(const struct config_address *address)
{
    return forward_address_is_any(address) || forward_address_is_loopback(address);
}

bool forward_plan_one_service(const struct forward_endpoint *a, const struct forward_endpoint *b)
{
    if (a->socket || b->socket) {
        return forward_endpoint_equal(a, b);
    }
    return a->proto == b->proto && a->port == b->port && is_local(&a->address) &&
           is_local(&b->address);
}
