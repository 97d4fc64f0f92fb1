/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At every change the plan (what each rule and guest listener wants) is made anew and compared with
 * the live forwards:
 *
 *   wanted and live       the target is changed in place if another guest listener serves it now
 *   wanted, not live      the host listens; a failure is reported once and tried again: when a
 *                         socket of the host goes away or an address comes, at the next change, and
 *                         at growing intervals from RETRY_MIN_MS to RETRY_MAX_MS
 *   live, not wanted      the host listens no longer; connections go on to their own end
 *
 * That happens once behind all changes that came together: a guest with many listeners reports them
 * in pieces, and the first alone must not close what the others bring. And it happens no sooner
 * than IDLE_SHARE times as long after the last time as that took, which bounds the work that a
 * guest can cause with a flood of changes.
 *
 * Where several guest listeners want one host address, the one that has it keeps it; else the first
 * of the plan gets it. The others stand by, unless their rule says "remap": then they get a port of
 * their own, and keep it.
 */
#include "base/alloc.h"
#include "forward/internal.h"

#include <string.h>

#define FORWARDS_MAX   1024 /* host listeners of one VM */
#define IDLE_SHARE     9
#define RETRY_MIN_MS   1000
#define RETRY_MAX_MS   30000
#define RELEASE_GAP_MS 20 /* between tries that notices bring: a busy server's port has many */

static void forward_free(struct forward *f)
{
    if (f->listener) {
        f->listener->ops->close(f->listener);
    }
    forward_endpoint_done(&f->host);
    forward_endpoint_done(&f->guest);
    free(f->reason);
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

static void set_reason(struct forward *f, char *take_reason)
{
    free(f->reason);
    f->reason = take_reason;
}

/* --- who serves what --- */

static struct forward *add_forward(struct forward_table *table, const struct forward_want *want)
{
    struct forward *f;
    struct forward **end = &table->forwards;

    if (table->forward_count >= FORWARDS_MAX) {
        return NULL;
    }
    f = xnew(struct forward);
    f->host = forward_endpoint_copy(&want->host);
    f->guest = forward_endpoint_copy(&want->guest);
    f->reverse = want->reverse;
    while (*end) {
        end = &(*end)->next;
    }
    *end = f;
    table->forward_count++;
    return f;
}

static void adopt(struct forward_table *table, struct forward *f, struct forward_want *want)
{
    want->forward = f;
    if (f->wanted) {
        return; /* a rule and a listener that want the very same */
    }
    f->wanted = true;
    f->want = (size_t)(want - table->plan.items);
    f->implicit = want->rule < 0;
    f->on_conflict =
        f->implicit ? CONFIG_CONFLICT_SKIP : table->rules.items[want->rule].on_conflict;
}

/* Another listener of one service is no news to anybody. */
static void retarget(struct forward_table *table, struct forward *f,
                     const struct forward_endpoint *guest)
{
    bool news = f->listener && !forward_plan_one_service(&f->guest, guest);

    if (news) {
        forward_report(table, FORWARD_EVENT_STOPPING, f);
    }
    if (f->listener) {
        f->listener->ops->retarget(f->listener, guest);
    }
    forward_endpoint_done(&f->guest);
    f->guest = forward_endpoint_copy(guest);
    if (news) {
        forward_report(table, FORWARD_EVENT_FORWARDING, f);
    }
}

/* What a user's rule wants comes before what merely nobody forbids. */
static void displace(struct forward_table *table, struct forward *f)
{
    for (size_t i = 0; i < table->plan.len; i++) {
        if (table->plan.items[i].forward == f) {
            table->plan.items[i].forward = NULL;
            table->plan.items[i].holder = f;
        }
    }
    f->wanted = false;
}

static bool is_supported(const struct forward_table *table, const struct forward_want *want)
{
    return (want->guest.proto != CONFIG_PROTO_UDP || table->env.udp) &&
           (!want->reverse || table->env.peer) &&
           forward_listener_kind(&want->host, &want->guest, want->reverse);
}

/* A forward that does exactly this already keeps its host address before anyone else asks. */
static void assign_kept(struct forward_table *table)
{
    for (size_t i = 0; i < table->plan.len; i++) {
        struct forward_want *want = &table->plan.items[i];

        want->supported = is_supported(table, want);
        if (want->verdict != FORWARD_VERDICT_FORWARD || !want->supported) {
            continue;
        }
        for (struct forward *f = table->forwards; f; f = f->next) {
            if (f->reverse == want->reverse && forward_endpoint_equal(&f->host, &want->host) &&
                forward_endpoint_equal(&f->guest, &want->guest)) {
                adopt(table, f, want);
                break;
            }
        }
    }
}

/* Who listens, or is to listen, where @want wants to. */
static struct forward *find_rival(const struct forward_table *table,
                                  const struct forward_want *want)
{
    for (struct forward *f = table->forwards; f; f = f->next) {
        if (f->reverse != want->reverse || f->spare) {
            continue;
        }
        if (want->reverse ? f->wanted && forward_endpoint_equal(&f->guest, &want->guest)
                          : forward_endpoint_equal(&f->host, &want->host)) {
            return f;
        }
    }
    return NULL;
}

/* What a rule already forwards without a listener is the same forward when the listener is there.
 */
static bool is_same(const struct forward_table *table, const struct forward *f,
                    const struct forward_want *want)
{
    const struct forward_want *served = &table->plan.items[f->want];

    if (forward_endpoint_equal(&f->guest, &want->guest)) {
        return forward_endpoint_equal(&f->host, &want->host);
    }
    return served->of_rule && served->rule == want->rule &&
           forward_plan_one_service(&f->guest, &want->guest);
}

static void assign(struct forward_table *table, struct forward_want *want)
{
    struct forward *rival = find_rival(table, want);
    bool remap =
        want->rule >= 0 && table->rules.items[want->rule].on_conflict == CONFIG_CONFLICT_REMAP;
    struct forward *f;

    if (rival && rival->wanted && is_same(table, rival, want)) {
        adopt(table, rival, want);
        return;
    }
    if (rival && rival->wanted && rival->implicit && want->rule >= 0) {
        displace(table, rival);
    }
    if (rival && !rival->wanted) {
        retarget(table, rival, &want->guest);
        adopt(table, rival, want);
        return;
    }
    if (rival &&
        (!remap || want->host.socket || forward_plan_one_service(&rival->guest, &want->guest))) {
        want->holder = rival;
        return;
    }
    f = add_forward(table, want);
    if (f) {
        f->spare = rival != NULL;
        adopt(table, f, want);
    }
}

static void assign_all(struct forward_table *table)
{
    for (struct forward *f = table->forwards; f; f = f->next) {
        f->wanted = false;
    }
    assign_kept(table);
    for (size_t i = 0; i < table->plan.len; i++) {
        struct forward_want *want = &table->plan.items[i];

        if (want->verdict == FORWARD_VERDICT_FORWARD && want->supported && !want->forward &&
            !want->holder) {
            assign(table, want);
        }
    }
}

/* --- opening and closing --- */

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
        bool listened = f->state == FORWARD_STATE_FORWARDING;

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
        f->state = FORWARD_STATE_CLOSING;
        set_reason(f, NULL);
        if (listened) {
            forward_report(table, FORWARD_EVENT_STOPPING, f);
        }
        f->next = table->leaving;
        table->leaving = f;
    }
    sweep_leaving(table);
}

static int open_at(struct forward_table *table, struct forward *f, bool any_port, struct error *err)
{
    struct forward_endpoint host = f->host;

    if (any_port) {
        host.port = 0;
    }
    return forward_listener_kind(&f->host, &f->guest, f->reverse)
        ->open(&table->env, &host, &f->guest, &f->listener, err);
}

/* The words of an error with what can be done. Caller frees. */
static char *full_text(const struct error *err)
{
    return err->hint ? xasprintf("%s; %s", error_text(err), err->hint) : xstrdup(error_text(err));
}

static int open_spare(struct forward_table *table, struct forward *f, struct error *err)
{
    scoped(free) char *host = forward_endpoint_format(&f->host);
    int r = open_at(table, f, true, err);

    if (r >= 0) {
        set_reason(f, xasprintf("remapped: %s serves something else of the guest", host));
    }
    return r;
}

/* 0 listens, 1 will, <0 does not. The reason is set whenever there is something to say. */
static int open_somewhere(struct forward_table *table, struct forward *f)
{
    bool may_remap = f->on_conflict == CONFIG_CONFLICT_REMAP && !f->host.socket && !f->reverse;
    scoped(error_done) struct error err = ERROR_INIT;
    int r = f->spare ? open_spare(table, f, &err) : open_at(table, f, false, &err);
    bool taken = r == -EADDRINUSE || r == -EACCES;

    if (f->spare && r >= 0) {
        return r;
    }
    if (taken && may_remap && !f->spare && open_at(table, f, true, NULL) >= 0) {
        set_reason(f, xasprintf("remapped: %s", error_text(&err)));
        return 0;
    }
    if (r >= 0) {
        set_reason(f, NULL);
    } else {
        set_reason(f, full_text(&err));
    }
    return r;
}

static void open_forward(struct forward_table *table, struct forward *f)
{
    int r = open_somewhere(table, f);

    if (r >= 0) {
        f->said = false;
        f->state = r ? FORWARD_STATE_OPENING : FORWARD_STATE_FORWARDING;
        if (r == 0) {
            forward_report(table, FORWARD_EVENT_FORWARDING, f);
        }
        return;
    }
    f->state = r == -EADDRINUSE ? FORWARD_STATE_CONFLICT : FORWARD_STATE_FAILED;
    if (!f->said && !forward_on_trial(table, &table->plan.items[f->want])) {
        f->said = true;
        forward_report(table, FORWARD_EVENT_FAILED, f);
    }
}

/* True when all that is wanted listens, or will. */
static bool open_missing(struct forward_table *table)
{
    bool complete = true;
    for (struct forward *f = table->forwards; f; f = f->next) {
        if (!f->listener) {
            open_forward(table, f);
        }
        complete &= f->listener != NULL;
    }
    return complete;
}

/* From a listener that became ready late, or lost what it listens on. */
static void on_listener_changed(struct forward_listener *listener, bool listening,
                                const char *reason, void *arg)
{
    struct forward_table *table = arg;
    struct forward *f = table->forwards;

    while (f && f->listener != listener) {
        f = f->next;
    }
    if (!f) {
        return;
    }
    set_reason(f, listening ? NULL : xstrdup(reason));
    f->state = listening ? FORWARD_STATE_FORWARDING
               : reason  ? FORWARD_STATE_FAILED
                         : FORWARD_STATE_OPENING;
    if (f->state != FORWARD_STATE_OPENING) {
        forward_report(table, listening ? FORWARD_EVENT_FORWARDING : FORWARD_EVENT_FAILED, f);
    }
}

/* --- when --- */

void forward_schedule(struct forward_table *table)
{
    if (!loop_timer_pending(table->due)) {
        loop_timer_set(table->due, MAX(table->not_before_ms - loop_now_ms(), 0));
    }
}

static void on_retry_time(void *arg)
{
    struct forward_table *table = arg;

    if (table->released) {
        table->released = false;
        table->release_next_ms = loop_now_ms() + RELEASE_GAP_MS;
    } else {
        table->retry_ms = MIN(table->retry_ms * 2, RETRY_MAX_MS);
    }
    forward_schedule(table);
}

static void on_release(uint16_t port, void *arg)
{
    struct forward_table *table = arg;

    for (struct forward *f = table->forwards; f; f = f->next) {
        if (!f->listener && (port == 0 || f->host.port == port) && !table->released) {
            table->released = true;
            loop_timer_set(table->retry, MAX(table->release_next_ms - loop_now_ms(), 0));
            return;
        }
    }
}

static void retry_later(struct forward_table *table)
{
    if (!table->retry_ms) {
        table->retry_ms = RETRY_MIN_MS;
        table->release = forward_release_new(table->env.loop, on_release, table);
    }
    if (!loop_timer_pending(table->retry)) {
        loop_timer_set(table->retry, table->retry_ms);
    }
}

static void retry_stop(struct forward_table *table)
{
    table->released = false;
    table->retry_ms = 0;
    forward_release_free(steal(table->release));
    loop_timer_set(table->retry, -1);
}

static void reconcile(struct forward_table *table, bool rules_changed)
{
    forward_drop_stale(table);
    forward_plan_make(&table->plan, &table->rules, table->env.udp, table->listening,
                      table->listening_count);
    assign_all(table);
    close_unwanted(table);
    if (open_missing(table)) {
        retry_stop(table);
    } else {
        retry_later(table);
    }
    forward_report_unserved(table, rules_changed);
}

static void on_change_due(void *arg)
{
    struct forward_table *table = arg;
    int64_t began_ms = loop_now_ms(), ended_ms;

    reconcile(table, !table->started);
    table->started = true;
    ended_ms = loop_now_ms();
    /* What began at the end of a millisecond has not taken one. */
    table->not_before_ms = ended_ms + IDLE_SHARE * MAX(ended_ms - began_ms - 1, 0);
}

/* The guest tells of these whatever it thinks of their sockets. */
static void tell_guest(struct forward_table *table)
{
    struct peer_range ranges[PEER_WANTED_MAX];
    size_t count = forward_rules_named_udp(&table->rules, ranges, ARRAY_LEN(ranges));

    if (table->env.peer && table->env.udp) {
        peer_want_udp(table->env.peer, ranges, count);
    }
}

/* --- outside --- */

struct forward_table *forward_table_new(const struct forward_env *env,
                                        const struct config_port_forward *rules, size_t rule_count,
                                        int ssh_port, const struct forward_events *events,
                                        void *events_arg)
{
    struct forward_table *table = xnew(struct forward_table);

    table->env = *env;
    table->env.changed = on_listener_changed;
    table->env.arg = table;
    forward_rules_init(&table->rules, rules, rule_count, ssh_port);
    table->events = events;
    table->events_arg = events_arg;
    table->due = loop_timer_new(env->loop, on_change_due, table);
    table->retry = loop_timer_new(env->loop, on_retry_time, table);
    tell_guest(table);
    return table;
}

void forward_table_free(struct forward_table *table)
{
    if (!table) {
        return;
    }
    forward_release_free(table->release);
    forward_free_all(table->forwards);
    forward_free_all(table->leaving);
    loop_timer_free(table->due);
    loop_timer_free(table->retry);
    forward_plan_done(&table->plan);
    forward_rules_done(&table->rules);
    free(table->listening);
    free(table);
}

void forward_table_start(struct forward_table *table)
{
    if (!table->started) {
        on_change_due(table);
    }
}

/* Whether a forward of the rule in front, which needs no listener, failed; and then why. */
static int front_failure(const struct forward_table *table, struct error *err)
{
    for (size_t i = 0; i < table->plan.len; i++) {
        const struct forward_want *want = &table->plan.items[i];
        const struct forward *f = want->forward;
        scoped(free) char *reason = NULL;

        if (want->rule != 0 || !want->of_rule || (f && f->listener)) {
            continue;
        }
        if (f) {
            reason = forward_full_reason(f);
        } else {
            forward_unserved(table, want, &reason);
        }
        return error_set(err, EADDRINUSE, "%s", reason);
    }
    return 0;
}

static void drop_rule(struct forward_table *table, size_t index)
{
    forward_rules_drop(&table->rules, index);
    tell_guest(table);
    if (table->started) {
        reconcile(table, false);
    }
}

int forward_table_add(struct forward_table *table, const struct config_port_forward *rule,
                      bool temporary, struct error *err)
{
    int known = forward_rules_find(&table->rules, rule);
    int r;

    if (known >= 0 && table->rules.notes[known].temporary && !temporary) {
        table->rules.notes[known].temporary = false;
        return 0;
    }
    if (known >= 0) {
        return error_set(err, EEXIST, "there is such a rule already");
    }
    forward_rules_put_first(&table->rules, rule, temporary);
    tell_guest(table);
    if (!table->started) {
        return 0;
    }
    table->trial = rule->on_conflict == CONFIG_CONFLICT_FAIL;
    reconcile(table, true);
    r = table->trial ? front_failure(table, err) : 0;
    table->trial = false;
    if (r < 0) {
        drop_rule(table, 0);
    }
    return r;
}

int forward_table_remove(struct forward_table *table, const struct config_port_forward *rule,
                         struct error *err)
{
    int index = forward_rules_find(&table->rules, rule);

    if (index < 0) {
        return error_set(err, ENOENT, "there is no such rule");
    }
    drop_rule(table, (size_t)index);
    return 0;
}
