/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   STARTING  it is mounted, and the program runs, but serves nothing yet
 *   MOUNTED   it does
 *   ENDED     the program has ended; kept until somebody has asked how
 */
#include "sshfs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "mountpoint.h"

#define PROGRAM_MAX (4 << 20) /* bytes of the program */
#define WORDS_MAX   256
#define SERVES      "lima: mounted\n" /* among the words of the child */

static const char *const programs[] = {"/usr/bin/sshfs", "/usr/local/bin/sshfs", "/bin/sshfs"};

enum state { STATE_STARTING, STATE_MOUNTED, STATE_ENDED };

struct sshfs {
    struct sshfs_options options;
    enum state state;
    const char *program;
    char *more; /* options of its own */
    int fd;     /* our end of its input and output; -1: joined */
    int program_fd;
    struct child *child; /* NULL: ended */
    int status;
    bool released;
    struct buf words;            /* what it has to say */
    struct mux_stream *follower; /* NULL: nobody */
};

/* --- in the child --- */

/*
 * Options differ between versions, and one that is not known ends the program. Those that it knows
 * are in its own text.
 */
static bool program_knows(const char *program, const char *option)
{
    scoped(fd_close) int fd = open(program, O_RDONLY | O_CLOEXEC);
    bool found = false;
    struct stat st;
    void *text;

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > PROGRAM_MAX) {
        return false;
    }
    text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (text != MAP_FAILED) {
        found = memmem(text, (size_t)st.st_size, option, strlen(option));
        munmap(text, (size_t)st.st_size);
    }
    return found;
}

static char *options_of(const struct sshfs *sshfs)
{
    bool contains = program_knows(sshfs->program, "no_contain_symlinks");
    bool uncached = strstr(sshfs->more, "cache=no") != NULL;
    bool follows = strstr(sshfs->more, "follow_symlinks") != NULL;

    /* "slave" is what older ones call "passive": no ssh, but our descriptors. */
    return xasprintf("slave%s%s%s", uncached ? ",dir_cache=no" : "",
                     follows ? ",follow_symlinks" : "", contains ? ",no_contain_symlinks" : "");
}

static void _noreturn_ exec_program(const struct sshfs *sshfs, int fuse_fd)
{
    scoped(free) char *options = options_of(sshfs);
    scoped(free) char *mounted = xasprintf("/dev/fd/%d", fuse_fd);

    dup2(sshfs->program_fd, STDIN_FILENO);
    dup2(sshfs->program_fd, STDOUT_FILENO);
    fcntl(fuse_fd, F_SETFD, 0);
    execl(sshfs->program, sshfs->program, ":/", mounted, "-f", "-o", options, NULL);
    _exit(errno);
}

/* Has the kernel ask the program for something, which it answers when all else is done. */
static void tell_when_it_serves(const struct sshfs *sshfs)
{
    struct stat st;

    if (stat(sshfs->options.path, &st) == 0) {
        printf(SERVES);
        fflush(stdout);
    }
}

/*
 * When the program is gone, so is its mount @mounted. Its status, but 0 if and only if that was
 * unmounted first: what the program makes of a broken connection differs.
 */
static int end_program(const struct sshfs *sshfs, pid_t pid, dev_t mounted)
{
    dev_t device;
    int status;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!mountpoint_find_type(SSHFS_TYPE, sshfs->options.source, &device) || device != mounted) {
        return 0; /* there may be a newer one already */
    }
    (void)mountpoint_detach(SSHFS_TYPE, sshfs->options.source, sshfs->options.path, MNT_DETACH);
    return WIFSIGNALED(status)   ? 128 + WTERMSIG(status)
           : WEXITSTATUS(status) ? WEXITSTATUS(status)
                                 : EIO;
}

/* Mounts, so that the program needs neither a path nor the right to; then runs and outlives it. */
static int run_sshfs(void *arg)
{
    const struct sshfs *sshfs = arg;
    struct mountpoint point = {.source = sshfs->options.source,
                               .path = sshfs->options.path,
                               .type = SSHFS_TYPE,
                               .fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC),
                               .read_only = sshfs->options.read_only,
                               .replaces = sshfs->options.replaces};
    int r = point.fuse_fd < 0 ? errno : mountpoint_mount(&point);
    dev_t mounted = 0;
    pid_t pid;

    if (r) {
        return r;
    }
    (void)mountpoint_find_type(SSHFS_TYPE, point.source, &mounted);
    pid = fork();
    if (pid == 0) {
        exec_program(sshfs, point.fuse_fd);
    }
    r = errno;
    close(point.fuse_fd); /* the program's alone: the mount must not outlive that */
    close(sshfs->program_fd);
    if (pid < 0) {
        (void)mountpoint_detach(SSHFS_TYPE, sshfs->options.source, sshfs->options.path, MNT_DETACH);
        return r;
    }
    tell_when_it_serves(sshfs);
    return end_program(sshfs, pid, mounted);
}

/* --- who follows --- */

static void on_follower_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_consumed(stream, len);
}

static void on_follower_event(struct mux_stream *stream, void *arg)
{
}

static void on_follower_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct sshfs *sshfs = arg;

    sshfs->follower = NULL;
}

static const struct mux_stream_ops follower_ops = {
    .data = on_follower_data,
    .fin = on_follower_event,
    .writable = on_follower_event,
    .closed = on_follower_closed,
};

/* A reply is the first that this stream is given, so there is room. */
static void tell_mounted(struct sshfs *sshfs)
{
    if (sshfs->follower && !rpc_reply(sshfs->follower, 0, NULL)) {
        mux_stream_reset(steal(sshfs->follower), MUX_RESET_REFUSED);
    }
}

/* How it went: see end_program(). */
static void tell_ended(struct sshfs *sshfs, bool was_mounted)
{
    struct mux_stream *follower = steal(sshfs->follower);

    if (!was_mounted) {
        rpc_refuse(follower, EIO, sshfs->words.len ? buf_str(&sshfs->words) : "sshfs has ended");
    } else if (sshfs->status) {
        mux_stream_reset(follower, MUX_RESET_CONNECTION);
    } else {
        rpc_end(follower, NULL, NULL);
    }
}

void sshfs_follow(struct sshfs *sshfs, const struct rpc_call *call)
{
    mux_stream_consumed(call->stream, call->rest_len);
    if (sshfs->follower) {
        mux_stream_reset(steal(sshfs->follower), MUX_RESET_CANCEL);
    }
    sshfs->follower = call->stream;
    mux_stream_set_ops(call->stream, &follower_ops, sshfs);
    if (sshfs->state == STATE_ENDED) {
        tell_ended(sshfs, false);
        sshfs->options.ended(sshfs->options.arg);
    } else if (sshfs->state == STATE_MOUNTED) {
        tell_mounted(sshfs);
    }
}

/* --- life --- */

static void on_output(const void *data, size_t len, void *arg)
{
    struct sshfs *sshfs = arg;

    (void)buf_put(&sshfs->words, data, MIN(len, WORDS_MAX - sshfs->words.len));
    if (sshfs->state == STATE_STARTING && strstr(buf_str(&sshfs->words), SERVES)) {
        sshfs->state = STATE_MOUNTED;
        buf_truncate(&sshfs->words, 0);
        log_info("'%s' is mounted, from the host by sshfs", sshfs->options.path);
        tell_mounted(sshfs);
    }
}

static void trim(struct buf *words)
{
    while (words->len && words->data[words->len - 1] == '\n') {
        buf_truncate(words, words->len - 1);
    }
}

static void on_exited(int status, void *arg)
{
    struct sshfs *sshfs = arg;
    bool was_mounted = sshfs->state == STATE_MOUNTED;

    sshfs->child = NULL;
    sshfs->status = status;
    sshfs->state = STATE_ENDED;
    trim(&sshfs->words);
    log_info("sshfs at '%s' has ended with %d%s%s", sshfs->options.path, status,
             sshfs->words.len ? ": " : "", buf_str(&sshfs->words));
    if (sshfs->follower) {
        tell_ended(sshfs, was_mounted);
    } else if (!was_mounted) {
        return; /* somebody will ask */
    }
    sshfs->options.ended(sshfs->options.arg);
}

static int find_program(const char **ret, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        if (access(programs[i], X_OK) == 0) {
            *ret = programs[i];
            return program_knows(*ret, "/dev/fd/%u")
                       ? 0
                       : error_set(err, ENOTSUP, "'%s' is too old: it mounts only by itself", *ret);
        }
    }
    return error_set(err, ENOENT, "the guest has no sshfs");
}

static int start_program(struct sshfs *sshfs, struct error *err)
{
    int fds[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        return error_errno(err, errno, "making a pair of sockets");
    }
    sshfs->fd = fds[0];
    sshfs->program_fd = fds[1];
    fcntl(sshfs->fd, F_SETFL, O_RDWR | O_NONBLOCK);
    r = child_start(sshfs->options.children,
                    &(struct child_options){.run = run_sshfs,
                                            .keep_fd = sshfs->program_fd,
                                            .output = on_output,
                                            .quiet = true,
                                            .exited = on_exited,
                                            .arg = sshfs},
                    &sshfs->child, err);
    fd_close(steal_fd(&sshfs->program_fd));
    return r;
}

int sshfs_start(const struct sshfs_options *options, struct sshfs **ret, struct error *err)
{
    scoped(sshfs_free) struct sshfs *sshfs = xnew(struct sshfs);
    int r;

    *sshfs = (struct sshfs){.options = *options,

                            .more = xstrdup(options->options),
                            .fd = -1,
                            .program_fd = -1,
                            .words = BUF_INIT_CAP(WORDS_MAX)};
    r = find_program(&sshfs->program, err);
    r = r < 0 ? r : start_program(sshfs, err);
    if (r < 0) {
        return r;
    }
    *ret = steal(sshfs);
    return 0;
}

void sshfs_free(struct sshfs *sshfs)
{
    if (!sshfs) {
        return;
    }
    if (sshfs->child) {
        if (!sshfs->released) {
            child_kill(sshfs->child, SIGKILL);
        }
        child_forget(sshfs->child);
    }
    if (sshfs->follower) {
        mux_stream_reset(sshfs->follower, MUX_RESET_CANCEL);
    }
    fd_close(sshfs->fd);
    buf_done(&sshfs->words);
    free(sshfs->more);
    free(sshfs);
}

void sshfs_release(struct sshfs *sshfs)
{
    sshfs->released = true;
    sshfs_free(sshfs);
}

void sshfs_join(struct sshfs *sshfs, struct mux_stream *stream)
{
    tunnels_join(sshfs->options.tunnels, stream, steal_fd(&sshfs->fd));
}
