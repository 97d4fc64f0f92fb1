/* SPDX-License-Identifier: Apache-2.0 */
#include "image/tool.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "util/file.h"
#include "util/loop.h"
#include "util/path.h"
#include "util/process.h"
#include "util/sys.h"
#include "util/term.h"

#define ADMIN_PATH "/usr/local/sbin:/usr/sbin:/sbin"
#define TAIL_MAX   4096
#define TAIL_LINES 8
#define OUTPUT_MAX (1u << 20)
#define TICK_MS    1000
#define GRACE_MS   10000

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

struct tool {
    char *dir;
    int log_fd;
    struct strv env;
    struct loop *loop;
    struct loop_signal *signals[ARRAY_LEN(signals)];
    struct loop_timer *tick;
    struct loop_timer *grace; /* until an interrupted program is killed */
    struct term_status *status;
    char *stage;
    bool interrupted;
    pid_t pid; /* of the running program, leader of its session; 0: none */
    int wait_status;
    struct buf tail; /* end of its output */
    struct buf line; /* unfinished line of its output */
};

static void tool_redraw(struct tool *tool, const char *detail)
{
    term_status_set(tool->status, tool->stage, detail);
}

static void on_tool_tick(void *arg)
{
    struct tool *tool = arg;

    term_status_tick(tool->status);
    loop_timer_set(tool->tick, TICK_MS);
}

static void on_tool_grace(void *arg)
{
    struct tool *tool = arg;

    if (tool->pid > 0) {
        kill(-tool->pid, SIGKILL);
    }
}

static void on_tool_signal(int signo, void *arg)
{
    struct tool *tool = arg;

    tool->interrupted = true;
    if (tool->pid > 0) {
        kill(-tool->pid, SIGINT);
        kill(-tool->pid, SIGTERM);
        loop_timer_set(tool->grace, GRACE_MS);
    }
}

/* The environment, with the folders of the administrator's programs in PATH. */
static void tool_make_env(struct strv *env)
{
    for (char **e = environ; *e; e++) {
        if (!str_starts(*e, "PATH=") && !str_starts(*e, "LC_") && !str_starts(*e, "LANG")) {
            strv_add(env, *e);
        }
    }
    strv_addf(env, "PATH=%s:%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin", ADMIN_PATH);
    strv_add(env, "LC_ALL=C.UTF-8");
}

int tool_open(const char *dir, struct tool **ret, struct error *err)
{
    scoped(tool_close) struct tool *tool = xnew(struct tool);
    scoped(free) char *log = path_join(dir, "build.log");

    tool->dir = xstrdup(dir);
    tool->log_fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (tool->log_fd < 0) {
        return error_errno(err, errno, "creating '%s'", log);
    }
    tool_make_env(&tool->env);
    tool->loop = loop_new();
    tool->tick = loop_timer_new(tool->loop, on_tool_tick, tool);
    tool->grace = loop_timer_new(tool->loop, on_tool_grace, tool);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        tool->signals[i] = loop_signal_new(tool->loop, signals[i], on_tool_signal, tool);
    }
    tool->status = term_status_new();
    *ret = steal(tool);
    return 0;
}

void tool_close(struct tool *tool)
{
    if (!tool) {
        return;
    }
    term_status_free(tool->status);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        loop_signal_free(tool->signals[i]);
    }
    loop_timer_free(tool->tick);
    loop_timer_free(tool->grace);
    loop_free(tool->loop);
    strv_done(&tool->env);
    fd_close(tool->log_fd);
    buf_done(&tool->tail);
    buf_done(&tool->line);
    free(tool->stage);
    free(tool->dir);
    free(tool);
}

void tool_stage(struct tool *tool, const char *stage)
{
    free(tool->stage);
    tool->stage = xstrdup(stage);
    tool_redraw(tool, NULL);
}

/* mmdebstrap says "I: what it does" at each step. */
static void tool_take_line(struct tool *tool, const char *line)
{
    if (str_starts(line, "I: ")) {
        tool_redraw(tool, line + 3);
    }
    log_debug("%s", line);
}

static void tool_take(struct tool *tool, const char *data, size_t len)
{
    if (fd_write_all(tool->log_fd, data, len) < 0) {
        log_debug("build.log: not written, ignoring");
    }
    buf_put(&tool->tail, data, len);
    if (tool->tail.len > TAIL_MAX) {
        buf_drop(&tool->tail, tool->tail.len - TAIL_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if (data[i] != '\n' && data[i] != '\r') {
            buf_putc(&tool->line, data[i]);
        } else {
            tool_take_line(tool, buf_str(&tool->line));
            buf_truncate(&tool->line, 0);
        }
    }
}

/* One run: both output pipes, and where standard output goes. */
struct run {
    struct tool *tool;
    struct loop_io *out, *err;
    struct buf *output;
    int open; /* pipes */
    bool over;
};

static void run_pump(struct run *run, struct loop_io **io, int fd, struct buf *output)
{
    char chunk[8192];
    ssize_t n = read(fd, chunk, sizeof(chunk));

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        loop_io_free(*io);
        *io = NULL;
        run->open--;
        return;
    }
    if (output && output->len + (size_t)n <= OUTPUT_MAX) {
        buf_put(output, chunk, (size_t)n);
    } else if (!output) {
        tool_take(run->tool, chunk, (size_t)n);
    }
}

static void on_run_stdout(evutil_socket_t fd, short what, void *arg)
{
    struct run *run = arg;

    run_pump(run, &run->out, fd, run->output);
}

static void on_run_stderr(evutil_socket_t fd, short what, void *arg)
{
    struct run *run = arg;

    run_pump(run, &run->err, fd, NULL);
}

static void on_run_exit(pid_t pid, int status, void *arg)
{
    struct run *run = arg;

    run->tool->wait_status = status;
    run->over = true;
}

/* The last lines of the output, indented, for an error message. Caller frees. */
static char *tool_tail(struct tool *tool)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(strv_done) struct strv lines = STRV_INIT;
    scoped(free) char *trimmed = str_trim(buf_str(&tool->tail));

    strv_split(&lines, trimmed, '\n');
    for (size_t i = lines.len > TAIL_LINES ? lines.len - TAIL_LINES : 0; i < lines.len; i++) {
        buf_printf(&text, "\n  %s", lines.items[i]);
    }
    return buf_steal(&text);
}

/* A file that can be read from the start with @input in it, or -1. */
static int run_input(const char *input)
{
    int fd = memfd_create("input", MFD_CLOEXEC);

    if (fd >= 0 && (fd_write_all(fd, input, strlen(input)) < 0 || lseek(fd, 0, SEEK_SET) < 0)) {
        fd_close(fd);
        return -1;
    }
    return fd;
}

static int run_start(struct run *run, const struct strv *argv, const char *input, int out[2],
                     int log[2], struct error *err)
{
    struct tool *tool = run->tool;
    scoped(fd_close) int in = input ? run_input(input) : -1;
    struct process_options options = {
        .env = strv_argv(&tool->env),
        .cwd = tool->dir,
        .stdin_fd = in,
        .stdout_fd = out[1],
        .stderr_fd = log[1],
        .new_session = true,
        .die_with_parent = true,
    };

    if (input && in < 0) {
        return error_errno(err, errno, "preparing the input of '%s'", argv->items[0]);
    }
    return process_start(strv_argv(argv), &options, &tool->pid, err);
}

/* Everything that the program and its children say, until it has ended. */
static int run_wait(struct run *run, int out_fd, int log_fd, struct error *err)
{
    struct tool *tool = run->tool;
    scoped(loop_child_free) struct loop_child *child = NULL;
    int r;

    fd_set_nonblock(out_fd);
    fd_set_nonblock(log_fd);
    run->out = loop_io_new(tool->loop, out_fd, EV_READ, on_run_stdout, run);
    run->err = loop_io_new(tool->loop, log_fd, EV_READ, on_run_stderr, run);
    run->open = 2;
    r = loop_child_new(tool->loop, tool->pid, on_run_exit, run, &child, err);
    while (r == 0 && (!run->over || run->open > 0)) {
        loop_once(tool->loop);
    }
    loop_io_free(run->out);
    loop_io_free(run->err);
    loop_timer_set(tool->grace, -1);
    tool->pid = 0;
    return r;
}

static int run_result(struct tool *tool, const char *program, struct error *err)
{
    scoped(free) char *status = NULL;
    scoped(free) char *tail = NULL;

    if (tool_check(tool, err) < 0) {
        return -EINTR;
    }
    if (WIFEXITED(tool->wait_status) && WEXITSTATUS(tool->wait_status) == 0) {
        return 0;
    }
    status = process_status_text(tool->wait_status);
    tail = tool_tail(tool);
    return error_set(err, EIO, "%s: '%s' failed (%s):%s", tool->stage ? tool->stage : "building",
                     path_base(program), status, tail);
}

/* Puts @argv into a namespace where the caller is root, unless it is root already. */
static void tool_wrap(const struct strv *argv, struct strv *ret)
{
    if (sys_uid() != 0) {
        strv_add_all(ret, "unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--pid",
                     "--fork", "--kill-child", "--uts", "--ipc", "--", NULL);
    }
    strv_extend(ret, argv);
}

int tool_run(struct tool *tool, const struct strv *argv, const char *input, struct buf *ret_output,
             struct error *err)
{
    scoped(strv_done) struct strv full = STRV_INIT;
    scoped(free) char *program = tool_find(argv->items[0]);
    int out[2] = {-1, -1}, log[2] = {-1, -1}, r;
    struct run run = {.tool = tool, .output = ret_output};

    if (tool_check(tool, err) < 0) {
        return -EINTR;
    }
    if (!program) {
        return error_set(err, ENOENT, "'%s' not found", argv->items[0]);
    }
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(log, O_CLOEXEC) < 0) {
        r = error_errno(err, errno, "creating a pipe");
    } else {
        tool_wrap(argv, &full);
        buf_truncate(&tool->tail, 0);
        r = run_start(&run, &full, input, out, log, err);
        fd_close(out[1]);
        fd_close(log[1]);
        out[1] = log[1] = -1;
        if (r == 0) {
            loop_timer_set(tool->tick, TICK_MS);
            r = run_wait(&run, out[0], log[0], err);
            loop_timer_set(tool->tick, -1);
        }
    }
    for (int i = 0; i < 2; i++) {
        fd_close(out[i]);
        fd_close(log[i]);
    }
    return r < 0 ? r : run_result(tool, argv->items[0], err);
}

int tool_call(struct tool *tool, struct error *err, ...)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    const char *arg;
    va_list ap;

    va_start(ap, err);
    while ((arg = va_arg(ap, const char *))) {
        strv_add(&argv, arg);
    }
    va_end(ap);
    return tool_run(tool, &argv, NULL, NULL, err);
}

int tool_check(struct tool *tool, struct error *err)
{
    return tool->interrupted ? error_set(err, EINTR, "interrupted") : 0;
}

int tool_remove_tree(const char *path, struct error *err)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(strv_done) struct strv full = STRV_INIT;

    if (!file_exists(path)) {
        return 0;
    }
    if (sys_uid() == 0) {
        return file_remove_tree(path, err);
    }
    strv_add_all(&argv, "rm", "-rf", "--", path, NULL);
    tool_wrap(&argv, &full);
    return process_check(strv_argv(&full), 0, NULL, err);
}

char *tool_find(const char *program)
{
    scoped(strv_done) struct strv dirs = STRV_INIT;
    char *found = process_find_program(program);

    strv_split(&dirs, ADMIN_PATH, ':');
    for (size_t i = 0; !found && i < dirs.len; i++) {
        scoped(free) char *path = path_join(dirs.items[i], program);

        found = process_find_program(path);
    }
    return found;
}

int tool_check_privilege(struct error *err)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(strv_done) struct strv full = STRV_INIT;
    scoped(buf_done) struct buf said = BUF_INIT;
    scoped(free) char *text = NULL;
    int r;

    if (sys_uid() == 0) {
        return 0;
    }
    /* A new owner needs the range of ids, a mount the rights inside. */
    strv_add_all(&argv, "sh", "-c", "mount -t tmpfs none /tmp && touch /tmp/a && chown 5:5 /tmp/a",
                 NULL);
    tool_wrap(&argv, &full);
    r = process_capture(strv_argv(&full), NULL, 30000, NULL, &said, err);
    if (r == 0) {
        return 0;
    }
    text = str_trim(buf_str(&said));
    error_set(err, EPERM,
              "building an image needs root, or a user namespace with a range of ids"
              " for user '%s': %s",
              sys_user(), r < 0 ? "not available" : text);
    error_hint(err,
               "as root, run: apt-get install -y uidmap && usermod --add-subuids 100000-165535"
               " --add-subgids 100000-165535 %s; where the kernel forbids it, also: sysctl"
               " kernel.unprivileged_userns_clone=1"
               " kernel.apparmor_restrict_unprivileged_userns=0;"
               " or run this command as root",
               sys_user());
    return -EPERM;
}
