/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which way a start goes depends on the two processes of an instance:
 *
 *   agent  VM   what is done
 *   no     no   prepare, start an agent, which starts the VM
 *   no     yes  start an agent, which takes the VM over
 *   yes    -    follow the agent that is there: it is ready already, or somebody else is starting
 * it
 *
 * The lock is held until the new agent has spoken, so that other verbs see either none or a live
 * one.
 */
#include "lifecycle/start.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "instance/instance.h"
#include "instance/layout.h"
#include "instance/record.h"
#include "instance/store.h"
#include "lifecycle/check.h"
#include "lifecycle/follow.h"
#include "lifecycle/lock.h"
#include "lifecycle/prepare.h"
#include "lifecycle/seed.h"
#include "lifecycle/stop.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"
#include "util/term.h"
#include "util/units.h"

#define LOG_MODE 0644
#define GRACE_MS 30000 /* for an agent whose start has failed to take its VM down */

struct start {
    const struct lifecycle_start_options *options;
    struct instance *inst;
    bool ours; /* this call starts the VM, so it may end it */
    pid_t agent;
    int lock_fd;
};

/* --- starting the agent --- */

static int agent_argv(const struct start *s, struct strv *ret, struct error *err)
{
    scoped(free) char *self = NULL;
    scoped(free) char *pidfile = instance_path(s->inst, LAYOUT_HA_PID);
    scoped(free) char *socket = instance_path(s->inst, LAYOUT_HA_SOCK);

    self = s->options->limactl ? xstrdup(s->options->limactl) : path_self();
    if (!self) {
        return error_errno(err, errno, "finding this program's file");
    }
    strv_add(ret, self);
    if (log_get_level() <= LOG_LEVEL_DEBUG) {
        strv_add(ret, "--debug");
    }
    strv_add_all(ret, "hostagent", "--pidfile", pidfile, "--socket", socket, NULL);
    strv_add(ret, s->inst->name);
    return 0;
}

static int open_log(const struct start *s, const char *file, int *ret, struct error *err)
{
    scoped(free) char *path = instance_path(s->inst, file);

    *ret = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, LOG_MODE);
    return *ret < 0 ? error_errno(err, errno, "opening '%s'", path) : 0;
}

static int open_logs(const struct start *s, int *ret_out, int *ret_err, struct error *err)
{
    int r = open_log(s, LAYOUT_HA_STDOUT, ret_out, err);

    return r < 0 ? r : open_log(s, LAYOUT_HA_STDERR, ret_err, err);
}

static int spawn(struct start *s, struct error *err)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(fd_close) int out = -1;
    scoped(fd_close) int log = -1;
    struct process_options options = PROCESS_OPTIONS_INIT;
    int r = agent_argv(s, &argv, err);

    if (r < 0) {
        return r;
    }
    r = open_logs(s, &out, &log, err);
    if (r < 0) {
        return r;
    }
    options.stdout_fd = out;
    options.stderr_fd = log;
    options.new_session = true;
    r = process_start(strv_argv(&argv), &options, &s->agent, err);
    return r < 0 ? error_wrap(err, r, "starting the host agent") : 0;
}

/* With a terminal the agent's events and logs go there, else to the files. */
static int become_agent(struct start *s, struct error *err)
{
    static const char note[] = "{\"level\":\"info\",\"msg\":\"the host agent runs in the "
                               "foreground: see its terminal\"}\n";
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(fd_close) int out = -1;
    scoped(fd_close) int log = -1;
    int r = agent_argv(s, &argv, err);

    if (r < 0) {
        return r;
    }
    r = open_logs(s, &out, &log, err);
    if (r < 0) {
        return r;
    }
    if (!term_stdin_is_tty()) {
        dup2(out, STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
    } else {
        r = fd_write_all(log, note, strlen(note));
        if (r < 0) {
            return error_errno(err, -r, "writing '%s'", LAYOUT_HA_STDERR);
        }
    }
    execv(argv.items[0], argv.items);
    return error_errno(err, errno, "running '%s'", argv.items[0]);
}

/* --- outcomes --- */

static char *shell_command(const struct start *s)
{
    if (s->inst->config->plain) {
        scoped(free) char *config = instance_path(s->inst, LAYOUT_SSH_CONFIG);

        return xasprintf("ssh -F %s %s", config, s->inst->hostname);
    }
    return str_eq(s->inst->name, "default") ? xstrdup("lima")
                                            : xasprintf("limactl shell %s", s->inst->name);
}

/* Without the log's prefix, to be copied from. */
static void show_message(const struct start *s)
{
    scoped(instance_free) struct instance *now = NULL;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = NULL;

    if (instance_open(s->options->lima_home, s->inst->name, &now, &err) < 0 ||
        instance_message(now, s->options->lima_home, &text, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "the instance's message cannot be shown, ignoring");
        return;
    }
    if (*text) {
        fprintf(stderr, "%s\n", text);
    }
}

static int broken(const struct start *s, struct error *err)
{
    scoped(free) char *why = strv_join(&s->inst->errors, "\n");

    error_set(err, EIO, "instance `%s` was started before, but is `%s`: %s", s->inst->name,
              instance_status_name(s->inst->status), why);
    return error_hint(err, "`limactl stop -f %s` ends what is left of it", s->inst->name), -EIO;
}

static int ready(const struct start *s, bool at_once, struct error *err)
{
    scoped(free) char *command = shell_command(s);

    if (at_once && s->inst->status != INSTANCE_STATUS_RUNNING) {
        return broken(s, err);
    }
    if (s->options->quiet) {
        return 0;
    }
    if (at_once) {
        log_info("The instance `%s` is already running. Run `%s` to open the shell.", s->inst->name,
                 command);
        return 0;
    }
    log_info("READY. Run `%s` to open the shell.", command);
    show_message(s);
    return 0;
}

static int degraded(const struct start *s, const struct lifecycle_result *result, struct error *err)
{
    scoped(free) char *why = strv_join(&result->errors, "\n");
    scoped(free) char *command = shell_command(s);

    error_set(err, ENOTRECOVERABLE,
              "DEGRADED. The instance `%s` runs, but not everything in it works: %s", s->inst->name,
              why);
    error_hint(err, "look into it with `%s`; `limactl stop %s` stops it", command, s->inst->name);
    return -ENOTRECOVERABLE;
}

/* Ends what this call has started. A VM that ran before is left alone. */
static void take_down(const struct start *s)
{
    scoped(instance_free) struct instance *now = NULL;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(fd_close) int lock = -1;

    if (!s->ours) {
        return;
    }
    process_kill(s->agent, SIGTERM, GRACE_MS, NULL);
    if (lifecycle_lock(s->inst->dir, s->inst->name, &lock, &err) < 0 ||
        instance_open(s->options->lima_home, s->inst->name, &now, &err) < 0 ||
        ((now->host_agent_pid || now->driver_pid) && lifecycle_kill(now, &err) < 0)) {
        log_error_of(LOG_LEVEL_WARN, &err, "cleaning up after the failed start, ignoring");
    }
}

static int failed(const struct start *s, const struct lifecycle_result *result, struct error *err)
{
    scoped(free) char *log = instance_path(s->inst, LAYOUT_HA_STDERR);
    scoped(free) char *why = strv_join(&result->errors, "\n");
    scoped(free) char *status =
        result->status >= 0 ? process_status_text(result->status) : xstrdup("its end not observed");

    take_down(s);
    if (*why) {
        error_set(err, EIO, "instance `%s` did not start: %s", s->inst->name, why);
    } else {
        error_set(err, EIO, "instance `%s` did not start: host agent process has exited (%s)",
                  s->inst->name, status);
    }
    return error_hint(err, "see '%s'", log), -EIO;
}

/* What did not come, by the last that did (agent/boot.c has the stages). */
static char *awaited(const struct lifecycle_result *result)
{
    static const struct {
        const char *stage, *next;
    } stages[] = {
        {"booting", "the guest agent to speak, after firmware, kernel and services"},
        {"guest agent is up", "cloud-init to make the user and set up the network"},
        {"user and network are set up", "sshd to accept logins"},
        {"ssh is ready", "provisioning to begin"},
        {"provisioning", "the provisioning scripts to end"},
        {"readiness probes", "the readiness probes to succeed"},
    };

    if (!result->stage) {
        return xstrdup("the host agent to begin");
    }
    if (str_eq(result->stage, "running") && result->detail) {
        return xasprintf("'%s' to end", result->detail);
    }
    for (size_t i = 0; i < ARRAY_LEN(stages); i++) {
        if (str_eq(result->stage, stages[i].stage)) {
            return xstrdup(stages[i].next);
        }
    }
    return xasprintf("what comes after '%s'", result->stage);
}

static int too_late(const struct start *s, const struct lifecycle_result *result, int64_t limit_ms,
                    struct error *err)
{
    scoped(free) char *limit = duration_format(limit_ms);
    scoped(free) char *console = instance_path(s->inst, LAYOUT_SERIAL_LOG);
    scoped(free) char *pending = awaited(result);
    bool stalled = result->end == LIFECYCLE_END_STALLED;

    take_down(s);
    error_set(err, ETIMEDOUT, "instance `%s` %s %s; the last stage was: %s; it waited for %s",
              s->inst->name, stalled ? "made no progress for" : "was not ready within", limit,
              result->stage ? result->stage : "none", pending);
    return error_hint(err, "the guest's console is in '%s'", console), -ETIMEDOUT;
}

static int interrupted(const struct start *s, struct error *err)
{
    error_set(err, EINTR, "interrupted; instance `%s` goes on starting in the background",
              s->inst->name);
    error_hint(err, "`limactl start %s` waits for it again, `limactl stop %s` ends it",
               s->inst->name, s->inst->name);
    return -EINTR;
}

/* --- the way through --- */

static int follow(struct start *s, struct error *err)
{
    int64_t stall_ms = s->options->stall_ms ? s->options->stall_ms : LIFECYCLE_STALL_MS;
    struct lifecycle_follow_options options = {.dir = s->inst->dir,
                                               .agent = s->agent,
                                               .goal = LIFECYCLE_GOAL_READY,
                                               .timeout_ms = s->options->timeout_ms,
                                               .stall_ms = stall_ms,
                                               .lock_fd = &s->lock_fd};
    scoped(lifecycle_result_done) struct lifecycle_result result = LIFECYCLE_RESULT_INIT;
    int r = lifecycle_follow(&options, &result, err);

    fd_close(steal_fd(&s->lock_fd));
    if (r < 0) {
        return r;
    }
    switch (result.end) {
    case LIFECYCLE_END_READY:
        return ready(s, result.at_once, err);
    case LIFECYCLE_END_DEGRADED:
        return degraded(s, &result, err);
    case LIFECYCLE_END_TIMEOUT:
        return too_late(s, &result, s->options->timeout_ms, err);
    case LIFECYCLE_END_STALLED:
        return too_late(s, &result, stall_ms, err);
    case LIFECYCLE_END_INTERRUPTED:
        return interrupted(s, err);
    default:
        return failed(s, &result, err);
    }
}

/* An agent is there: it is running, or another limactl waits for it as we shall. */
static int join_agent(struct start *s, struct error *err)
{
    s->agent = s->inst->host_agent_pid;
    fd_close(steal_fd(&s->lock_fd)); /* we change nothing */
    return follow(s, err);
}

static int start_agent(struct start *s, struct error *err)
{
    scoped(free) char *stale = instance_path(s->inst, LAYOUT_HA_PID);
    int r = file_remove(stale, err);

    if (r < 0) {
        return r;
    }
    if (s->options->foreground) {
        return become_agent(s, err);
    }
    r = spawn(s, err);
    return r < 0 ? r : follow(s, err);
}

static int begin(struct start *s, struct error *err)
{
    int r = lifecycle_check_config(s->inst, err);

    if (r < 0) {
        return r;
    }
    if (s->inst->host_agent_pid) {
        return join_agent(s, err);
    }
    if (s->inst->driver_pid) {
        log_warn("the VM of instance `%s` runs without a host agent, starting a new one and "
                 "ignoring the old one's end",
                 s->inst->name);
        return start_agent(s, err);
    }
    r = lifecycle_prepare(s->inst, s->options->lima_home, err);
    if (r < 0) {
        return r;
    }
    log_info("Starting the instance `%s` with the driver `%s`", s->inst->name,
             s->inst->config->vm_type);
    s->ours = true;
    r = lifecycle_kill(s->inst, err); /* nothing lives: this clears stale sockets and pid files */
    if (r == 0) {
        r = lifecycle_write_seed(s->inst, s->options->lima_home, err);
    }
    return r < 0 ? r : start_agent(s, err);
}

int lifecycle_start(const struct lifecycle_start_options *options, struct error *err)
{
    struct start s = {.options = options, .lock_fd = -1};
    scoped(free) char *dir = instance_dir(options->lima_home, options->name);
    int r = lifecycle_lock(dir, options->name, &s.lock_fd, err);

    if (r < 0) {
        return r;
    }
    r = instance_open(options->lima_home, options->name, &s.inst, err);
    if (r == 0) {
        r = begin(&s, err);
    }
    fd_close(s.lock_fd);
    instance_free(s.inst);
    return r;
}
