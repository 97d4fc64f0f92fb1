/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of a running instance: those of its configuration, in front of them what was added
 * since, newest first. Owns copies.
 */
#pragma once

#include "forward/rule.h"
#include "peer/client.h"

#define FORWARD_RULES_NAMED_MAX 1000 /* ports; a longer range names none in particular */

struct forward_rule_note {
    int index;      /* in the configuration; -1: added since */
    bool temporary; /* as who added it said */
};

struct forward_rules {
    struct config_port_forward *items;
    struct forward_rule_note *notes; /* one an item */
    size_t len;
    size_t alloc, note_alloc; /* private */
    int ssh_port;             /* never forwarded, nor is 22 */
};

void forward_rules_init(struct forward_rules *rules, const struct config_port_forward *items,
                        size_t count, int ssh_port);
void forward_rules_done(struct forward_rules *rules);
/* Copies @rule to the front. */
void forward_rules_put_first(struct forward_rules *rules, const struct config_port_forward *rule,
                             bool temporary);
void forward_rules_drop(struct forward_rules *rules, size_t index);
/* Index of the first that is forward_rule_same() as @rule, or -1. */
int forward_rules_find(const struct forward_rules *rules, const struct config_port_forward *rule);
/*
 * The UDP ports that rules to forward name, in ranges of at most FORWARD_RULES_NAMED_MAX ports: who
 * says "all" names none. Returns how many were put into @ret, which has room for @max.
 */
size_t forward_rules_named_udp(const struct forward_rules *rules, struct peer_range *ret,
                               size_t max);
/* "portForwards[2]", "added", "built-in" (FORWARD_RULE_IMPLICIT). Caller frees. */
char *forward_rules_name(const struct forward_rules *rules, int index);
