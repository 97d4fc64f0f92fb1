/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/driver_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "driver/qemu/args.h"
#include "driver/qemu/firmware.h"
#include "driver/qemu/host.h"
#include "driver/qemu/validate.h"
#include "instance/layout.h"
#include "instance/mac.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define BACKLOG     64
#define CMDLINE_MAX 4096

/* The listening sockets, in the order of their numbers in the child. */
static const char *const socket_names[QEMU_FD_COUNT] = {
    [QEMU_FD_QMP - 3] = LAYOUT_QMP_SOCK,
    [QEMU_FD_SERIAL - 3] = LAYOUT_SERIAL_SOCK,
    [QEMU_FD_AGENT - 3] = LAYOUT_GUEST_PORT,
};

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

static int build_argv(struct driver *driver, bool hotplug, struct strv *argv, struct error *err)
{
    scoped(free) char *disk = qemu_driver_file(driver, LAYOUT_DISK),
                      *iso = qemu_driver_file(driver, LAYOUT_ISO);
    scoped(free) char *kernel = qemu_driver_file(driver, LAYOUT_KERNEL);
    scoped(free) char *initrd = qemu_driver_file(driver, LAYOUT_INITRD);
    scoped(free) char *cmdline_path = qemu_driver_file(driver, LAYOUT_KERNEL_CMD);
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
        .hotplug = hotplug,
    };
    int r = qemu_disk_format(disk, &in.disk_format, err);

    in.fs_count = fs_count;
    qemu_hotplug_set_ports(driver->hotplug, qemu_args_ports(&in));
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
        scoped(free) char *path = qemu_driver_file(driver, socket_names[i]);
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
    scoped(free) char *path = qemu_driver_file(driver, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);

    if (fd < 0) {
        return error_errno(err, errno, "creating '%s'", path);
    }
    *ret_fd = fd;
    return 0;
}

static int connect_qmp(const struct driver *driver, int *ret_fd, struct error *err)
{
    scoped(free) char *path = qemu_driver_file(driver, LAYOUT_QMP_SOCK);
    int r = file_connect_unix(path, ret_fd, err);

    if (r == 0) {
        fd_set_nonblock(*ret_fd);
    }
    return r;
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

static int launch(struct driver *driver, int *fds, struct error *err)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(fd_close) int qmp_fd = -1;
    bool hotplug;
    int r;

    driver->vsock = qemu_vsock_start(driver->loop, driver->dir, driver->caps,
                                     qemu_arch_find(driver->config->arch));
    qemu_virtiofs_start(driver->virtiofs, driver->config, &hotplug);
    hotplug = hotplug && !strv_contains(&driver->config->mount_types_unsupported, "virtiofs");
    r = build_argv(driver, hotplug, &argv, err);
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
    r = qemu_driver_follow(driver, &qmp_fd, false, err);
    if (r < 0) {
        abandon(driver);
    }
    return r;
}

int qemu_driver_start(struct driver *driver, struct error *err)
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
        qemu_virtiofs_clean(driver->virtiofs);
        qemu_driver_clean(driver);
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

/* How many ports it was started with. */
static int count_ports(const struct strv *args)
{
    int count = 0;

    for (size_t i = 0; i < args->len; i++) {
        count += str_starts(args->items[i], "pcie-root-port,id=");
    }
    return count;
}

int qemu_driver_attach(struct driver *driver, struct error *err)
{
    scoped(free) char *pidfile = qemu_driver_file(driver, LAYOUT_QEMU_PID);
    pid_t pid = process_read_pidfile(pidfile);
    scoped(strv_done) struct strv args = STRV_INIT;
    scoped(fd_close) int qmp_fd = -1;
    int r;

    if (pid == 0 || !is_our_qemu(pid, pidfile, &args)) {
        return error_set(err, ESRCH, "no QEMU runs for this instance");
    }
    driver->vsock = qemu_vsock_attach(&args);
    qemu_virtiofs_attach(driver->virtiofs);
    qemu_hotplug_set_ports(driver->hotplug, count_ports(&args));
    driver->pid = pid;
    r = connect_qmp(driver, &qmp_fd, err);
    return r < 0 ? r : qemu_driver_follow(driver, &qmp_fd, true, err);
}
