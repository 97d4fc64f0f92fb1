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
#include "driver/qemu/accel.h"
#include "driver/qemu/args.h"
#include "driver/qemu/caps.h"
#include "driver/qemu/firmware.h"
#include "driver/qemu/host.h"
#include "driver/qemu/qmp.h"
#include "driver/qemu/tail.h"
#include "driver/qemu/validate.h"
#include "driver/qemu/virtiofs.h"
#include "driver/qemu/vsock.h"
#include "instance/layout.h"
#include "instance/mac.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define BACKLOG          64
#define CMDLINE_MAX      4096
#define TERM_PATIENCE_MS 3000 /* from SIGTERM, at which QEMU flushes its disks, to SIGKILL */

enum state {
    STATE_IDLE,
    STATE_LAUNCHED,
    STATE_RUNNING,
    STATE_GONE,
};

struct driver {
    struct loop *loop;
    const struct config *config;
    char *dir;
    int ssh_port;
    const struct driver_events *events;
    void *events_arg;

    char *binary;
    struct strv extra; /* words of the user, in front */
    struct qemu_caps *caps;
    struct qemu_accel_choice accel;

    enum state state;
    pid_t pid;
    struct loop_child *child;
    struct loop_timer *kill_timer;
    struct qmp *qmp;
    struct qemu_vsock *vsock;       /* NULL: none */
    struct qemu_virtiofs *virtiofs; /* the same */
    struct tail *tail;
    bool end_wanted;        /* by shutdown() or kill() */
    bool guest_powered_off; /* by itself or because it was asked */
    int port_open;          /* as last told upwards; -1: nothing yet */
    bool listening, closed; /* closed while on_qemu_exit() listens: it frees the rest */
    char *qmp_failure;      /* why QMP ended before the VM ran */
};

/* The listening sockets, in the order of their numbers in the child. */
static const char *const socket_names[QEMU_FD_COUNT] = {
    [QEMU_FD_QMP - 3] = LAYOUT_QMP_SOCK,
    [QEMU_FD_SERIAL - 3] = LAYOUT_SERIAL_SOCK,
    [QEMU_FD_AGENT - 3] = LAYOUT_GUEST_PORT,
};

static char *file_of(const struct driver *driver, const char *name)
{
    return path_join(driver->dir, name);
}

/* What is left once nothing calls back any more. */
static void driver_free(struct driver *driver)
{
    qemu_vsock_free(driver->vsock);
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

/* What only a running VM has. */
static void remove_runtime_files(const struct driver *driver)
{
    scoped(free) char *pidfile = file_of(driver, LAYOUT_QEMU_PID);

    unlink(pidfile);
    for (size_t i = 0; i < ARRAY_LEN(runtime_names); i++) {
        scoped(free) char *path = file_of(driver, runtime_names[i]);

        unlink(path);
    }
}

/* @status is -1 for a process that we attached to. Caller frees. */
static char *end_reason(const struct driver *driver, int status)
{
    scoped(free) char *log_path = file_of(driver, LAYOUT_QEMU_LOG);
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
    expected = driver->end_wanted || (driver->guest_powered_off && (status == 0 || status == -1));
    qmp_free(driver->qmp);
    driver->qmp = NULL;
    loop_timer_set(driver->kill_timer, -1);
    driver->state = STATE_GONE;
    qemu_vsock_free(steal(driver->vsock));
    qemu_virtiofs_free(steal(driver->virtiofs));
    remove_runtime_files(driver);
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
    for (size_t i = 0; i < ARRAY_LEN(qmp_event_handlers); i++) {
        if (str_eq(qmp_event_handlers[i].name, name)) {
            qmp_event_handlers[i].handle(arg, data);
            return;
        }
    }
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

/* --- opening --- */

static void driver_close(struct driver *driver)
{
    if (!driver) {
        return;
    }
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

/* --- start --- */

/* io_uring where both QEMU and the kernel let us, else QEMU's default, which is threads. */
static const char *choose_aio(const struct driver *driver)
{
    return strv_contains(&driver->caps->aios, "io_uring") && qemu_io_uring_works() ? "io_uring"
                                                                                   : "";
}

static int read_cmdline(const char *path, char **ret, struct error *err)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    int r = file_exists(path) ? file_read(path, CMDLINE_MAX, &text, err) : 0;

    if (r < 0) {
        return r;
    }
    *ret = str_trim(buf_str(&text));
    return 0;
}

static int build_argv(struct driver *driver, struct strv *argv, struct error *err)
{
    scoped(free) char *disk = file_of(driver, LAYOUT_DISK), *iso = file_of(driver, LAYOUT_ISO);
    scoped(free) char *kernel = file_of(driver, LAYOUT_KERNEL);
    scoped(free) char *initrd = file_of(driver, LAYOUT_INITRD);
    scoped(free) char *cmdline_path = file_of(driver, LAYOUT_KERNEL_CMD);
    scoped(free) char *cmdline = NULL;
    scoped(free) char *mac = instance_mac(driver->dir);
    scoped(qemu_firmware_done) struct qemu_firmware fw = {0};
    size_t fs_count;
    struct qemu_args in = {
        .config = driver->config,
        .dir = driver->dir,
        .accel = driver->accel.name,
        .cpu = qemu_accel_cpu_model(driver->accel.name, driver->config->cpu_type),
        .aio = choose_aio(driver),
        .mac = mac,
        .ssh_port = driver->ssh_port,
        .has_iso = file_exists(iso),
        .has_kernel = file_exists(kernel),
        .has_initrd = file_exists(initrd),
        .vsock = qemu_vsock_kind(driver->vsock),
        .vsock_cid = qemu_vsock_cid(driver->vsock),
        .fs = qemu_virtiofs_devices(driver->virtiofs, &fs_count),
    };
    int r = qemu_disk_format(disk, &in.disk_format, err);

    in.fs_count = fs_count;
    if (r == 0) {
        r = read_cmdline(cmdline_path, &cmdline, err);
    }
    if (r == 0 && !in.has_kernel && !driver->config->legacy_bios) {
        r = qemu_firmware_prepare(driver->config->arch, driver->binary, driver->dir, &fw, err);
    }
    if (r < 0) {
        return r;
    }
    in.kernel_cmdline = cmdline;
    in.firmware_code = fw.code;
    in.firmware_code_writable = fw.code_writable;
    in.firmware_vars = fw.vars;
    strv_add(argv, driver->binary);
    strv_extend(argv, &driver->extra);
    return qemu_args_build(&in, argv, err);
}

static void close_sockets(int *fds)
{
    for (size_t i = 0; i < QEMU_FD_COUNT; i++) {
        fd_close(fds[i]);
        fds[i] = -1;
    }
}

static int open_sockets(const struct driver *driver, int *ret_fds, struct error *err)
{
    for (size_t i = 0; i < QEMU_FD_COUNT; i++) {
        scoped(free) char *path = file_of(driver, socket_names[i]);
        int r = file_listen_unix(path, BACKLOG, &ret_fds[i], err);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* An empty file, also for its reader who may come before its writer. */
static int create_log(const struct driver *driver, const char *name, int *ret_fd, struct error *err)
{
    scoped(free) char *path = file_of(driver, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);

    if (fd < 0) {
        return error_errno(err, errno, "creating '%s'", path);
    }
    *ret_fd = fd;
    return 0;
}

static int connect_qmp(const struct driver *driver, int *ret_fd, struct error *err)
{
    scoped(free) char *path = file_of(driver, LAYOUT_QMP_SOCK);
    int r = file_connect_unix(path, ret_fd, err);

    if (r == 0) {
        fd_set_nonblock(*ret_fd);
    }
    return r;
}

/* Watches the process and talks to it. */
static int follow(struct driver *driver, int *take_qmp_fd, bool from_end, struct error *err)
{
    scoped(free) char *serial = file_of(driver, LAYOUT_SERIAL_LOG);
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

static int spawn(struct driver *driver, const struct strv *argv, const int *fds, struct error *err)
{
    struct process_options options = PROCESS_OPTIONS_INIT;
    scoped(fd_close) int log_fd = -1, serial_fd = -1;
    int pass[QEMU_FD_COUNT + 1 + QEMU_FS_MAX];
    size_t fs_count;
    int r = create_log(driver, LAYOUT_QEMU_LOG, &log_fd, err);

    if (r == 0) {
        r = create_log(driver, LAYOUT_SERIAL_LOG, &serial_fd, err);
    }
    if (r < 0) {
        return r;
    }
    options.stdout_fd = log_fd;
    options.stderr_fd = log_fd;
    memcpy(pass, fds, QEMU_FD_COUNT * sizeof(*fds));
    options.pass_fds = pass;
    options.pass_count = QEMU_FD_COUNT;
    if (driver->vsock) {
        pass[options.pass_count++] = qemu_vsock_fd(driver->vsock);
    }
    qemu_virtiofs_devices(driver->virtiofs, &fs_count);
    for (size_t i = 0; i < fs_count; i++) {
        pass[options.pass_count++] = qemu_virtiofs_fd(driver->virtiofs, i);
    }
    options.new_session = true;
    r = process_start(strv_argv(argv), &options, &driver->pid, err);
    qemu_vsock_passed(driver->vsock);
    qemu_virtiofs_passed(driver->virtiofs);
    return r;
}

/* A process that could not be followed is not left behind. */
static void abandon(struct driver *driver)
{
    kill(driver->pid, SIGKILL);
    loop_child_free(steal(driver->child));
    tail_free(steal(driver->tail));
    waitpid(driver->pid, NULL, 0);
}

static void on_mount_lost(const char *tag, const char *reason, void *arg)
{
    struct driver *driver = arg;

    if (driver->state == STATE_RUNNING) {
        driver->events->mount_lost(tag, reason, driver->events_arg);
    }
}

static int launch(struct driver *driver, int *fds, struct error *err)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(fd_close) int qmp_fd = -1;
    int r;

    driver->vsock = qemu_vsock_start(driver->loop, driver->dir, driver->caps,
                                     qemu_arch_find(driver->config->arch));
    driver->virtiofs =
        qemu_virtiofs_start(driver->loop, driver->config, driver->dir, on_mount_lost, driver);
    r = build_argv(driver, &argv, err);
    if (r == 0) {
        r = open_sockets(driver, fds, err);
    }
    if (r == 0) { /* before QEMU runs, which may end at once and take its socket along */
        r = connect_qmp(driver, &qmp_fd, err);
    }
    if (r == 0) {
        r = spawn(driver, &argv, fds, err);
    }
    close_sockets(fds);
    if (r < 0) {
        return r;
    }
    r = follow(driver, &qmp_fd, false, err);
    if (r < 0) {
        abandon(driver);
    }
    return r;
}

static int driver_start(struct driver *driver, struct error *err)
{
    int fds[QEMU_FD_COUNT] = {-1, -1, -1};
    int r;

    r = qemu_validate_caps(driver->config, driver->accel.name, driver->caps, err);
    if (r == 0 && driver->ssh_port > 0) {
        r = qemu_port_check(driver->ssh_port, err);
    }
    if (r < 0) {
        return r;
    }
    r = launch(driver, fds, err);
    if (r < 0) {
        qemu_vsock_free(steal(driver->vsock));
        qemu_virtiofs_free(steal(driver->virtiofs));
        remove_runtime_files(driver);
    }
    return r;
}

/* --- attach --- */

/* True when process @pid is the QEMU of this instance: its -pidfile is ours. @ret_args: all of it.
 */
static bool is_our_qemu(pid_t pid, const char *pidfile, struct strv *ret_args)
{
    if (qemu_process_args(pid, ret_args, NULL) < 0) {
        return false;
    }
    for (size_t i = 0; i + 1 < ret_args->len; i++) {
        if (str_eq(ret_args->items[i], "-pidfile") && str_eq(ret_args->items[i + 1], pidfile)) {
            return true;
        }
    }
    return false;
}

static int driver_attach(struct driver *driver, struct error *err)
{
    scoped(free) char *pidfile = file_of(driver, LAYOUT_QEMU_PID);
    pid_t pid = process_read_pidfile(pidfile);
    scoped(strv_done) struct strv args = STRV_INIT;
    scoped(fd_close) int qmp_fd = -1;
    int r;

    if (pid == 0 || !is_our_qemu(pid, pidfile, &args)) {
        return error_set(err, ESRCH, "no QEMU runs for this instance");
    }
    driver->vsock = qemu_vsock_attach(&args);
    driver->pid = pid;
    r = connect_qmp(driver, &qmp_fd, err);
    return r < 0 ? r : follow(driver, &qmp_fd, true, err);
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
    scoped(free) char *path = file_of(driver, LAYOUT_GUEST_PORT);
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
    .start = driver_start,
    .attach = driver_attach,
    .shutdown = driver_shutdown,
    .kill = driver_kill,
    .guest_connect = driver_guest_connect,
    .vsock_connect = driver_vsock_connect,
    .pid = driver_pid,
};
