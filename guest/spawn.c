/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork(2) rather than vfork(2), and a pipe that tells how it went: entering a folder or executing a
 * file may wait for a file system that does not answer, and the agent must not wait with it.
 */
#include "spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define STATUS_NOEXEC 127

void spawn_limits_take(struct spawn_limits *ret)
{
    getrlimit(RLIMIT_NOFILE, &ret->files);
    getrlimit(RLIMIT_MEMLOCK, &ret->memlock);
}

static void reset_oom_score(void)
{
    scoped(fd_close) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, "0", 1) != 1) {
        log_debug("resetting the score for the out-of-memory killer: %s", strerror(errno));
    }
}

void spawn_reset(const struct spawn_limits *limits)
{
    struct sigaction ordinary = {.sa_handler = SIG_DFL};
    sigset_t none;

    setsid();
    for (int signo = 1; signo < SIGSYS; signo++) {
        sigaction(signo, &ordinary, NULL); /* refused for some: they cannot differ */
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setrlimit(RLIMIT_NOFILE, &limits->files);
    setrlimit(RLIMIT_MEMLOCK, &limits->memlock);
    reset_oom_score();
    umask(022);
}

/*
 * As a login has it (pam_keyinit). The agent's would be shared by the commands of all users: who
 * has a keyring may read the keys in it. A kernel without keys has none to share.
 */
static void take_own_keyring(void)
{
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 ||
        syscall(SYS_keyctl, KEYCTL_LINK, KEY_SPEC_USER_KEYRING, KEY_SPEC_SESSION_KEYRING) < 0) {
        log_debug("a session keyring of its own: %s, ignoring", strerror(errno));
    }
}

int spawn_become(const struct spawn_identity *as)
{
    if (!as) {
        return 0;
    }
    if (initgroups(as->name, as->gid) < 0 || setgid(as->gid) < 0 || setuid(as->uid) < 0) {
        return -errno;
    }
    take_own_keyring();
    return 0;
}

static const char *path_of(const char *const *envp)
{
    for (; *envp; envp++) {
        if (strncmp(*envp, "PATH=", 5) == 0) {
            return *envp + 5;
        }
    }
    return "";
}

static _noreturn_ void fail(int status_fd, enum spawn_step step, int error)
{
    const struct spawn_failure failure = {step, error};

    if (write(status_fd, &failure, sizeof(failure)) != sizeof(failure)) {
        log_error("starting a command, step %d: %s", step, strerror(error));
    }
    _exit(STATUS_NOEXEC);
}

/* The descriptors may be 0 to 2 themselves: they go above those first. 0 or -errno. */
static int place_fds(const int fds[3])
{
    int high[3];

    for (int i = 0; i < 3; i++) {
        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (high[i] < 0) {
            return -errno;
        }
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(high[i], i) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* Before Linux 5.9. */
static void close_listed(int keep_fd)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        int fd = atoi(entry->d_name); /* 0 of "." and ".." */

        if (fd > STDERR_FILENO && fd != keep_fd && fd != dirfd(dir)) {
            close(fd);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

void spawn_close_others(int keep_fd)
{
    unsigned keep = (unsigned)MAX(keep_fd, STDERR_FILENO), first = STDERR_FILENO + 1;

    if ((keep > first && syscall(SYS_close_range, first, keep - 1, 0) < 0) ||
        syscall(SYS_close_range, keep + 1, ~0u, 0) < 0) {
        close_listed(keep_fd);
    }
}

static _noreturn_ void run_child(const struct spawn_limits *limits,
                                 const struct spawn_options *options, int status_fd)
{
    int r = place_fds(options->fds);

    if (r < 0) {
        fail(status_fd, SPAWN_STEP_FDS, -r);
    }
    spawn_close_others(status_fd);
    spawn_reset(limits);
    if (options->terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0) {
        fail(status_fd, SPAWN_STEP_TERMINAL, errno);
    }
    r = spawn_become(options->as);
    if (r < 0) {
        fail(status_fd, SPAWN_STEP_USER, -r);
    }
    if (chdir(options->dir) < 0 && (!options->dir_optional || chdir("/") < 0)) {
        fail(status_fd, SPAWN_STEP_DIR, errno);
    }
    setenv("PATH", path_of(options->envp), 1); /* for the search; the program gets @envp */
    execvpe(options->path, (char *const *)options->argv, (char *const *)options->envp);
    fail(status_fd, SPAWN_STEP_EXEC, errno);
}

int spawn(const struct spawn_limits *limits, const struct spawn_options *options, pid_t *ret_pid,
          int *ret_status_fd, struct error *err)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        return error_errno(err, errno, "opening a pipe");
    }
    pid = fork();
    if (pid == 0) {
        /* The pipe must not be hit when 0 to 2 are placed. */
        run_child(limits, options, fcntl(fds[1], F_DUPFD_CLOEXEC, 3));
    }
    fd_close(fds[1]);
    if (pid < 0) {
        fd_close(fds[0]);
        return error_errno(err, errno, "starting '%s'", options->path);
    }
    *ret_pid = pid;
    *ret_status_fd = fds[0];
    return 0;
}
