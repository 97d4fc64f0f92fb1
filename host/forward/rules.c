/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/rules.h"

#include <string.h>
#include "base/alloc.h"
#include "config/forward.h"

static void insert(struct forward_rules *rules, size_t at, const struct config_port_forward *rule,
                   struct forward_rule_note note)
{
    array_reserve(rules->items, rules->alloc, rules->len + 1);
    array_reserve(rules->notes, rules->note_alloc, rules->len + 1);
    memmove(&rules->items[at + 1], &rules->items[at], (rules->len - at) * sizeof(*rules->items));
    memmove(&rules->notes[at + 1], &rules->notes[at], (rules->len - at) * sizeof(*rules->notes));
    rules->items[at] = config_forward_copy(rule);
    rules->notes[at] = note;
    rules->len++;
}

void forward_rules_init(struct forward_rules *rules, const struct config_port_forward *items,
                        size_t count, int ssh_port)
{
    *rules = (struct forward_rules){.ssh_port = ssh_port};
    for (size_t i = 0; i < count; i++) {
        insert(rules, i, &items[i], (struct forward_rule_note){.index = (int)i});
    }
}

void forward_rules_done(struct forward_rules *rules)
{
    for (size_t i = 0; i < rules->len; i++) {
        config_forward_done(&rules->items[i]);
    }
    free(rules->items);
    free(rules->notes);
    *rules = (struct forward_rules){0};
}

void forward_rules_put_first(struct forward_rules *rules, const struct config_port_forward *rule,
                             bool temporary)
{
    insert(rules, 0, rule, (struct forward_rule_note){.index = -1, .temporary = temporary});
}

void forward_rules_drop(struct forward_rules *rules, size_t index)
{
    size_t behind = rules->len - index - 1;

    config_forward_done(&rules->items[index]);
    memmove(&rules->items[index], &rules->items[index + 1], behind * sizeof(*rules->items));
    memmove(&rules->notes[index], &rules->notes[index + 1], behind * sizeof(*rules->notes));
    rules->len--;
}

int forward_rules_find(const struct forward_rules *rules, const struct config_port_forward *rule)
{
    for (size_t i = 0; i < rules->len; i++) {
        if (forward_rule_same(&rules->items[i], rule)) {
            return (int)i;
        }
    }
    return -1;
}

size_t forward_rules_named_udp(const struct forward_rules *rules, struct peer_range *ret,
                               size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < rules->len && n < max; i++) {
        const struct config_port_forward *rule = &rules->items[i];

        if (!rule->ignore && rule->proto != CONFIG_PROTO_TCP && !*rule->guest_socket &&
            !*rule->host_socket && rule->guest_last - rule->guest_first < FORWARD_RULES_NAMED_MAX) {
            ret[n++] = (struct peer_range){.first = (uint16_t)rule->guest_first,
                                           .last = (uint16_t)rule->guest_last};
        }
    }
    return n;
}

char *forward_rules_name(const struct forward_rules *rules, int index)
{
    if (index < 0) {
        return xstrdup("built-in");
    }
    if (rules->notes[index].index < 0) {
        return xstrdup("added");
    }
    return xasprintf("portForwards[%d]", rules->notes[index].index);
}
