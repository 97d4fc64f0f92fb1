/* SPDX-License-Identifier: Apache-2.0 */
#include "child.h"

#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

struct children {
    struct loop *loop;
    struct child *list;
    struct rlimit files;
    struct rlimit memlock;
};

struct children *children_new(struct loop *loop)
{
    struct children *children = xnew(struct children);

    children->loop = loop;
    getrlimit(RLIMIT_NOFILE, &children->files);
    getrlimit(RLIMIT_MEMLOCK, &children->memlock);
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

void child_kill(struct child *child, int signal)
{
    if (child->pid > 0) {
        kill(-child->pid, signal);
    }
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
    bool open = child->watch && read_output(child);

    child->pid = 0;
    child->output = NULL;
    if (!open) {
        child_free(child);
    }
    exited(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), arg);
}

void children_reap(struct children *children)
{
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct child *child = children->list;

        while (child && child->pid != pid) {
            child = child->next;
        }
        if (child) {
            ended(child, status);
        }
    }
}

/* The agent is spared by the out-of-memory killer; its children are ordinary. */
static void reset_oom_score(void)
{
    scoped(fd_close) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, "0", 1) != 1) {
        log_debug("resetting the score for the out-of-memory killer: %s", strerror(errno));
    }
}

static int become(const struct child_identity *as)
{
    if (!as) {
        return 0;
    }
    return initgroups(as->name, as->gid) < 0 || setgid(as->gid) < 0 || setuid(as->uid) < 0 ? -errno
                                                                                           : 0;
}

static void _noreturn_ run_child(const struct children *children,
                                 const struct child_options *options, int out)
{
    scoped(fd_close) int null = open("/dev/null", O_RDONLY);
    sigset_t none;
    int r;

    setsid();
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setrlimit(RLIMIT_NOFILE, &children->files);
    setrlimit(RLIMIT_MEMLOCK, &children->memlock);
    reset_oom_score();
    r = become(options->as);
    if (r < 0) {
        log_error("becoming '%s': %s", options->as->name, strerror(-r));
        _exit(STATUS_NOEXEC);
    }
    if (chdir(options->dir) < 0 && chdir("/") < 0) {
        _exit(STATUS_NOEXEC);
    }
    umask(022);
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
        return error_errno(err, errno, "starting '%s'", options->argv[0]);
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
