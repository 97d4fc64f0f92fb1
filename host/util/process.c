/* SPDX-License-Identifier: Apache-2.0 */
#include "util/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/file.h"
#include "util/loop.h"
#include "util/path.h"
#include "util/strv.h"

#define CAPTURE_MAX (4u << 20)
#define PIDFILE_MAX 64
#define STAT_MAX    4096

/*
 * The child reports a failed exec by writing its errno into a close-on-exec pipe; end-of-file there
 * means that the exec succeeded.
 */

static void _noreturn_ child_fail(int report_fd)
{
    int code = errno;

    (void)!write(report_fd, &code, sizeof(code));
    _exit(127);
}

/* Puts @fd at number @to; @null_flags opens /dev/null instead for -1. */
static int child_wire(int fd, int to)
{
    if (fd == PROCESS_INHERIT) {
        return 0;
    }
    if (fd < 0) {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            return -1;
        }
    }
    return dup2(fd, to) < 0 ? -1 : 0;
}

/* The lowest number for copies that are safe from the dup2() targets. */
static int child_high_copy(int fd, int min)
{
    return fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, min);
}

static int child_wire_all(const struct process_options *o, int *report_fd)
{
    int min = 3 + (int)o->pass_count, fds[3] = {o->stdin_fd, o->stdout_fd, o->stderr_fd};
    int pass[64];

    if (o->pass_count > ARRAY_LEN(pass)) {
        errno = E2BIG;
        return -1;
    }
    *report_fd = child_high_copy(*report_fd, min);
    for (int i = 0; i < 3; i++) {
        fds[i] = child_high_copy(fds[i], min);
    }
    for (size_t i = 0; i < o->pass_count; i++) {
        pass[i] = child_high_copy(o->pass_fds[i], min);
    }
    for (int i = 0; i < 3; i++) {
        if (child_wire(fds[i], i) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < o->pass_count; i++) {
        if (dup2(pass[i], 3 + (int)i) < 0) {
            return -1;
        }
    }
    return (int)syscall(SYS_close_range, min, ~0u, CLOSE_RANGE_CLOEXEC);
}

static void child_reset_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int signo = 1; signo < NSIG; signo++) {
        signal(signo, SIG_DFL);
    }
}

static void _noreturn_ child_exec(const char *program, const char *const *argv,
                                  const struct process_options *o, int report_fd, pid_t parent)
{
    child_reset_signals();
    if (o->new_session) {
        setsid();
    }
    if (o->die_with_parent && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)) {
        _exit(127);
    }
    if (child_wire_all(o, &report_fd) < 0 || (o->cwd && chdir(o->cwd) < 0)) {
        child_fail(report_fd);
    }
    if (o->env) {
        execve(program, (char *const *)argv, (char *const *)o->env);
    } else {
        execv(program, (char *const *)argv);
    }
    child_fail(report_fd);
}

int process_start(const char *const *argv, const struct process_options *options, pid_t *ret_pid,
                  struct error *err)
{
    scoped(free) char *program = process_find_program(argv[0]);
    scoped(fd_close) int report = -1;
    pid_t pid, self = getpid();
    int pipe_fds[2], code;
    ssize_t n;

    if (!program) {
        error_set(err, ENOENT, "'%s' not found", argv[0]);
        return error_hint(err, "install the package that provides '%s'", path_base(argv[0])),
               -ENOENT;
    }
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return error_errno(err, errno, "creating a pipe");
    }
    report = pipe_fds[0];
    pid = fork();
    if (pid < 0) {
        code = errno;
        fd_close(pipe_fds[1]);
        return error_errno(err, code, "starting '%s'", argv[0]);
    }
    if (pid == 0) {
        child_exec(program, argv, options, pipe_fds[1], self);
    }
    fd_close(pipe_fds[1]);
    do {
        n = read(report, &code, sizeof(code));
    } while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof(code)) {
        waitpid(pid, NULL, 0);
        return error_errno(err, code, "starting '%s'", argv[0]);
    }
    *ret_pid = pid;
    return 0;
}

/* What process_capture() moves between the child and the caller. */
struct capture {
    struct pollfd fds[3]; /* input, stdout, stderr */
    struct buf *bufs[3];
    const char *input;
    size_t input_len;
};

static void capture_close(struct capture *c, int i)
{
    fd_close(c->fds[i].fd);
    c->fds[i].fd = -1;
}

static void capture_feed(struct capture *c)
{
    ssize_t n = write(c->fds[0].fd, c->input, c->input_len);

    if (n > 0) {
        c->input += n;
        c->input_len -= (size_t)n;
    }
    if ((n < 0 && errno != EAGAIN && errno != EINTR) || c->input_len == 0) {
        capture_close(c, 0);
    }
}

static void capture_take(struct capture *c, int i)
{
    char chunk[16384];
    ssize_t n = read(c->fds[i].fd, chunk, sizeof(chunk));

    if (n > 0 && c->bufs[i] && c->bufs[i]->len < CAPTURE_MAX) {
        buf_put(c->bufs[i], chunk, MIN((size_t)n, CAPTURE_MAX - c->bufs[i]->len));
    }
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        capture_close(c, i);
    }
}

/* Until the output pipes are closed, or the deadline. 0 or -ETIMEDOUT. */
static int capture_run(struct capture *c, int64_t deadline)
{
    while (c->fds[1].fd >= 0 || c->fds[2].fd >= 0) {
        int64_t left = deadline < 0 ? -1 : deadline - loop_now_ms();
        int n;

        if (deadline >= 0 && left <= 0) {
            return -ETIMEDOUT;
        }
        n = poll(c->fds, 3, (int)MIN(left, INT_MAX));
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        for (int i = 0; n > 0 && i < 3; i++) {
            if (c->fds[i].fd >= 0 && c->fds[i].revents) {
                if (i == 0) {
                    capture_feed(c);
                } else {
                    capture_take(c, i);
                }
            }
        }
    }
    return 0;
}

static int exit_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int reap(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return exit_code(status);
}

int process_capture(const char *const *argv, const char *input, int64_t timeout_ms,
                    struct buf *ret_stdout, struct buf *ret_stderr, struct error *err)
{
    struct capture c = {.bufs = {NULL, ret_stdout, ret_stderr}, .input = input};
    struct process_options o = PROCESS_OPTIONS_INIT;
    int in[2] = {-1, -1}, out[2], errs[2], r;
    pid_t pid;

    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(errs, O_CLOEXEC) < 0 ||
        (input && pipe2(in, O_CLOEXEC) < 0)) {
        return error_errno(err, errno, "creating a pipe");
    }
    o.stdin_fd = in[0];
    o.stdout_fd = out[1];
    o.stderr_fd = errs[1];
    r = process_start(argv, &o, &pid, err);
    fd_close(in[0]);
    fd_close(out[1]);
    fd_close(errs[1]);
    if (r < 0) {
        fd_close(in[1]);
        fd_close(out[0]);
        fd_close(errs[0]);
        return r;
    }
    c.input_len = input ? strlen(input) : 0;
    c.fds[0] = (struct pollfd){.fd = in[1], .events = POLLOUT};
    c.fds[1] = (struct pollfd){.fd = out[0], .events = POLLIN};
    c.fds[2] = (struct pollfd){.fd = errs[0], .events = POLLIN};
    if (in[1] >= 0) {
        fd_set_nonblock(in[1]);
    }
    r = capture_run(&c, timeout_ms > 0 ? loop_now_ms() + timeout_ms : -1);
    for (int i = 0; i < 3; i++) {
        capture_close(&c, i);
    }
    if (r < 0) {
        kill(pid, SIGKILL);
        reap(pid);
        return error_set(err, -r, "'%s' did not end within %lld ms", argv[0],
                         (long long)timeout_ms);
    }
    return reap(pid);
}

int process_check(const char *const *argv, int64_t timeout_ms, struct buf *ret_stdout,
                  struct error *err)
{
    scoped(buf_done) struct buf errs = BUF_INIT;
    scoped(free) char *text = NULL;
    int r = process_capture(argv, NULL, timeout_ms, ret_stdout, &errs, err);

    if (r <= 0) {
        return r;
    }
    if (errs.len > 2000) {
        buf_drop(&errs, errs.len - 2000);
    }
    text = str_trim(buf_str(&errs));
    return error_set(err, EIO, "'%s' failed with status %d%s%s", argv[0], r, *text ? ": " : "",
                     text);
}

int process_run(const char *const *argv, struct error *err)
{
    struct process_options o = {
        .stdin_fd = PROCESS_INHERIT, .stdout_fd = PROCESS_INHERIT, .stderr_fd = PROCESS_INHERIT};
    pid_t pid;
    int r = process_start(argv, &o, &pid, err);

    return r < 0 ? r : reap(pid);
}

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *process_find_program(const char *name)
{
    scoped(strv_done) struct strv dirs = STRV_INIT;
    const char *path = getenv("PATH");

    if (strchr(name, '/')) {
        return is_program(name) ? xstrdup(name) : NULL;
    }
    strv_split(&dirs, path && *path ? path : "/usr/local/bin:/usr/bin:/bin", ':');
    /* mkfs and friends live in sbin, which an ordinary user's PATH may lack. */
    strv_add_all(&dirs, "/usr/local/sbin", "/usr/sbin", "/sbin", NULL);
    for (size_t i = 0; i < dirs.len; i++) {
        scoped(free) char *full = path_join(*dirs.items[i] ? dirs.items[i] : ".", name);

        if (is_program(full)) {
            return steal(full);
        }
    }
    return NULL;
}

static int wait_pidfd(int fd, int64_t timeout_ms)
{
    int64_t deadline = timeout_ms < 0 ? -1 : loop_now_ms() + timeout_ms;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline < 0 ? -1 : MAX(deadline - loop_now_ms(), 0);
        int n = poll(&p, 1, (int)MIN(left, INT_MAX));

        if (n > 0) {
            return 0;
        }
        if (n == 0 && deadline >= 0 && loop_now_ms() >= deadline) {
            return -ETIMEDOUT;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
    }
}

bool process_alive(pid_t pid)
{
    scoped(fd_close) int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd >= 0 && wait_pidfd(fd, 0) < 0;
}

/* Field 22 of proc_pid_stat(5); the second is a name in parentheses, which may hold anything. */
unsigned long long process_start_time(pid_t pid)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(free) char *path = xasprintf("/proc/%d/stat", (int)pid);
    unsigned long long start = 0;
    const char *rest;

    if (file_read(path, STAT_MAX, &text, NULL) < 0) {
        return 0;
    }
    rest = strrchr(buf_str(&text), ')');
    if (!rest || sscanf(rest,
                        ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
                        "%*d %llu",
                        &start) != 1) {
        return 0;
    }
    return start;
}

pid_t process_read_pidfile(const char *path)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    char *end;
    long pid;

    if (file_read(path, PIDFILE_MAX, &text, NULL) < 0) {
        return 0;
    }
    pid = strtol(buf_str(&text), &end, 10);
    if (pid <= 0 || pid > INT_MAX || (*end && *end != '\n')) {
        return 0;
    }
    return process_alive((pid_t)pid) ? (pid_t)pid : 0;
}

int process_wait(pid_t pid, int64_t timeout_ms)
{
    scoped(fd_close) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int r;

    if (fd < 0) {
        return errno == ESRCH ? 0 : -errno;
    }
    r = wait_pidfd(fd, timeout_ms);
    if (r == 0) {
        waitpid(pid, NULL, WNOHANG); /* if it was our child */
    }
    return r;
}

int process_kill(pid_t pid, int signo, int64_t timeout_ms, struct error *err)
{
    scoped(fd_close) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int r;

    if (fd < 0) {
        return errno == ESRCH ? 0 : error_errno(err, errno, "opening process %d", (int)pid);
    }
    if (syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0) < 0 && errno != ESRCH) {
        return error_errno(err, errno, "sending signal %d to process %d", signo, (int)pid);
    }
    r = wait_pidfd(fd, timeout_ms);
    if (r == 0) {
        waitpid(pid, NULL, WNOHANG);
        return 0;
    }
    return error_set(err, -r, "process %d did not end within %lld ms of signal %d", (int)pid,
                     (long long)timeout_ms, signo);
}

char *process_status_text(int wait_status)
{
    if (WIFSIGNALED(wait_status)) {
        return xasprintf("signal %d (%s)", WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
    }
    return xasprintf("exit status %d", WEXITSTATUS(wait_status));
}
