/* SPDX-License-Identifier: Apache-2.0 */
#include "install.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "cloudinit.h"
#include "envlist.h"
#include "files.h"
#include "program.h"
#include "seed.h"
#include "system.h"

#define PROGRAM      "lima-guestagent"
#define UNIT         PROGRAM ".service"
#define UNIT_DIR     "/etc/systemd/system"
#define UNIT_WANTS   UNIT_DIR "/sysinit.target.wants"
#define OPENRC_DIR   "/etc/init.d"
#define OPENRC_WANTS "/etc/runlevels/default"
#define COPY_SIZE    65536

char *install_systemd_unit(const char *path)
{
    return xasprintf("[Unit]\n"
                     "Description=Lima guest agent\n"
                     "Documentation=https://lima-vm.io/\n"
                     "DefaultDependencies=no\n"
                     "After=systemd-remount-fs.service\n"
                     "RequiresMountsFor=%s /var/lib /var/log\n"
                     "Conflicts=shutdown.target\n"
                     "Before=shutdown.target user.slice\n" /* users' programs save to mounts */
                     "StartLimitIntervalSec=0\n"
                     "\n"
                     "[Service]\n"
                     "Type=simple\n"
                     "ExecStart=%s run\n"
                     "Restart=always\n"
                     "RestartSec=200ms\n"
                     "NotifyAccess=main\n"
                     "FileDescriptorStoreMax=128\n" /* mounts go on after a kill: keep.h */
                     "KillMode=process\n"           /* what a command left running goes on */
                     "OOMPolicy=continue\n"
                     "OOMScoreAdjust=-500\n"
                     "TasksMax=infinity\n"
                     "LimitNOFILE=1024:524288\n" /* children have the first */
                     "Delegate=yes\n"
                     "\n"
                     "[Install]\n"
                     "WantedBy=sysinit.target\n",
                     path, path);
}

char *install_openrc_script(const char *path)
{
    return xasprintf("#!/sbin/openrc-run\n"
                     "description=\"Lima guest agent\"\n"
                     "supervisor=supervise-daemon\n"
                     "command=\"%s\"\n"
                     "command_args=\"run\"\n"
                     "pidfile=\"/run/lima-guestagent.pid\"\n"
                     "output_log=\"/var/log/lima-guestagent.log\"\n"
                     "error_log=\"/var/log/lima-guestagent.log\"\n"
                     "respawn_delay=1\n"
                     "respawn_max=0\n"
                     "\n"
                     "depend() {\n"
                     "\tneed localmount\n"
                     "\tafter bootmisc hwdrivers\n"
                     "}\n",
                     path);
}

/* Reads as much as there is, up to @len; -errno. */
static ssize_t read_full(int fd, char *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = read(fd, data + done, len - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static bool same_content(int a, int b)
{
    scoped(free) char *x = xmalloc(COPY_SIZE);
    scoped(free) char *y = xmalloc(COPY_SIZE);
    ssize_t n, m;

    if (lseek(a, 0, SEEK_SET) < 0 || lseek(b, 0, SEEK_SET) < 0) {
        return false;
    }
    do {
        n = read_full(a, x, COPY_SIZE);
        m = read_full(b, y, COPY_SIZE);
        if (n < 0 || n != m || memcmp(x, y, (size_t)n) != 0) {
            return false;
        }
    } while (n > 0);
    return true;
}

static int copy_content(int from, int to)
{
    scoped(free) char *data = xmalloc(COPY_SIZE);
    ssize_t n;

    while ((n = read_full(from, data, COPY_SIZE)) > 0) {
        if (write(to, data, (size_t)n) != n) {
            return errno ? -errno : -EIO;
        }
    }
    return (int)n;
}

static int replace_program(int from, const char *path, struct error *err)
{
    scoped(free) char *temporary = xasprintf("%s.lima-new", path);
    scoped(fd_close) int to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    int r;

    if (to < 0) {
        return error_errno(err, errno, "creating '%s'", temporary);
    }
    errno = 0;
    r = lseek(from, 0, SEEK_SET) < 0 ? -errno : copy_content(from, to);
    if (r == 0 && (fchmod(to, 0755) < 0 || fsync(to) < 0 || rename(temporary, path) < 0)) {
        r = -errno;
    }
    if (r < 0) {
        unlink(temporary);
        return error_errno(err, -r, "installing '%s'", path);
    }
    return 1;
}

/*
 * The host has upgraded this program since it wrote the seed, or went back from what is there: a
 * reboot of the machine alone changes nothing about that.
 */
static bool is_previous(int from, const char *path)
{
    scoped(free) char *previous = program_beside(path, "previous");
    scoped(fd_close) int fd = open(previous, O_RDONLY | O_CLOEXEC);

    return fd >= 0 && same_content(from, fd);
}

/* The one that was there is no previous one: what it was upgraded from says nothing now. */
static int replace_from_seed(int from, const char *path, struct error *err)
{
    scoped(free) char *previous = program_beside(path, "previous");
    int r = replace_program(from, path, err);

    if (r > 0) {
        program_confirm(path);
        unlink(previous);
    }
    return r;
}

int install_program(const char *seed_dir, const char *prefix, char **ret_path, struct error *err)
{
    scoped(free) char *source = xasprintf("%s/%s", seed_dir, PROGRAM);
    scoped(free) char *folder = xasprintf("%s/bin", *prefix ? prefix : INSTALL_PREFIX_DEFAULT);
    scoped(free) char *path = xasprintf("%s/%s", folder, PROGRAM);
    scoped(fd_close) int from = open(source, O_RDONLY | O_CLOEXEC);
    scoped(fd_close) int old = open(path, O_RDONLY | O_CLOEXEC);
    int r;

    if (from < 0) {
        return error_errno(err, errno, "opening '%s'", source);
    }
    r = files_mkdirs(folder, 0755, err);
    if (r == 0 && (old < 0 || (!same_content(from, old) && !is_previous(from, path)))) {
        r = replace_from_seed(from, path, err);
    }
    if (r >= 0) {
        *ret_path = steal(path);
    }
    return r;
}

/* Waits: the installer has nothing else to do. 0, or the command's failure. */
static int run_command(const char *const *argv, struct error *err)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return error_errno(err, errno, "running '%s'", argv[0]);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        return error_set(err, EIO, "'%s %s' failed", argv[0], argv[1]);
    }
    return 0;
}

static int enable(const char *target, const char *folder, const char *name, struct error *err)
{
    scoped(free) char *link = xasprintf("%s/%s", folder, name);
    int r = files_mkdirs(folder, 0755, err);

    if (r < 0) {
        return r;
    }
    if (symlink(target, link) < 0 && errno != EEXIST) {
        return error_errno(err, errno, "linking '%s'", link);
    }
    return 0;
}

/*
 * systemd reads the file of a unit that it has not met yet when it is started; only a changed one
 * needs the slow reload.
 */
static int start_systemd(bool reload, bool restart, struct error *err)
{
    static const char *const reload_argv[] = {"systemctl", "daemon-reload", NULL};
    static const char *const start_argv[] = {"systemctl", "start", "--no-block", UNIT, NULL};
    static const char *const restart_argv[] = {"systemctl", "restart", "--no-block", UNIT, NULL};
    int r = reload ? run_command(reload_argv, err) : 0;

    if (r == 0) {
        r = run_command(restart ? restart_argv : start_argv, err);
    }
    if (r < 0 && !reload) {
        error_done(err);
        return start_systemd(true, restart, err);
    }
    return r;
}

/*
 * We run inside cloud-init's init stage. If the later stages have no modules they would still start
 * an interpreter each, just when the machine has most to do: their start is taken back.
 */
static void cancel_idle_stages(const char *seed_dir)
{
    static const char *const stop_argv[] = {
        "systemctl", "stop", "--no-block", "cloud-config.service", "cloud-final.service", NULL};
    scoped(free) char *path = xasprintf("%s/user-data", seed_dir);
    scoped(free) char *user_data = files_read(path, SEED_TEXT_MAX, NULL);
    scoped(error_done) struct error err = ERROR_INIT;
    struct cloudinit_status status;

    cloudinit_status(&status);
    if (!user_data || !cloudinit_only_init(user_data) || cloudinit_single_process() ||
        status.init_finished) {
        return;
    }
    if (run_command(stop_argv, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "idle stages of cloud-init, ignoring");
    }
}

static int install_systemd(const char *path, bool program_changed, struct error *err)
{
    scoped(free) char *text = install_systemd_unit(path);
    bool old = files_exist(UNIT_DIR "/" UNIT);
    int r = files_mkdirs(UNIT_DIR, 0755, err);
    int changed;

    changed = r < 0 ? r : files_write(UNIT_DIR "/" UNIT, text, 0644, err);
    r = changed < 0 ? changed : enable("../" UNIT, UNIT_WANTS, UNIT, err);
    return r < 0 ? r : start_systemd(old && changed, old && (changed || program_changed), err);
}

static int install_openrc(const char *path, bool program_changed, struct error *err)
{
    static const char *const start_argv[] = {"rc-service", PROGRAM, "start", NULL};
    static const char *const restart_argv[] = {"rc-service", PROGRAM, "restart", NULL};
    scoped(free) char *text = install_openrc_script(path);
    int changed = files_write(OPENRC_DIR "/" PROGRAM, text, 0755, err);
    int r = changed < 0 ? changed : enable(OPENRC_DIR "/" PROGRAM, OPENRC_WANTS, PROGRAM, err);

    return r < 0 ? r : run_command(program_changed || changed ? restart_argv : start_argv, err);
}

int install_main(const char *seed_dir, struct error *err)
{
    scoped(free) char *vars_path = xasprintf("%s/lima.env", seed_dir);
    scoped(free) char *text = files_read(vars_path, SEED_TEXT_MAX, err);
    scoped(envlist_done) struct envlist vars = {0};
    scoped(free) char *path = NULL;
    int r = text ? envlist_parse(&vars, text, vars_path, err) : -EIO;
    int changed;

    if (r < 0) {
        return r;
    }
    changed = install_program(seed_dir, envlist_text(&vars, "LIMA_CIDATA_GUEST_INSTALL_PREFIX"),
                              &path, err);
    if (changed < 0) {
        return changed;
    }
    if (system_has_systemd()) {
        r = install_systemd(path, changed, err);
        cancel_idle_stages(seed_dir);
        return r;
    }
    if (files_exist("/sbin/openrc-run")) {
        return install_openrc(path, changed, err);
    }
    return error_set(err, ENOTSUP, "neither systemd nor OpenRC runs here");
}
