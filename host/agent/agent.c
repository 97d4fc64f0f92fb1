/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who calls whom: the driver tells of the VM process, its console and the agent's port; the peer
 * tells of the guest's stages, scripts and listeners; boot decides what that means; the table
 * forwards ports; all of it ends as event lines on standard output. Everything happens in one loop,
 * from callbacks.
 *
 * The end is always the same: something calls finish(), the loop returns, and agent_run() takes
 * everything down in reverse order and writes the "exiting" event last.
 */
#include "agent/agent.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "agent/banner.h"
#include "agent/boot.h"
#include "agent/carrier.h"
#include "agent/guest.h"
#include "agent/pidfile.h"
#include "agent/ports.h"
#include "agent/resolver.h"
#include "agent/sshport.h"
#include "api/events.h"
#include "api/server.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/ration.h"
#include "driver/console.h"
#include "driver/driver.h"
#include "instance/instance.h"
#include "instance/layout.h"
#include "peer/client.h"
#include "peer/gate.h"
#include "peer/ways.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/process.h"

#define POWERDOWN_PATIENCE_MS 180000 /* from asking the guest to power down to killing the VM */
#define EARLY_PATIENCE_MS     15000  /* the same while no agent speaks: likely nobody listens */
#define RECONNECT_MIN_MS      50
#define RECONNECT_MAX_MS      2000
#define START_TRIES           5 /* with another ssh port each time */

/* What a guest that opens and closes ports all day can make us write. */
#define LOG_BURST 4000
#define LOG_PER_S 10

struct agent {
    const struct agent_options *options;
    struct loop *loop;
    struct instance *inst;
    const struct config *config; /* of inst */
    int ssh_port;
    int pidfile_fd;
    struct strv ssh_keys;

    const struct driver_ops *ops;
    struct driver *driver;
    bool vm_runs;
    bool stopping;
    struct console_watch *console;

    struct peer *peer;
    bool wants_ssh; /* for forwards */
    struct carrier *carrier;
    struct guest *guest;
    char *program; /* the guest agent that belongs to us */
    struct loop_timer *reconnect;
    int64_t reconnect_ms;
    struct ports *ports;
    struct boot *boot;
    struct banner *banner;
    struct api_server *server;
    struct resolver *resolver; /* NULL: the guest's DNS is not ours */
    struct gate *gate;         /* NULL: local programs do not reach the guest */

    struct loop_signal *sigint, *sigterm;
    struct loop_timer *patience;
    bool running, degraded; /* as the events say */
    bool boot_degraded;
    struct strv end_errors; /* for the exiting event */
};

/* Fills the standing state in and writes the event. A reader that is gone is no reason to stop. */
static void emit(struct agent *a, struct api_event event)
{
    scoped(error_done) struct error err = ERROR_INIT;

    event.running = a->running;
    event.degraded = a->degraded;
    event.ssh_local_port = a->ssh_port;
    if (api_event_write(STDOUT_FILENO, &event, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "an event was lost, ignoring");
    }
}

static void finish(struct agent *a, int result)
{
    loop_quit(a->loop, result);
}

static void kill_vm(struct agent *a)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (!a->vm_runs) {
        finish(a, 0);
    } else if (a->ops->kill(a->driver, &err) < 0) {
        log_error_of(LOG_LEVEL_ERROR, &err, "the VM could not be killed");
        finish(a, -EIO);
    }
}

static void on_patience_end(void *arg)
{
    struct agent *a = arg;

    log_warn("the guest did not power down in time, killing it and ignoring what it was doing");
    kill_vm(a);
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
    if (a->ops->shutdown(a->driver, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "the guest cannot be asked to power down, ignoring it");
        kill_vm(a);
    }
}

/* --- boot --- */

static void on_boot_progress(const char *stage, const char *detail, void *arg)
{
    emit(arg, (struct api_event){.progress = stage, .progress_detail = detail});
}

/* What rules with onConflict "fail" lack makes the instance degraded, as long as it lacks. */
static void check_forwards(struct agent *a, struct strv *errors)
{
    ports_failures(a->ports, errors);
    a->degraded = a->boot_degraded || errors->len > 0;
}

static void on_boot_ready(const struct strv *errors, void *arg)
{
    struct agent *a = arg;
    scoped(strv_done) struct strv all = STRV_INIT;

    banner_free(a->banner);
    a->banner = NULL;
    ports_start(a->ports);
    a->boot_degraded = errors->len > 0;
    check_forwards(a, &all);
    strv_extend(&all, errors);
    a->running = true;
    emit(a, (struct api_event){.errors = &all});
    guest_ready(a->guest);
    peer_measure(a->peer);
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

/* --- guest --- */

static void connect_later(struct agent *a)
{
    loop_timer_set(a->reconnect, a->reconnect_ms);
    a->reconnect_ms = MIN(a->reconnect_ms * 2, RECONNECT_MAX_MS);
}

static void connect_guest(struct agent *a)
{
    scoped(error_done) struct error err = ERROR_INIT;
    int fd;

    if (a->ops->guest_connect(a->driver, &fd, &err) < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "the guest agent's port, retrying");
        connect_later(a);
        return;
    }
    peer_attach(a->peer, fd, true);
}

static void on_reconnect_time(void *arg)
{
    struct agent *a = arg;

    if (a->vm_runs) {
        connect_guest(a);
    }
}

static void on_peer_connected(const struct peer_info *info, void *arg)
{
    struct agent *a = arg;

    a->reconnect_ms = RECONNECT_MIN_MS;
    log_debug("guest agent %s on %s, kernel %s, boot %s", info->agent_version, info->os,
              info->kernel, info->boot_id);
    carrier_peer_changed(a->carrier, info->boot_id);
    guest_connected(a->guest, info);
    resolver_connected(a->resolver);
    if (a->running) {
        peer_measure(a->peer);
    }
}

static void on_peer_disconnected(void *arg)
{
    struct agent *a = arg;

    log_debug("the session with the guest agent ended");
    carrier_peer_changed(a->carrier, NULL);
    guest_disconnected(a->guest);
}

static void on_peer_closed(void *arg)
{
    connect_later(arg);
}

static void on_peer_stage(enum peer_stage stage, const char *detail, const char *instance_id,
                          uint64_t uptime_us, void *arg)
{
    struct agent *a = arg;

    log_debug("guest stage %d at %.3f s: %s", stage, (double)uptime_us / 1e6, detail);
    boot_stage(a->boot, stage, detail);
    if (stage == PEER_STAGE_SSH) {
        carrier_ssh_answers(a->carrier);
    }
}

static void on_peer_script(const struct peer_script *script, void *arg)
{
    struct agent *a = arg;

    boot_script(a->boot, script);
}

static void on_peer_ports(bool snapshot, const struct peer_port *added, size_t added_count,
                          const struct peer_port *removed, size_t removed_count, void *arg)
{
    struct agent *a = arg;

    ports_update(a->ports, snapshot, added, added_count, removed, removed_count);
}

static const struct peer_events peer_events = {
    .connected = on_peer_connected,
    .disconnected = on_peer_disconnected,
    .closed = on_peer_closed,
    .stage = on_peer_stage,
    .script = on_peer_script,
    .ports = on_peer_ports,
};

static void on_ports_happened(struct api_event *event, void *arg)
{
    struct agent *a = arg;
    scoped(strv_done) struct strv errors = STRV_INIT;

    if (a->running) {
        check_forwards(a, &errors);
        event->errors = &errors;
    }
    emit(a, *event);
}

/* --- driver --- */

static void on_banner_answer(void *arg)
{
    struct agent *a = arg;

    carrier_ssh_answers(a->carrier);
    boot_ssh_answers(a->boot);
}

static void on_driver_started(void *arg)
{
    struct agent *a = arg;

    emit(a, (struct api_event){0});
    boot_started(a->boot);
    if (a->config->plain) {
        a->banner = banner_new(a->loop, a->ssh_port, on_banner_answer, a);
    } else {
        connect_guest(a);
    }
}

/* @expected: the guest powered down. That is no failure, but for a guest that was to come up. */
static void on_driver_exited(bool expected, const char *reason, void *arg)
{
    struct agent *a = arg;
    bool came_up = boot_state(a->boot) == BOOT_STATE_READY;

    a->vm_runs = false;
    if (a->stopping || (expected && came_up)) {
        log_info("%s", reason);
    } else {
        log_error("%s%s", reason, came_up ? "" : " before the guest was ready");
        strv_addf(&a->end_errors, "%s%s", reason, came_up ? "" : " before the guest was ready");
    }
    finish(a, 0);
}

static void on_driver_notice(const char *what, void *arg)
{
    struct agent *a = arg;

    log_info("the VM reports: %s", what);
    if (strcmp(what, "resumed") == 0) {
        guest_resumed(a->guest);
    }
    if (strcmp(what, "guest-panicked") == 0) {
        boot_fail(a->boot, "the guest's kernel panicked");
    }
}

static void on_driver_guest_port(bool open, void *arg)
{
    struct agent *a = arg;

    if (open) {
        peer_restart(a->peer);
    } else {
        peer_interrupted(a->peer);
    }
}

static void on_driver_console(const char *text, size_t len, void *arg)
{
    struct agent *a = arg;
    scoped(free) char *cause = NULL;

    if (boot_state(a->boot) >= BOOT_STATE_READY) {
        return; /* what a console says then decides nothing */
    }
    cause = console_watch_feed(a->console, text, len);
    boot_console(a->boot, text, len);
    if (cause) {
        scoped(free) char *tail = console_watch_tail(a->console);
        scoped(free) char *full = xasprintf("%s; the console's last lines:\n%s", cause, tail);

        boot_fail(a->boot, full);
    }
}

static const struct driver_events driver_events = {
    .started = on_driver_started,
    .exited = on_driver_exited,
    .notice = on_driver_notice,
    .guest_port = on_driver_guest_port,
    .console = on_driver_console,
};

static int open_driver(struct agent *a, struct error *err)
{
    struct driver_options options = {
        .config = a->config, .dir = a->inst->dir, .ssh_port = a->ssh_port};

    return a->ops->open(a->loop, &options, &driver_events, a, &a->driver, err);
}

/* Another process may take the port between our look and QEMU's bind: then try with another one. */
static int launch(struct agent *a, struct error *err)
{
    for (int tries = 1;; tries++) {
        int r = open_driver(a, err);

        if (r < 0) {
            return r;
        }
        r = a->ops->start(a->driver, err);
        if (r == 0) {
            a->vm_runs = true;
            return 0;
        }
        a->ops->close(a->driver);
        a->driver = NULL;
        if (r != -EADDRINUSE || tries == START_TRIES || a->config->ssh.local_port > 0) {
            return r;
        }
        log_warn("port %d was taken in the meantime, retrying with another", a->ssh_port);
        r = sshport_any(&a->ssh_port, err);
        if (r < 0) {
            return r;
        }
    }
}

static int write_ssh_config(struct agent *a, struct error *err)
{
    scoped(strv_done) struct strv options = STRV_INIT;
    int r = ssh_options(a->options->lima_home, a->inst->dir, &a->config->ssh, a->config->user.name,
                        &options, err);

    if (r < 0) {
        return r;
    }
    return ssh_config_write(a->inst->dir, a->inst->hostname, &options, a->ssh_port, err);
}

static int start_vm(struct agent *a, struct error *err)
{
    scoped(free) char *how = NULL;
    int r = sshport_choose(a->inst, &a->ssh_port, err);

    if (r < 0) {
        return r;
    }
    how = a->ops->describe(a->config);
    log_info("%s: %s", a->ops->name, how);
    r = launch(a, err);
    return r < 0 ? error_wrap(err, r, "starting the VM") : write_ssh_config(a, err);
}

static int take_over_vm(struct agent *a, struct error *err)
{
    int r;

    a->ssh_port = ssh_config_port(a->inst->dir);
    r = open_driver(a, err);
    if (r < 0) {
        return r;
    }
    r = a->ops->attach(a->driver, err);
    if (r < 0) {
        return error_wrap(err, r, "taking over the running VM");
    }
    a->vm_runs = true;
    log_info("taking over the running VM, process %d", (int)a->ops->pid(a->driver));
    return 0;
}

/* --- start and end --- */

static void on_get_info(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    api_answer(exchange, JV_OBJECT(jv_string("sshLocalPort"), jv_number(a->ssh_port),
                                   jv_string("transport"), peer_describe_transport(a->peer),
                                   jv_string("portConflicts"), ports_conflicts(a->ports)));
}

static void on_get_ports(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    ports_get(a->ports, exchange);
}

static void on_post_ports(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    ports_post(a->ports, exchange, body);
}

static void on_delete_ports(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    ports_delete(a->ports, exchange, body);
}

static void on_get_guest(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    guest_describe(a->guest, exchange);
}

static void on_post_upgrade(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    guest_upgrade(a->guest, exchange, body);
}

static const struct api_route routes[] = {
    {"GET", "/v1/info", .handle = on_get_info},
    {"GET", "/v1/guest", .handle = on_get_guest},
    {"POST", "/v1/guest/upgrade", .has_body = true, .handle = on_post_upgrade},
    {"GET", "/v1/ports", .handle = on_get_ports},
    {"POST", "/v1/ports", .has_body = true, .handle = on_post_ports},
    {"DELETE", "/v1/ports", .has_body = true, .handle = on_delete_ports},
    {0},
};

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

static int connect_vsock(unsigned port, int *ret_fd, bool *ret_line, void *arg, struct error *err)
{
    struct agent *a = arg;

    if (!a->driver || !a->ops->vsock_connect) {
        return error_set(err, EOPNOTSUPP, "the VM has no vsock");
    }
    return a->ops->vsock_connect(a->driver, port, ret_fd, ret_line, err);
}

static int open_peer(struct agent *a, struct error *err)
{
    enum way_policy policy;
    int r = way_policy_parse(getenv("LIMA_GUEST_TRANSPORT"), &policy, err);

    if (r < 0) {
        return error_wrap(err, r, "LIMA_GUEST_TRANSPORT");
    }
    a->peer = peer_new(a->loop, &peer_events, a);
    peer_set_vsock(a->peer, policy, connect_vsock, a);
    return 0;
}

static int build(struct agent *a, struct error *err)
{
    int r;

    a->sigint = loop_signal_new(a->loop, SIGINT, on_stop_signal, a);
    a->sigterm = loop_signal_new(a->loop, SIGTERM, on_stop_signal, a);
    a->patience = loop_timer_new(a->loop, on_patience_end, a);
    a->reconnect = loop_timer_new(a->loop, on_reconnect_time, a);
    a->reconnect_ms = RECONNECT_MIN_MS;
    a->boot = boot_new(&boot_events, a);
    a->console = console_watch_new();
    r = open_peer(a, err);
    if (r < 0) {
        return r;
    }
    make_guest(a);
    r = a->inst->driver_pid ? take_over_vm(a, err) : start_vm(a, err);
    if (r < 0) {
        return r;
    }
    open_forwards(a);
    open_gate(a);
    a->resolver = resolver_new(a->loop, a->config, a->inst->hostname, a->peer);
    return api_server_new(a->loop, a->options->socket, routes, a, &a->server, err);
}

static void take_down(struct agent *a)
{
    api_server_free(a->server);
    gate_close(a->gate);
    resolver_free(a->resolver);
    ports_free(a->ports);
    carrier_free(a->carrier);
    banner_free(a->banner);
    guest_free(a->guest);
    peer_free(a->peer);
    free(a->program);
    if (a->driver) {
        a->ops->close(a->driver);
    }
    boot_free(a->boot);
    console_watch_free(a->console);
    loop_timer_free(a->reconnect);
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
