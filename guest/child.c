/* SPDX-License-Identifier: Apache-2.0 */
#include "child.h"

#include <fcntl.h>
#include <string.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define PATH_DEFAULT  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define STATUS_NOEXEC 127
#define READ_SIZE     4096
#define READS_MAX     32 /* in one go: more than a pipe holds, less than would stop all else */

struct child {
    struct children *children;
    struct child *next;
    pid_t pid; /* 0: ended, only its output is still open */
    int fd;
    struct loop_watch *watch;
    bool quiet;
    void (*output)(const void *data, size_t len, void *arg);
    void (*exited)(int status, void *arg);
    void *arg;
};

struct process {
    struct children *children;
    struct process *next;
    pid_t pid;
    bool dead;     /* its end was reported; waitpid(2) has yet to free its number */
    bool released; /* nobody wants to know */
    void (*ended)(const struct process_end *end, void *arg);
    void *arg;
};

struct children {
    struct loop *loop;
    struct child *list;
    struct process *processes;
    struct spawn_limits limits;
};

struct children *children_new(struct loop *loop)
{
    struct children *children = xnew(struct children);

    children->loop = loop;
    spawn_limits_take(&children->limits);
    return children;
}

static void child_free(struct child *child)
{
    struct child **link;

    for (link = &child->children->list; *link != child; link = &(*link)->next) {
    }
    *link = child->next;
    loop_watch_free(child->watch);
    fd_close(child->fd);
    free(child);
}

/* One that has just been forked has no group of its own yet. */
static void signal_group(pid_t leader, int signal)
{
    if (kill(-leader, signal) < 0) {
        kill(leader, signal);
    }
}

pid_t child_pid(const struct child *child)
{
    return child->pid;
}

void child_kill(struct child *child, int signal)
{
    if (child->pid > 0) {
        signal_group(child->pid, signal);
    }
}

static void process_free(struct process *process)
{
    struct process **link;

    for (link = &process->children->processes; *link != process; link = &(*link)->next) {
    }
    *link = process->next;
    free(process);
}

static void on_forgotten_exited(int status, void *arg)
{
}

void child_forget(struct child *child)
{
    child->output = NULL;
    child->exited = on_forgotten_exited;
}

void children_free(struct children *children)
{
    if (!children) {
        return;
    }
    while (children->list) {
        child_kill(children->list, SIGTERM);
        child_free(children->list);
    }
    while (children->processes) {
        process_free(children->processes);
    }
    free(children);
}

static void pass_on(const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(STDERR_FILENO, data, len);

        if (n <= 0) {
            return; /* nobody keeps our log: nothing to be done about it */
        }
        data += n;
        len -= (size_t)n;
    }
}

/* False when the pipe has ended. */
static bool read_output(struct child *child)
{
    char data[READ_SIZE];
    ssize_t n = 1;

    for (int i = 0; i < READS_MAX && (n = read(child->fd, data, sizeof(data))) > 0; i++) {
        if (!child->quiet) {
            pass_on(data, (size_t)n);
        }
        if (child->output) {
            child->output(data, (size_t)n, child->arg);
        }
    }
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void on_output_readable(int fd, short revents, void *arg)
{
    struct child *child = arg;

    if (read_output(child)) {
        return;
    }
    loop_watch_free(child->watch);
    child->watch = NULL;
    if (!child->pid) {
        child_free(child);
    }
}

static void ended(struct child *child, int status)
{
    void (*exited)(int status, void *arg) = child->exited;
    void *arg = child->arg;
    bool open;

    child->pid = 0; /* the number may be another one's by now: output() must not signal it */
    open = child->watch && read_output(child);
    child->output = NULL;
    if (!open) {
        child_free(child);
    }
    exited(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), arg);
}

/* One child that has ended, whose process is gone now; NULL when there is none. */
static struct child *reap_child(struct children *children, int *ret_status)
{
    for (struct child *child = children->list; child; child = child->next) {
        if (child->pid > 0 && waitpid(child->pid, ret_status, WNOHANG) == child->pid) {
            return child;
        }
    }
    return NULL;
}

/* One process that has ended, whose number is kept. */
static struct process *reap_process(struct children *children, siginfo_t *ret_info)
{
    for (struct process *process = children->processes; process; process = process->next) {
        ret_info->si_pid = 0;
        if (!process->dead &&
            waitid(P_PID, (id_t)process->pid, ret_info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            ret_info->si_pid == process->pid) {
            return process;
        }
    }
    return NULL;
}

static void process_ended(struct process *process, const siginfo_t *info)
{
    struct process_end end = {.status = info->si_status & 0xff};

    process->dead = true;
    if (info->si_code != CLD_EXITED) {
        end = (struct process_end){.status = 128 + info->si_status,
                                   .signal = info->si_status,
                                   .core = info->si_code == CLD_DUMPED};
    }
    if (process->released) {
        process_release(process);
    } else {
        process->ended(&end, process->arg); /* may release it */
    }
}

void children_reap(struct children *children)
{
    struct child *child;
    struct process *process;
    siginfo_t info;
    int status;

    while ((child = reap_child(children, &status))) {
        ended(child, status);
    }
    while ((process = reap_process(children, &info))) {
        process_ended(process, &info);
    }
}

int process_start(struct children *children, const struct spawn_options *options,
                  void (*on_ended)(const struct process_end *end, void *arg), void *arg,
                  struct process **ret, int *ret_status_fd, struct error *err)
{
    struct process *process;
    pid_t pid;
    int r;

    r = spawn(&children->limits, options, &pid, ret_status_fd, err);
    if (r < 0) {
        return r;
    }
    process = xnew(struct process);
    *process = (struct process){.children = children,
                                .next = children->processes,
                                .pid = pid,
                                .ended = on_ended,
                                .arg = arg};
    children->processes = process;
    *ret = process;
    return 0;
}

void process_kill(const struct process *process, int signal)
{
    signal_group(process->pid, signal);
}

void process_release(struct process *process)
{
    process->released = true;
    if (process->dead) {
        waitpid(process->pid, NULL, 0);
        process_free(process);
    }
}

static void _noreturn_ run_child(const struct children *children,
                                 const struct child_options *options, int out)
{
    scoped(fd_close) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int r;

    dup2(options->stdin_fd ? options->stdin_fd : null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    spawn_close_others(options->keep_fd > STDERR_FILENO ? options->keep_fd : -1);
    spawn_reset(&children->limits);
    if (options->run) {
        _exit(options->run(options->arg));
    }
    r = spawn_become(options->as);
    if (r < 0) {
        log_error("becoming '%s': %s", options->as->name, strerror(-r));
        _exit(STATUS_NOEXEC);
    }
    if (chdir(options->dir) < 0 && chdir("/") < 0) {
        _exit(STATUS_NOEXEC);
    }
    setenv("PATH", PATH_DEFAULT, 1); /* for the search; the program gets @envp */
    execvpe(options->argv[0], (char *const *)options->argv, (char *const *)options->envp);
    log_error("running '%s': %s", options->argv[0], strerror(errno));
    _exit(STATUS_NOEXEC);
}

int child_start(struct children *children, const struct child_options *options, struct child **ret,
                struct error *err)
{
    struct child *child;
    int pipe_fds[2];
    pid_t pid;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return error_errno(err, errno, "opening a pipe");
    }
    pid = fork();
    if (pid == 0) {
        run_child(children, options, pipe_fds[1]);
    }
    fd_close(pipe_fds[1]);
    if (pid < 0) {
        fd_close(pipe_fds[0]);
        return error_errno(err, errno, "starting '%s'",
                           options->argv ? options->argv[0] : "a child");
    }
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    child = xnew(struct child);
    *child = (struct child){.children = children,
                            .next = children->list,
                            .pid = pid,
                            .fd = pipe_fds[0],
                            .quiet = options->quiet,
                            .output = options->output,
                            .exited = options->exited,
                            .arg = options->arg};
    child->watch = loop_watch_new(children->loop, child->fd, POLLIN, on_output_readable, child);
    children->list = child;
    *ret = child;
    return 0;
}
