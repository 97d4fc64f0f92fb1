/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mount_watch.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "base/ration.h"
#include "mux/join.h"
#include "peer/link.h"
#include "peer/mount.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define PROGRAM       "lima-fileserver"
#define FEATURE       "touch"
#define SHARE         "10"   /* percent of the host's watches, for each mount */
#define FOLDERS       "4096" /* as many as a guest holds */
#define RESTART_BURST 5
#define RESTART_PER_S 1
#define RESTART_MS    1000
#define WAY_NS        INT64_C(2000000000) /* what was told for so long may not have arrived */
#define END_MS        1000

struct mount_watch {
    struct mount_watch_options options;
    bool wanted, refused; /* refused: by this session's guest */
    struct peer_mount *call;
    struct loop_child *child; /* may outlive what it was started for */
    pid_t pid;
    struct link *link;
    struct join *join;
    struct loop_timer *again;
    struct ration restarts;
    int64_t since_ns; /* CLOCK_REALTIME: told until then; 0: never begun */
};

static int64_t real_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* What carries it ends, or has ended; the process does when it sees that. */
static void drop_carriers(struct mount_watch *watch)
{
    peer_mount_cancel(steal(watch->call));
    if (watch->join) {
        watch->since_ns = real_ns() - WAY_NS;
        join_free(steal(watch->join));
    }
    if (watch->link) {
        link_free(steal(watch->link));
    }
    if (watch->child) {
        loop_child_kill(watch->child, SIGKILL); /* it has nothing to lose, and may hang */
    }
}

static void on_link_closed(void *arg)
{
    struct mount_watch *watch = arg;

    watch->link = NULL;
}

static void on_join_done(bool ordered, void *arg)
{
    struct mount_watch *watch = arg;

    watch->join = NULL;
    watch->since_ns = real_ns() - WAY_NS;
    drop_carriers(watch);
    loop_timer_set(watch->again, 0);
}

static void on_child_exited(pid_t pid, int status, void *arg)
{
    struct mount_watch *watch = arg;

    loop_child_free(steal(watch->child));
    loop_timer_set(watch->again, 0);
}

static int start_process(struct mount_watch *watch, int peer_fd, struct error *err)
{
    scoped(free) char *program = path_libexec(PROGRAM);
    scoped(free) char *since = xasprintf("%" PRId64, watch->since_ns);
    const char *const argv[] = {program,      "--watch",
                                "--source",   watch->options.source,
                                "--without",  watch->options.without,
                                "--share",    SHARE,
                                "--folders",  watch->options.holds ? FOLDERS : "0",
                                "--since-ns", since,
                                NULL};
    struct process_options process = PROCESS_OPTIONS_INIT;
    int r;

    process.stdin_fd = peer_fd;
    process.stderr_fd = PROCESS_INHERIT;
    process.new_session = true;
    process.cwd = "/";
    r = process_start(argv, &process, &watch->pid, err);
    return r < 0 ? r
                 : loop_child_new(watch->options.loop, watch->pid, on_child_exited, watch,
                                  &watch->child, err);
}

static int join_process(struct mount_watch *watch, struct mux_stream *stream, struct error *err)
{
    struct mux_stream *local;
    int fds[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        return error_errno(err, errno, "opening a socket");
    }
    r = start_process(watch, fds[1], err);
    close(fds[1]);
    if (r < 0) {
        close(fds[0]);
        return r;
    }
    fd_set_nonblock(fds[0]);
    watch->link =
        link_new(watch->options.loop, fds[0], DIRECT_FORM_BARE, &local, on_link_closed, watch);
    watch->join = join_new(local, stream, on_join_done, watch);
    return 0;
}

static void refuse(struct mount_watch *watch, const char *why)
{
    watch->refused = true;
    log_warn("'%s': watchers in the guest do not see what the host does there: %s, ignoring",
             watch->options.source, why);
}

static void on_touch_answer(int r, const char *text, const struct peer_mounted *about,
                            struct mux_stream *stream, void *arg)
{
    struct mount_watch *watch = arg;
    scoped(error_done) struct error err = ERROR_INIT;

    watch->call = NULL;
    if (r == -ENOTCONN || r == -ESTALE) {
        watch->refused = r == -ESTALE; /* the guest has unmounted it */
    } else if (r < 0) {
        refuse(watch, text ? text : strerror(-r));
    } else if (join_process(watch, stream, &err) < 0) {
        mux_stream_reset(stream, MUX_RESET_CANCEL);
        refuse(watch, error_text(&err));
    }
}

static void step(struct mount_watch *watch)
{
    if (!watch->wanted || watch->refused || watch->call || watch->child || watch->join ||
        loop_timer_pending(watch->again)) {
        return;
    }
    if (!ration_take(&watch->restarts, loop_now_ms())) {
        loop_timer_set(watch->again, RESTART_MS);
        return;
    }
    if (!peer_has(watch->options.peer, FEATURE)) {
        refuse(watch, "the guest agent is of a version that cannot");
        return;
    }
    watch->call = peer_mount_touch(watch->options.peer, watch->options.tag, on_touch_answer, watch);
}

static void on_again(void *arg)
{
    step(arg);
}

struct mount_watch *mount_watch_new(const struct mount_watch_options *options)
{
    struct mount_watch *watch = xnew(struct mount_watch);

    watch->options = *options;
    watch->restarts = RATION_INIT(RESTART_BURST, RESTART_PER_S);
    watch->again = loop_timer_new(options->loop, on_again, watch);
    return watch;
}

void mount_watch_start(struct mount_watch *watch)
{
    watch->wanted = true;
    step(watch);
}

void mount_watch_stop(struct mount_watch *watch)
{
    if (watch) {
        watch->wanted = watch->refused = false;
        loop_timer_set(watch->again, -1);
        drop_carriers(watch);
    }
}

void mount_watch_free(struct mount_watch *watch)
{
    if (watch) {
        mount_watch_stop(watch);
        if (watch->child) {
            loop_child_free(watch->child);
            (void)process_wait(watch->pid, END_MS); /* it was killed, and is ours to bury */
        }
        loop_timer_free(watch->again);
        free(watch);
    }
}
