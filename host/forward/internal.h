/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the table share: table.c changes it, list.c looks at it. */
#pragma once

#include "forward/plan.h"
#include "forward/release.h"
#include "forward/table.h"

struct forward {
    struct forward *next;
    struct forward_endpoint host;      /* as the rule wants it; a copy */
    struct forward_endpoint guest;     /* whom it serves; a copy */
    bool reverse;                      /* the guest listens, on @guest */
    bool spare;                        /* another one has @host, this takes any port */
    struct forward_listener *listener; /* NULL: it could not be opened */
    enum forward_state state;          /* FORWARDING, OPENING, CONFLICT, FAILED, CLOSING */
    char *reason;                      /* of a failure, or why the port is another one */
    enum config_conflict on_conflict;  /* of the rule */
    bool implicit;                     /* no rule asked for it */
    bool said;                         /* the failure */
    bool wanted;                       /* during an update */
    size_t want;                       /* first entry of the plan that it serves */
};

struct forward_table {
    struct forward_env env;
    struct forward_rules rules;
    const struct forward_events *events;
    void *events_arg;
    struct forward_listening *listening;
    size_t listening_count, listening_alloc;
    struct forward_plan plan;
    struct forward *forwards;
    struct forward *leaving; /* closed, with connections */
    size_t forward_count;
    bool started;
    struct loop_timer *due; /* set by a change */
    int64_t not_before_ms;
    struct loop_timer *retry;        /* set while something failed */
    struct forward_release *release; /* then too */
    int64_t retry_ms;                /* 0: nothing failed */
    bool released;                   /* a notice has brought the next try forward */
    int64_t release_next_ms;         /* no sooner */
    bool full, full_said;            /* some found no place; it was reported */
    bool too_many_said;
    bool trial; /* the rule in front goes again unless it works */
};

/* Whether a failure of @want has an asker to tell, who gets it instead of everybody. */
bool forward_on_trial(const struct forward_table *table, const struct forward_want *want);

/* What is carried out soon, with all that comes until then. */
void forward_schedule(struct forward_table *table);
/* Forgets the listeners that have gone. */
void forward_drop_stale(struct forward_table *table);

/* What happened to @f, with its reason. */
void forward_report(struct forward_table *table, enum forward_event event, const struct forward *f);
/* What nobody serves, when it has become so; of rules that need no listener only if @of_rules. */
void forward_report_unserved(struct forward_table *table, bool of_rules);

/* Why @f failed, with who has the host's address; looks at all processes. Caller frees. */
char *forward_full_reason(const struct forward *f);
/* Where the host listens: the endpoint wanted, with the port it really has. */
struct forward_endpoint forward_host_now(const struct forward *f);
/* Why @want (without a forward) is not served, and the state it has. The text: caller frees. */
enum forward_state forward_unserved(const struct forward_table *table,
                                    const struct forward_want *want, char **ret_reason);
