/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who calls whom: the driver tells of the VM process, its console and the agent's port; the peer
 * tells of the guest's stages, scripts and listeners; boot decides what that means; the table
 * forwards ports; all of it ends as event lines on standard output. Everything happens in one loop,
 * from callbacks.
 *
 * The end is always the same: something calls agent_finish(), the loop returns, and agent_run()
 * takes everything down in reverse order and writes the "exiting" event last.
 */
#include "agent/internal.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "agent/pidfile.h"
#include "base/alloc.h"
#include "base/log.h"
#include "instance/layout.h"
#include "peer/ways.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/path.h"

#define POWERDOWN_PATIENCE_MS 180000 /* from asking the guest to power down to killing the VM */
#define EARLY_PATIENCE_MS     15000  /* the same while no agent speaks: likely nobody listens */

#define PRESS_MS 5000 /* from pressing the power button to doing so again */

/* What a guest that opens and closes ports all day can make us write. */
#define LOG_BURST 4000
#define LOG_PER_S 10

void agent_emit(struct agent *a, struct api_event event)
{
    scoped(error_done) struct error err = ERROR_INIT;

    event.running = a->running;
    event.degraded = a->degraded;
    event.ssh_local_port = a->ssh_port;
    if (api_event_write(STDOUT_FILENO, &event, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "an event was lost, ignoring");
    }
}

void agent_finish(struct agent *a, int result)
{
    loop_quit(a->loop, result);
}

static void kill_vm(struct agent *a)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (!a->vm_runs) {
        agent_finish(a, 0);
    } else if (a->ops->kill(a->driver, &err) < 0) {
        log_error_of(LOG_LEVEL_ERROR, &err, "the VM could not be killed");
        agent_finish(a, -EIO);
    }
}

static void on_patience_end(void *arg)
{
    struct agent *a = arg;

    log_warn("the guest did not power down in time, killing it and ignoring what it was doing");
    kill_vm(a);
}

/*
 * A guest whose system is not up yet does not hear the power button, and nothing tells whether it
 * has. One that has takes no notice of more.
 */
static void on_press_due(void *arg)
{
    struct agent *a = arg;
    scoped(error_done) struct error err = ERROR_INIT;

    if (a->vm_runs && a->ops->shutdown(a->driver, &err) == 0) {
        loop_timer_set(a->press, PRESS_MS);
    }
}

/* A second signal is from someone who does not want to wait. */
static void on_stop_signal(int signo, void *arg)
{
    struct agent *a = arg;
    scoped(error_done) struct error err = ERROR_INIT;
    bool early = boot_state(a->boot) < BOOT_STATE_GUEST && !a->config->plain;

    if (a->stopping) {
        log_info("received %s again, ending the VM at once", strsignal(signo));
        kill_vm(a);
        return;
    }
    a->stopping = true;
    log_info("received %s, shutting down the guest", strsignal(signo));
    loop_timer_set(a->patience, early ? EARLY_PATIENCE_MS : POWERDOWN_PATIENCE_MS);
    loop_timer_set(a->press, PRESS_MS);
    if (a->ops->shutdown(a->driver, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "the guest cannot be asked to power down, ignoring it");
        kill_vm(a);
    }
}

/* --- boot --- */

static void on_boot_progress(const char *stage, const char *detail, void *arg)
{
    agent_emit(arg, (struct api_event){.progress = stage, .progress_detail = detail});
}

/*
 * Mounts that failed, and what rules with onConflict "fail" lack, make the instance degraded, as
 * long as it is so.
 */
static void check_services(struct agent *a, struct strv *errors)
{
    mounts_failures(a->mounts, errors);
    ports_failures(a->ports, errors);
    a->degraded = a->boot_degraded || errors->len > 0;
}

/* Once the boot is over, and all mounts are made or have failed. */
static void try_ready(struct agent *a)
{
    scoped(strv_done) struct strv all = STRV_INIT;

    if (!a->boot_over || a->running || !mounts_are_settled(a->mounts)) {
        return;
    }
    banner_free(a->banner);
    a->banner = NULL;
    ports_start(a->ports);
    a->boot_degraded = boot_errors(a->boot)->len > 0;
    check_services(a, &all);
    strv_extend(&all, boot_errors(a->boot));
    a->running = true;
    agent_emit(a, (struct api_event){.errors = &all});
    guest_ready(a->guest);
    peer_measure(a->peer);
}

static void on_boot_ready(const struct strv *errors, void *arg)
{
    struct agent *a = arg;

    a->boot_over = true;
    try_ready(a);
}

static void on_boot_failed(const struct strv *errors, void *arg)
{
    struct agent *a = arg;

    strv_extend(&a->end_errors, errors);
    a->stopping = true;
    kill_vm(a);
}

static const struct boot_events boot_events = {
    .progress = on_boot_progress,
    .ready = on_boot_ready,
    .failed = on_boot_failed,
};

static void on_ports_happened(struct api_event *event, void *arg)
{
    struct agent *a = arg;
    scoped(strv_done) struct strv errors = STRV_INIT;

    if (a->running) {
        check_services(a, &errors);
        event->errors = &errors;
    }
    agent_emit(a, *event);
}

static void on_mounts_changed(void *arg)
{
    struct agent *a = arg;
    scoped(strv_done) struct strv errors = STRV_INIT;
    bool degraded = a->degraded;

    if (!a->running) {
        try_ready(a); /* its event tells */
        return;
    }
    check_services(a, &errors);
    if (degraded || a->degraded) {
        agent_emit(a, (struct api_event){.errors = &errors});
    }
}

static pid_t vm_pid(void *arg)
{
    struct agent *a = arg;

    return a->ops->pid(a->driver);
}

static bool vm_has_device(const char *tag, void *arg)
{
    struct agent *a = arg;

    return a->ops->mount_has && a->ops->mount_has(a->driver, tag);
}

static int vm_add_device(const struct config_mount *mount, void *arg, struct error *err)
{
    struct agent *a = arg;

    return a->ops->mount_add ? a->ops->mount_add(a->driver, mount, err)
                             : error_set(err, EOPNOTSUPP, "this VM cannot be given a device");
}

static int vm_remove_device(const char *tag, void *arg, struct error *err)
{
    struct agent *a = arg;

    return a->ops->mount_remove ? a->ops->mount_remove(a->driver, tag, err)
                                : error_set(err, EOPNOTSUPP, "no device can be taken out");
}

/* --- start and end --- */

/* The lock on the pid file is what makes us the only agent of this instance. */
static int claim_instance(struct agent *a, struct error *err)
{
    int r = pidfile_claim(a->options->pidfile, &a->pidfile_fd, err);

    if (r == -EBUSY) {
        error_wrap(err, r, "another host agent runs for '%s'", a->options->instance);
        error_hint(err, "run `limactl list %s`", a->options->instance);
    }
    return r;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int open_instance(struct agent *a, struct error *err)
{
    int r = instance_open(a->options->lima_home, a->options->instance, &a->inst, err);

    if (r < 0) {
        return r;
    }
    if (!a->inst->config) {
        scoped(free) char *text = strv_join(&a->inst->errors, "\n");

        return error_set(err, EINVAL, "instance '%s': %s", a->inst->name, text);
    }
    a->config = a->inst->config;
    if ((r = driver_find(a->config->vm_type, &a->ops, err)) < 0 ||
        (r = carrier_wants_ssh(&a->wants_ssh, err)) < 0) {
        return r;
    }
    return ssh_keys_ensure(a->options->lima_home, a->config->ssh.load_dot_ssh_pub_keys,
                           &a->ssh_keys, err);
}

static void open_gate(struct agent *a)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(a->inst->dir, LAYOUT_GA_SOCK);

    if (!a->config->plain && gate_open(a->loop, path, a->peer, &a->gate, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "local programs cannot reach the guest agent, ignoring");
    }
}

static void open_forwards(struct agent *a)
{
    struct carrier_options options = {
        .peer = a->peer,
        .ssh = a->wants_ssh,
        .plain = a->config->plain,
        .lima_home = a->options->lima_home,
        .ssh_port = a->ssh_port,
        .user = a->config->user.name,
    };
    struct forward_env env = {.loop = a->loop, .user = a->config->user.name};

    a->carrier = carrier_new(a->loop, &options);
    env.dialer = carrier_dialer(a->carrier);
    env.udp = carrier_has_udp(a->carrier);
    env.peer = a->config->plain ? NULL : a->peer;
    a->ports = ports_new(&env, a->options->lima_home, a->config, a->ssh_port, on_ports_happened, a);
}

static void make_guest(struct agent *a)
{
    scoped(free) char *name = xasprintf("lima-guestagent.%s-%s", a->config->os, a->config->arch);

    a->program = path_share(name);
    a->guest =
        guest_new(&(struct guest_options){.loop = a->loop, .peer = a->peer, .program = a->program});
}

static void make_mounts(struct agent *a)
{
    a->mounts = mounts_new(&(struct mounts_options){.loop = a->loop,
                                                    .peer = a->peer,
                                                    .lima_home = a->options->lima_home,
                                                    .config = a->config,
                                                    .dir = a->inst->dir,
                                                    .vm = vm_pid,
                                                    .has_device = vm_has_device,
                                                    .add_device = vm_add_device,
                                                    .remove_device = vm_remove_device,
                                                    .changed = on_mounts_changed,
                                                    .arg = a});
}

static int build(struct agent *a, struct error *err)
{
    int r;

    a->sigint = loop_signal_new(a->loop, SIGINT, on_stop_signal, a);
    a->sigterm = loop_signal_new(a->loop, SIGTERM, on_stop_signal, a);
    a->patience = loop_timer_new(a->loop, on_patience_end, a);
    a->press = loop_timer_new(a->loop, on_press_due, a);
    a->boot = boot_new(&boot_events, a);
    a->console = console_watch_new();
    r = session_open(a, err);
    if (r < 0) {
        return r;
    }
    make_guest(a);
    make_mounts(a);
    r = vm_begin(a, err);
    if (r < 0) {
        return r;
    }
    open_forwards(a);
    open_gate(a);
    a->resolver = resolver_new(a->loop, a->config, a->inst->hostname, a->peer);
    return api_server_new(a->loop, a->options->socket, agent_routes, a, &a->server, err);
}

static void take_down(struct agent *a)
{
    api_server_free(a->server);
    gate_close(a->gate);
    resolver_free(a->resolver);
    mounts_free(a->mounts);
    ports_free(a->ports);
    carrier_free(a->carrier);
    banner_free(a->banner);
    guest_free(a->guest);
    session_close(a);
    free(a->program);
    if (a->driver) {
        a->ops->close(a->driver);
    }
    boot_free(a->boot);
    console_watch_free(a->console);
    loop_timer_free(a->press);
    loop_timer_free(a->patience);
    loop_signal_free(a->sigterm);
    loop_signal_free(a->sigint);
    if (a->inst) {
        ssh_master_stop(a->inst->dir);
    }
}

/* The last event; then the pid file goes, which is what tells others that we are gone. */
static void say_goodbye(struct agent *a)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct api_event event = {
        .exiting = true, .errors = &a->end_errors, .ssh_local_port = a->ssh_port};

    if (api_event_write(STDOUT_FILENO, &event, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "the last event was lost, ignoring");
    }
    unlink(a->options->pidfile);
    fd_close(a->pidfile_fd);
}

static int run(struct agent *a, struct error *err)
{
    int r = open_instance(a, err);

    if (r == 0) {
        r = build(a, err);
    }
    if (r < 0) {
        strv_add(&a->end_errors, error_text(err));
        if (a->vm_runs && !a->inst->driver_pid) {
            scoped(error_done) struct error kill_err = ERROR_INIT;

            if (a->ops->kill(a->driver, &kill_err) < 0) {
                log_error_of(LOG_LEVEL_ERROR, &kill_err, "the VM could not be killed");
            }
        }
        return r;
    }
    return loop_run(a->loop);
}

int agent_run(const struct agent_options *options, struct error *err)
{
    struct agent a = {.options = options, .pidfile_fd = -1};
    int r = claim_instance(&a, err);

    if (r < 0) {
        fd_close(a.pidfile_fd);
        return r;
    }
    signal(SIGPIPE, SIG_IGN);
    log_set_limit(LOG_BURST, LOG_PER_S);
    raise_descriptor_limit();
    a.loop = loop_new();
    r = run(&a, err);
    take_down(&a);
    say_goodbye(&a);
    instance_free(a.inst);
    strv_done(&a.ssh_keys);
    strv_done(&a.end_errors);
    loop_free(a.loop);
    return r;
}
