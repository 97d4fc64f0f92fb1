/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "forward/internal.h"

void forward_report(struct forward_table *table, enum forward_event event, const struct forward *f)
{
    struct forward_endpoint at = forward_host_now(f);
    scoped(free) char *guest = forward_endpoint_format(&f->guest);
    scoped(free) char *host = forward_endpoint_format(&at);
    const struct forward_news news = {.event = event,
                                      .proto = f->guest.proto,
                                      .guest = guest,
                                      .host = host,
                                      .error = f->reason,
                                      .quiet = f->implicit};

    table->events->changed(&news, table->events_arg);
}

static void report_want(struct forward_table *table, enum forward_event event,
                        const struct forward_want *want, const char *error)
{
    scoped(free) char *guest = forward_endpoint_format(&want->guest);
    scoped(free) char *host =
        event == FORWARD_EVENT_FAILED ? forward_endpoint_format(&want->host) : NULL;
    const struct forward_news news = {.event = event,
                                      .proto = want->guest.proto,
                                      .guest = guest,
                                      .host = host,
                                      .error = error,
                                      .quiet = want->rule < 0};

    table->events->changed(&news, table->events_arg);
}

bool forward_on_trial(const struct forward_table *table, const struct forward_want *want)
{
    return table->trial && want->of_rule && want->rule == 0;
}

/* What nobody serves: said when it becomes so. */
static void report_unserved(struct forward_table *table, const struct forward_want *want)
{
    scoped(free) char *reason = NULL;
    enum forward_state state = forward_unserved(table, want, &reason);
    bool silent = forward_rules_silent(table->rules.items, table->rules.len, want->guest.proto);

    if (want->listening) {
        if (want->listening->said == (int)state) {
            return;
        }
        want->listening->said = (int)state;
    }
    switch (state) {
    case FORWARD_STATE_STANDBY:
        if (!forward_plan_one_service(&want->guest, &want->holder->guest)) {
            report_want(table, FORWARD_EVENT_FAILED, want, reason);
        }
        break;
    case FORWARD_STATE_FAILED:
        if (!table->full_said) {
            table->full_said = true;
            report_want(table, FORWARD_EVENT_FAILED, want, reason);
        }
        break;
    default:
        if (!silent) {
            report_want(table, FORWARD_EVENT_NOT_FORWARDING, want, want->supported ? NULL : reason);
        }
    }
}

void forward_report_unserved(struct forward_table *table, bool of_rules)
{
    bool full = false;

    for (size_t i = 0; i < table->plan.len; i++) {
        const struct forward_want *want = &table->plan.items[i];

        if (want->forward) {
            if (want->listening) {
                want->listening->said = FORWARD_STATE_FORWARDING;
            }
            continue;
        }
        if (!want->of_rule || (of_rules && !forward_on_trial(table, want))) {
            report_unserved(table, want);
        }
        full |= want->verdict == FORWARD_VERDICT_FORWARD && want->supported && !want->holder;
    }
    table->full_said &= full;
}
