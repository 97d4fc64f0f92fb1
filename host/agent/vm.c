/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/internal.h"

#include <string.h>
#include "agent/sshport.h"
#include "base/alloc.h"
#include "base/log.h"
#include "ssh/ssh.h"

#define START_TRIES 5 /* with another ssh port each time */

static void on_banner_answer(void *arg)
{
    struct agent *a = arg;

    carrier_ssh_answers(a->carrier);
    boot_ssh_answers(a->boot);
}

static void on_driver_started(void *arg)
{
    struct agent *a = arg;

    agent_emit(a, (struct api_event){0});
    boot_started(a->boot);
    if (a->config->plain) {
        a->banner = banner_new(a->loop, a->ssh_port, on_banner_answer, a);
    } else {
        session_connect(a);
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
    agent_finish(a, 0);
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

static void on_driver_mount_lost(const char *tag, const char *reason, void *arg)
{
    struct agent *a = arg;

    mounts_lost(a->mounts, tag, reason);
}

static void on_driver_mount_added(const char *tag, const char *why, void *arg)
{
    struct agent *a = arg;

    mounts_device_added(a->mounts, tag, why);
}

static void on_driver_mount_removed(const char *tag, const char *why, void *arg)
{
    struct agent *a = arg;

    mounts_device_removed(a->mounts, tag, why);
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
    .mount_lost = on_driver_mount_lost,
    .mount_added = on_driver_mount_added,
    .mount_removed = on_driver_mount_removed,
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

int vm_begin(struct agent *a, struct error *err)
{
    return a->inst->driver_pid ? take_over_vm(a, err) : start_vm(a, err);
}
