/* SPDX-License-Identifier: Apache-2.0 */
/*
 * States: following, until "running" comes (goal ready) or the agent's process ends. After
 * "exiting" the end of the process is awaited, for LEAVE_MS at most, so that nothing of it is left
 * when the caller goes on. The end of the process is handled last: what it wrote before is read
 * first.
 */
#include "lifecycle/follow.h"

#include <signal.h>
#include <string.h>
#include "api/events.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "instance/layout.h"
#include "lifecycle/tail.h"
#include "util/loop.h"
#include "util/term.h"
#include "util/value.h"

#define LEAVE_MS 10000
#define TICK_MS  1000

enum source {
    SOURCE_EVENTS,
    SOURCE_LOG,
    SOURCE_CONSOLE,
    SOURCE_COUNT,
};

struct follow {
    const struct lifecycle_follow_options *options;
    struct lifecycle_result *result;
    struct loop *loop;
    struct lifecycle_tail *tails[SOURCE_COUNT];
    struct loop_child *child;
    struct loop_signal *interrupt, *terminate;
    struct loop_timer *timeout, *stall, *leave, *tick;
    struct term_status *status;
};

void lifecycle_result_done(struct lifecycle_result *result)
{
    strv_done(&result->errors);
    free(result->stage);
    free(result->detail);
}

static void finish(struct follow *f, enum lifecycle_end end)
{
    if (f->result->end == LIFECYCLE_END_NONE) {
        f->result->end = end;
        loop_quit(f->loop, 0);
    }
}

static void note_progress(struct follow *f)
{
    if (f->options->stall_ms > 0 && !loop_timer_pending(f->leave)) {
        loop_timer_set(f->stall, f->options->stall_ms);
    }
}

/* --- events --- */

static jv member(jv object, const char *key)
{
    return jv_get_kind(object) == JV_KIND_OBJECT ? jv_object_get(jv_copy(object), jv_string(key))
                                                 : jv_invalid();
}

static bool flag(jv status, const char *key)
{
    scoped(value_done) jv value = member(status, key);

    return jv_get_kind(value) == JV_KIND_TRUE;
}

static void take_errors(struct follow *f, jv status)
{
    scoped(value_done) jv errors = member(status, "errors");

    if (jv_get_kind(errors) != JV_KIND_ARRAY) {
        return;
    }
    jv_array_foreach(errors, i, item)
    {
        if (jv_get_kind(item) == JV_KIND_STRING &&
            !strv_contains(&f->result->errors, jv_string_value(item))) {
            strv_add(&f->result->errors, jv_string_value(item));
        }
        jv_free(item);
    }
}

static void take_port(struct follow *f, jv status)
{
    scoped(value_done) jv port = member(status, "sshLocalPort");

    if (jv_get_kind(port) == JV_KIND_NUMBER && f->result->ssh_port == 0) {
        f->result->ssh_port = (int)jv_number_value(port);
        if (f->options->goal == LIFECYCLE_GOAL_READY) {
            log_info("SSH Local Port: %d", f->result->ssh_port);
        }
    }
}

static void take_progress(struct follow *f, jv status)
{
    scoped(value_done) jv progress = member(status, "progress");
    scoped(value_done) jv stage = member(progress, "stage");
    scoped(value_done) jv detail = member(progress, "detail");
    bool has_detail = jv_get_kind(detail) == JV_KIND_STRING;

    if (jv_get_kind(stage) != JV_KIND_STRING) {
        return;
    }
    free(f->result->stage);
    free(f->result->detail);
    f->result->stage = xstrdup(jv_string_value(stage));
    f->result->detail = has_detail ? xstrdup(jv_string_value(detail)) : NULL;
    term_status_set(f->status, f->result->stage, f->result->detail);
}

static void on_event_line(const char *line, void *arg)
{
    struct follow *f = arg;
    struct api_event_in event;

    if (api_event_parse(line, &event, NULL) < 0) {
        log_debug("not an event of the host agent: '%s'; ignoring", line);
        return;
    }
    note_progress(f);
    if (f->options->lock_fd) {
        fd_close(steal_fd(f->options->lock_fd));
    }
    if (f->result->end == LIFECYCLE_END_NONE) {
        take_errors(f, event.status);
        take_port(f, event.status);
        take_progress(f, event.status);
        if (flag(event.status, "exiting")) {
            loop_timer_set(f->stall, -1);
            loop_timer_set(f->leave, LEAVE_MS);
        } else if (flag(event.status, "running") && f->options->goal == LIFECYCLE_GOAL_READY) {
            finish(f,
                   flag(event.status, "degraded") ? LIFECYCLE_END_DEGRADED : LIFECYCLE_END_READY);
        }
    }
    jv_free(event.status);
}

/* --- the agent's log --- */

static void relay(jv entry, const char *line)
{
    scoped(value_done) jv name = member(entry, "level");
    scoped(value_done) jv message = member(entry, "msg");
    scoped(value_done) jv cause = member(entry, "error");
    enum log_level level = LOG_LEVEL_WARN;
    struct log_field fields[] = {{NULL, NULL}, {NULL, NULL}};

    if (jv_get_kind(name) == JV_KIND_STRING) {
        log_level_parse(jv_string_value(name), &level);
    }
    level = MIN(level, LOG_LEVEL_ERROR); /* its fatal is not ours */
    if (level < LOG_LEVEL_WARN && log_get_level() > LOG_LEVEL_DEBUG) {
        return;
    }
    if (jv_get_kind(cause) == JV_KIND_STRING) {
        fields[0] = (struct log_field){"error", jv_string_value(cause)};
    }
    log_fields(level, fields, "[hostagent] %s",
               jv_get_kind(message) == JV_KIND_STRING ? jv_string_value(message) : line);
}

static void on_log_line(const char *line, void *arg)
{
    struct follow *f = arg;
    jv entry;

    note_progress(f);
    if (value_from_json(line, &entry, NULL) < 0) {
        entry = jv_null(); /* the last words of a crash, for example */
    }
    relay(entry, line);
    jv_free(entry);
}

static void on_console_line(const char *line, void *arg)
{
    note_progress(arg);
}

/* --- ends --- */

static void on_agent_exit(pid_t pid, int status, void *arg)
{
    struct follow *f = arg;

    f->result->status = status;
    for (size_t i = 0; i < SOURCE_COUNT; i++) {
        lifecycle_tail_drain(f->tails[i]);
    }
    finish(f, LIFECYCLE_END_GONE);
}

static void on_signal(int signo, void *arg)
{
    finish(arg, LIFECYCLE_END_INTERRUPTED);
}

static void on_timeout(void *arg)
{
    finish(arg, LIFECYCLE_END_TIMEOUT);
}

static void on_stall(void *arg)
{
    finish(arg, LIFECYCLE_END_STALLED);
}

static void on_leave_late(void *arg)
{
    finish(arg, LIFECYCLE_END_GONE);
}

static void on_tick(void *arg)
{
    struct follow *f = arg;

    term_status_tick(f->status);
    loop_timer_set(f->tick, TICK_MS);
}

/* --- life --- */

static const struct {
    const char *file;
    lifecycle_line_fn fn;
} sources[SOURCE_COUNT] = {
    [SOURCE_EVENTS] = {LAYOUT_HA_STDOUT, on_event_line},
    [SOURCE_LOG] = {LAYOUT_HA_STDERR, on_log_line},
    [SOURCE_CONSOLE] = {LAYOUT_SERIAL_LOG, on_console_line},
};

static void follow_done(struct follow *f)
{
    term_status_free(f->status);
    for (size_t i = 0; i < SOURCE_COUNT; i++) {
        lifecycle_tail_free(f->tails[i]);
    }
    loop_child_free(f->child);
    loop_signal_free(f->interrupt);
    loop_signal_free(f->terminate);
    loop_timer_free(f->timeout);
    loop_timer_free(f->stall);
    loop_timer_free(f->leave);
    loop_timer_free(f->tick);
    loop_free(f->loop);
}
SCOPED_VAL(struct follow, follow_done)

static void follow_start(struct follow *f)
{
    f->loop = loop_new();
    f->status = term_status_new();
    f->interrupt = loop_signal_new(f->loop, SIGINT, on_signal, f);
    f->terminate = loop_signal_new(f->loop, SIGTERM, on_signal, f);
    f->timeout = loop_timer_new(f->loop, on_timeout, f);
    f->stall = loop_timer_new(f->loop, on_stall, f);
    f->leave = loop_timer_new(f->loop, on_leave_late, f);
    f->tick = loop_timer_new(f->loop, on_tick, f);
    if (f->options->timeout_ms > 0) {
        loop_timer_set(f->timeout, f->options->timeout_ms);
    }
    note_progress(f);
    if (term_stderr_is_tty()) {
        loop_timer_set(f->tick, TICK_MS);
    }
}

/* Reads what is there; @from_end skips it instead. */
static int open_sources(struct follow *f, struct error *err)
{
    for (size_t i = 0; i < SOURCE_COUNT; i++) {
        bool from_end = f->options->goal == LIFECYCLE_GOAL_EXIT || i == SOURCE_CONSOLE;
        int r = lifecycle_tail_new(f->loop, f->options->dir, sources[i].file, from_end,
                                   sources[i].fn, f, &f->tails[i], err);

        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < SOURCE_COUNT; i++) {
        lifecycle_tail_drain(f->tails[i]);
    }
    f->result->at_once = f->result->end != LIFECYCLE_END_NONE;
    return 0;
}

int lifecycle_follow(const struct lifecycle_follow_options *options, struct lifecycle_result *ret,
                     struct error *err)
{
    scoped(follow_done) struct follow f = {.options = options, .result = ret};
    scoped(error_done) struct error child_err = ERROR_INIT;
    int r;

    follow_start(&f);
    r = open_sources(&f, err);
    if (r < 0) {
        return r;
    }
    r = loop_child_new(f.loop, options->agent, on_agent_exit, &f, &f.child, &child_err);
    if (r == -ESRCH) {
        on_agent_exit(options->agent, -1, &f);
    } else if (r < 0) {
        return error_move(err, &child_err);
    }
    if (ret->end == LIFECYCLE_END_NONE) {
        loop_run(f.loop);
    }
    return 0;
}
