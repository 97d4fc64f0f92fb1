/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What should be forwarded: the rules applied to what listens in the guest, and the rules that need
 * no listener (sockets, static ports). Pure.
 */
#pragma once

#include "forward/rules.h"
#include "peer/client.h"

/* Something that listens in the guest, as the guest reports it. */
struct forward_listening {
    struct forward_endpoint endpoint;
    enum peer_origin origin;
    bool stale; /* not in the latest snapshot so far */
    int said;   /* for the table: what it has said about it */
};

struct forward;

struct forward_want {
    struct forward_endpoint guest, host; /* sockets are the rules' */
    enum forward_verdict verdict;
    int rule; /* index, or FORWARD_RULE_IMPLICIT */
    bool reverse;
    bool of_rule;                        /* wanted whether anything listens or not */
    enum peer_origin origin;             /* of the listener else */
    struct forward_listening *listening; /* it, or NULL; valid while the plan is carried out */
    struct forward *forward;             /* for the table: who serves it */
    struct forward *holder;              /* for the table: who has its host address instead */
    bool supported;                      /* for the table: somebody carries it */
};

struct forward_plan {
    struct forward_want *items;
    size_t len, alloc;
    bool cut; /* rules wanted more than FORWARD_PLAN_STATIC_MAX */
};

#define FORWARD_PLAN_STATIC_MAX 1200 /* of rules without a listener; more than the table opens */

/*
 * Those of the rules first, in their order, then one entry a listener in the order given, whatever
 * its verdict. A rule without a listener counts unless one before it ignores what it leads to.
 * "any" means UDP too if @udp.
 */
void forward_plan_make(struct forward_plan *plan, const struct forward_rules *rules, bool udp,
                       struct forward_listening *listening, size_t count);
void forward_plan_done(struct forward_plan *plan);
/*
 * Two listeners that are one service most likely: the same port, each on loopback or on all
 * addresses.
 */
bool forward_plan_one_service(const struct forward_endpoint *a, const struct forward_endpoint *b);
