/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One QEMU process and what is heard from it: its exit (pidfd), QMP, and the serial console's log.
 * The process has its own session, writes to qemu.log and inherits three listening sockets, so it
 * needs nothing of the host agent that started it; a later one attaches by name.
 *
 *   IDLE --start, attach--> LAUNCHED --QMP ready--> RUNNING
 *   LAUNCHED, RUNNING --process ends--> GONE
 *
 * shutdown() and kill() note that the end is wanted; the move to GONE always comes from the pidfd.
 * Upward calls may close the driver and are last statements; where one is not, `closed` tells.
 */
#include "driver/qemu/driver.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "driver/qemu/driver_internal.h"
#include "driver/qemu/host.h"
#include "driver/qemu/validate.h"
#include "instance/layout.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define TERM_PATIENCE_MS 3000 /* from SIGTERM, at which QEMU flushes its disks, to SIGKILL */

char *qemu_driver_file(const struct driver *driver, const char *name)
{
    return path_join(driver->dir, name);
}

/* What is left once nothing calls back any more. */
static void driver_free(struct driver *driver)
{
    qemu_vsock_free(driver->vsock);
    qemu_hotplug_free(driver->hotplug);
    qemu_virtiofs_free(driver->virtiofs);
    qemu_caps_free(driver->caps);
    strv_done(&driver->extra);
    free(driver->accel.reason);
    free(driver->qmp_failure);
    free(driver->binary);
    free(driver->dir);
    free(driver);
}

/* --- end of the process --- */

static const char *const runtime_names[] = {LAYOUT_QMP_SOCK, LAYOUT_SERIAL_SOCK, LAYOUT_GUEST_PORT,
                                            LAYOUT_VSOCK_DEVICE, LAYOUT_VSOCK_SOCK};

void qemu_driver_clean(const struct driver *driver)
{
    scoped(free) char *pidfile = qemu_driver_file(driver, LAYOUT_QEMU_PID);

    unlink(pidfile);
    for (size_t i = 0; i < ARRAY_LEN(runtime_names); i++) {
        scoped(free) char *path = qemu_driver_file(driver, runtime_names[i]);

        unlink(path);
    }
}

/* @status is -1 for a process that we attached to. Caller frees. */
static char *end_reason(const struct driver *driver, int status)
{
    scoped(free) char *log_path = qemu_driver_file(driver, LAYOUT_QEMU_LOG);
    scoped(free) char *how =
        status == -1 ? xstrdup("an unknown status") : process_status_text(status);
    scoped(free) char *words = qemu_log_tail(log_path);

    if (driver->guest_powered_off && (status == 0 || status == -1)) {
        return xstrdup("the VM powered down");
    }
    if (driver->end_wanted) {
        return xasprintf("the VM was ended (%s)", how);
    }
    return xasprintf("QEMU (process %d) ended with %s%s%s%s%s", (int)driver->pid, how,
                     driver->qmp_failure ? ": " : "", str_or_empty(driver->qmp_failure),
                     *words ? ": " : "", words);
}

/* What the process said before it ended may not have been read yet. False: closed meanwhile. */
static bool hear_last_words(struct driver *driver)
{
    driver->listening = true;
    if (driver->qmp) {
        qmp_pump(driver->qmp);
    }
    if (!driver->closed) {
        tail_flush(driver->tail);
    }
    driver->listening = false;
    return !driver->closed;
}

static void on_qemu_exit(pid_t pid, int status, void *arg)
{
    struct driver *driver = arg;
    scoped(free) char *reason = NULL;
    bool expected;

    loop_child_free(driver->child);
    driver->child = NULL;
    if (!hear_last_words(driver)) {
        driver_free(driver);
        return;
    }
    reason = end_reason(driver, status);
    qemu_hotplug_free(steal(driver->hotplug)); /* before QMP, whose calls it has */
    expected = driver->end_wanted || (driver->guest_powered_off && (status == 0 || status == -1));
    qmp_free(driver->qmp);
    driver->qmp = NULL;
    loop_timer_set(driver->kill_timer, -1);
    driver->state = STATE_GONE;
    qemu_vsock_free(steal(driver->vsock));
    qemu_virtiofs_clean(driver->virtiofs);
    qemu_driver_clean(driver);
    driver->events->exited(expected, reason, driver->events_arg);
}

static void on_kill_time(void *arg)
{
    struct driver *driver = arg;

    if (driver->child) {
        log_warn("QEMU did not end within %d ms of SIGTERM, killing it and ignoring its disks",
                 TERM_PATIENCE_MS);
        loop_child_kill(driver->child, SIGKILL);
    }
}

/* --- QMP --- */

static void tell_port(struct driver *driver, bool open)
{
    if (driver->port_open == open) {
        return;
    }
    driver->port_open = open;
    driver->events->guest_port(open, driver->events_arg);
}

static bool jv_is_true(jv object, const char *key)
{
    jv value = jv_object_get(jv_copy(object), jv_string(key));
    bool is = jv_get_kind(value) == JV_KIND_TRUE;

    jv_free(value);
    return is;
}

static bool jv_has_text(jv object, const char *key, const char *text)
{
    jv value = jv_object_get(jv_copy(object), jv_string(key));
    bool has = jv_get_kind(value) == JV_KIND_STRING && str_eq(jv_string_value(value), text);

    jv_free(value);
    return has;
}

static void on_qmp_chardevs(enum qmp_outcome outcome, jv value, const char *text, void *arg)
{
    struct driver *driver = arg;
    bool open = false, found = false;

    if (outcome != QMP_OUTCOME_DONE || jv_get_kind(value) != JV_KIND_ARRAY) {
        log_debug("asking for the state of the agent's port: %s, ignoring", str_or_empty(text));
        return;
    }
    jv_array_foreach(value, i, item)
    {
        if (jv_get_kind(item) == JV_KIND_OBJECT && jv_has_text(item, "label", QEMU_AGENT_CHARDEV)) {
            open = jv_is_true(item, "frontend-open");
            found = true;
        }
        jv_free(item);
    }
    if (found && driver->port_open < 0) {
        tell_port(driver, open);
    }
}

/* A VM that we attached to opened its port long ago: only asking tells. */
static void on_qmp_ready(void *arg)
{
    struct driver *driver = arg;
    scoped(error_done) struct error err = ERROR_INIT;

    driver->state = STATE_RUNNING;
    if (qmp_command(driver->qmp, "query-chardev", jv_invalid(), on_qmp_chardevs, driver, NULL,
                    &err) < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "asking for the state of the agent's port, ignoring");
    }
    driver->events->started(driver->events_arg);
}

static void on_vserport(struct driver *driver, jv data)
{
    if (jv_has_text(data, "id", QEMU_AGENT_DEVICE)) {
        tell_port(driver, jv_is_true(data, "open"));
    }
}

static void on_shutdown(struct driver *driver, jv data)
{
    if (jv_has_text(data, "reason", "guest-shutdown")) {
        driver->guest_powered_off = true;
    }
    driver->events->notice("shutdown", driver->events_arg);
}

static void on_reset(struct driver *driver, jv data)
{
    driver->events->notice("reset", driver->events_arg);
}

static void on_panic(struct driver *driver, jv data)
{
    driver->events->notice("guest-panicked", driver->events_arg);
}

static void on_resume(struct driver *driver, jv data)
{
    driver->events->notice("resumed", driver->events_arg);
}

static const struct {
    const char *name;
    void (*handle)(struct driver *driver, jv data);
} qmp_event_handlers[] = {
    {"RESUME", on_resume},     {"WAKEUP", on_resume}, {"VSERPORT_CHANGE", on_vserport},
    {"SHUTDOWN", on_shutdown}, {"RESET", on_reset},   {"GUEST_PANICKED", on_panic},
};

static void on_qmp_event(const char *name, jv data, void *arg)
{
    struct driver *driver = arg;

    for (size_t i = 0; i < ARRAY_LEN(qmp_event_handlers); i++) {
        if (str_eq(qmp_event_handlers[i].name, name)) {
            qmp_event_handlers[i].handle(arg, data);
            return;
        }
    }
    qemu_hotplug_event(driver->hotplug, driver->qmp, name, data);
}

/* QMP ends with the process, whose exit tells all; before the VM runs its end is a failure. */
static void on_qmp_closed(const struct error *reason, void *arg)
{
    struct driver *driver = arg;

    log_debug("QMP ended: %s", reason->code ? error_text(reason) : "end of file");
    if (driver->child && driver->state == STATE_LAUNCHED && reason->code &&
        reason->code != ECONNRESET) {
        free(driver->qmp_failure);
        driver->qmp_failure = xstrdup(error_text(reason));
        loop_child_kill(driver->child, SIGKILL);
    }
}

static const struct qmp_events qmp_events = {
    .ready = on_qmp_ready,
    .event = on_qmp_event,
    .closed = on_qmp_closed,
};

static void on_console_text(const char *text, size_t len, void *arg)
{
    struct driver *driver = arg;

    driver->events->console(text, len, driver->events_arg);
}

int qemu_driver_follow(struct driver *driver, int *take_qmp_fd, bool from_end, struct error *err)
{
    scoped(free) char *serial = qemu_driver_file(driver, LAYOUT_SERIAL_LOG);
    int r;

    r = tail_new(driver->loop, serial, from_end, on_console_text, driver, &driver->tail, err);
    if (r < 0) {
        return r;
    }
    r = loop_child_new(driver->loop, driver->pid, on_qemu_exit, driver, &driver->child, err);
    if (r < 0) {
        return r;
    }
    driver->qmp = qmp_new(driver->loop, steal_fd(take_qmp_fd), &qmp_events, driver);
    driver->state = STATE_LAUNCHED;
    return 0;
}

/* --- folders by virtiofs --- */

static void on_mount_lost(const char *tag, const char *reason, void *arg)
{
    struct driver *driver = arg;

    if (driver->state == STATE_RUNNING && !driver->end_wanted && !driver->guest_powered_off) {
        driver->events->mount_lost(tag, reason, driver->events_arg);
    }
}

static void on_mount_added(const char *tag, const char *why, void *arg)
{
    struct driver *driver = arg;

    driver->events->mount_added(tag, why, driver->events_arg);
}

static void on_mount_removed(const char *tag, const char *why, void *arg)
{
    struct driver *driver = arg;

    driver->events->mount_removed(tag, why, driver->events_arg);
}

static const struct qemu_hotplug_events hotplug_events = {
    .added = on_mount_added,
    .removed = on_mount_removed,
};

static int driver_mount_add(struct driver *driver, const struct config_mount *mount,
                            struct error *err)
{
    if (driver->state != STATE_RUNNING) {
        return error_set(err, ENOTCONN, "QEMU does not listen to commands");
    }
    return qemu_hotplug_add(driver->hotplug, driver->qmp, mount, err);
}

static int driver_mount_remove(struct driver *driver, const char *tag, struct error *err)
{
    if (driver->state != STATE_RUNNING) {
        return error_set(err, ENOTCONN, "QEMU does not listen to commands");
    }
    return qemu_hotplug_remove(driver->hotplug, driver->qmp, tag, err);
}

static bool driver_mount_has(const struct driver *driver, const char *tag)
{
    const struct qemu_virtiofs_server *server = NULL;

    do {
        server = qemu_virtiofs_next(driver->virtiofs, server);
    } while (server && !str_eq(server->tag, tag));
    return server && !server->ended;
}

/* --- opening --- */

static void driver_close(struct driver *driver)
{
    if (!driver) {
        return;
    }
    qemu_hotplug_free(steal(driver->hotplug));
    qmp_free(driver->qmp);
    tail_free(driver->tail);
    loop_child_free(driver->child);
    loop_timer_free(driver->kill_timer);
    if (driver->listening) {
        driver->closed = true;
    } else {
        driver_free(driver);
    }
}
SCOPED_PTR(struct driver, driver_close)

static int driver_open(struct loop *loop, const struct driver_options *options,
                       const struct driver_events *events, void *events_arg, struct driver **ret,
                       struct error *err)
{
    struct qemu_accel_facts facts = qemu_accel_facts_get();
    scoped(driver_close) struct driver *driver = xnew(struct driver);
    int r;

    driver->loop = loop;
    driver->config = options->config;
    driver->dir = xstrdup(options->dir);
    driver->ssh_port = options->ssh_port;
    driver->events = events;
    driver->events_arg = events_arg;
    driver->port_open = -1;
    driver->kill_timer = loop_timer_new(loop, on_kill_time, driver);
    driver->virtiofs = qemu_virtiofs_new(loop, driver->dir, on_mount_lost, driver);
    driver->hotplug = qemu_hotplug_new(loop, driver->virtiofs, &hotplug_events, driver);
    driver->accel = qemu_accel_choose(&facts, options->config->arch, options->accel);
    r = qemu_binary_find(options->config->arch, &driver->binary, &driver->extra, err);
    if (r < 0) {
        return r;
    }
    r = qemu_caps_get(driver->binary, &driver->caps, err);
    if (r < 0) {
        return r;
    }
    *ret = steal(driver);
    return 0;
}

/* --- running --- */

static int driver_shutdown(struct driver *driver, struct error *err)
{
    int r;

    if (!driver->qmp || driver->state != STATE_RUNNING) {
        return error_set(err, ENOTCONN, "QEMU does not listen to commands");
    }
    r = qmp_command(driver->qmp, "system_powerdown", jv_invalid(), NULL, NULL, NULL, err);
    if (r == 0) {
        driver->end_wanted = true;
    }
    return r;
}

static int driver_kill(struct driver *driver, struct error *err)
{
    int r;

    if (!driver->child) {
        return error_set(err, ESRCH, "the VM does not run");
    }
    driver->end_wanted = true;
    r = loop_child_kill(driver->child, SIGTERM);
    if (r < 0 && r != -ESRCH) { /* -ESRCH: exited() is on its way */
        return error_errno(err, -r, "ending process %d", (int)driver->pid);
    }
    loop_timer_set(driver->kill_timer, TERM_PATIENCE_MS);
    return 0;
}

static int driver_guest_connect(struct driver *driver, int *ret_fd, struct error *err)
{
    scoped(free) char *path = qemu_driver_file(driver, LAYOUT_GUEST_PORT);
    int r = file_connect_unix(path, ret_fd, err); /* the backlog is larger than our need */

    if (r == 0) {
        fd_set_nonblock(*ret_fd);
    }
    return r;
}

static int driver_vsock_connect(struct driver *driver, unsigned port, int *ret_fd, bool *ret_line,
                                struct error *err)
{
    return qemu_vsock_connect(driver->vsock, port, ret_fd, ret_line, err);
}

static pid_t driver_pid(const struct driver *driver)
{
    return driver->child ? driver->pid : 0;
}

const struct driver_ops qemu_driver_ops = {
    .name = "qemu",
    .validate = qemu_validate,
    .describe = qemu_describe,
    .open = driver_open,
    .close = driver_close,
    .start = qemu_driver_start,
    .attach = qemu_driver_attach,
    .shutdown = driver_shutdown,
    .kill = driver_kill,
    .guest_connect = driver_guest_connect,
    .vsock_connect = driver_vsock_connect,
    .mount_add = driver_mount_add,
    .mount_remove = driver_mount_remove,
    .mount_has = driver_mount_has,
    .pid = driver_pid,
};
