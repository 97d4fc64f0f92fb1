/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/watcher.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mount/sandbox.h"
#include "mount/survey.h"
#include "util/file.h"
#include "util/loop.h"

#define PEER_FD STDIN_FILENO

struct watcher {
    const char *source;
    struct loop *loop;
    struct tree *tree;
    struct survey *survey;
    struct loop_io *peer, *changes;
    struct loop_timer *again; /* more to look through, or to tell */
    struct buf out;
    bool refused; /* the guest could not do one; said once */
};

static int64_t sooner(int64_t a, int64_t b)
{
    return a < 0 ? b : b < 0 ? a : MIN(a, b);
}

static int send_records(struct watcher *w)
{
    while (w->out.len) {
        ssize_t n = send(PEER_FD, w->out.data, w->out.len, MSG_NOSIGNAL);

        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        buf_drop(&w->out, (size_t)n);
    }
    return 0;
}

static void go_on(struct watcher *w)
{
    bool more = survey_step(w->survey);
    int again_ms;

    if (!survey_is_alive(w->survey)) {
        loop_quit(w->loop, 0);
        return;
    }
    again_ms = touches_take(survey_touches(w->survey), loop_now_ms(), &w->out);
    if (send_records(w) < 0) {
        loop_quit(w->loop, 0);
        return;
    }
    loop_io_want(w->peer, (short)(EV_READ | (w->out.len ? EV_WRITE : 0)));
    loop_timer_set(w->again, sooner(more ? 0 : -1, again_ms));
}

static void on_again(void *arg)
{
    go_on(arg);
}

static void on_files_changed(evutil_socket_t fd, short what, void *arg)
{
    struct watcher *w = arg;

    survey_read(w->survey);
    go_on(w);
}

static void say_refused(struct watcher *w, const uint8_t *answers, size_t count)
{
    for (size_t i = 0; i < count && !w->refused; i++) {
        if (answers[i] && answers[i] != ENOENT && answers[i] != ESTALE) {
            w->refused = true;
            log_warn("'%s': watchers in the guest do not see all that the host does there: %s, "
                     "ignoring",
                     w->source, strerror(answers[i]));
        }
    }
}

/* What a touch has done to the host's file is in the queue before its answer is here. */
static void on_peer_ready(evutil_socket_t fd, short what, void *arg)
{
    struct watcher *w = arg;
    uint8_t answers[LIMA_TOUCH_WINDOW];
    ssize_t n = what & EV_READ ? read(fd, answers, sizeof(answers)) : -1;

    if (n == 0 || (n < 0 && what & EV_READ && errno != EAGAIN && errno != EINTR)) {
        loop_quit(w->loop, 0);
        return;
    }
    if (n > 0) {
        say_refused(w, answers, (size_t)n);
        survey_read(w->survey);
        if (touches_done(survey_touches(w->survey), (size_t)n, loop_now_ms()) < 0) {
            loop_quit(w->loop, -EBADMSG);
            return;
        }
    }
    go_on(w);
}

static int confine(const struct watcher_arguments *args, struct error *err)
{
    const char *missing = NULL;

    return sandbox_enter(&(struct sandbox_options){.source = args->source}, &missing, err);
}

static int open_all(struct watcher *w, const struct watcher_arguments *args, struct error *err)
{
    struct survey_options options = {.source = args->source,
                                     .without = args->without,
                                     .share = args->share,
                                     .folders_told = args->folders,
                                     .since_ns = args->since_ns};
    int r = tree_open(args->source, false, &w->tree, err);

    if (r < 0) {
        return r;
    }
    options.tree = w->tree;
    r = survey_new(&options, &w->survey, err);
    if (r < 0) {
        return r;
    }
    fd_set_nonblock(PEER_FD);
    w->loop = loop_new();
    w->again = loop_timer_new(w->loop, on_again, w);
    w->peer = loop_io_new(w->loop, PEER_FD, EV_READ, on_peer_ready, w);
    w->changes = loop_io_new(w->loop, survey_fd(w->survey), EV_READ, on_files_changed, w);
    loop_timer_set(w->again, 0);
    return confine(args, err);
}

int watcher_run(const struct watcher_arguments *args, struct error *err)
{
    struct watcher w = {.source = args->source, .out = BUF_INIT};
    int r;

    signal(SIGPIPE, SIG_IGN);
    r = open_all(&w, args, err);
    r = r < 0 ? r : loop_run(w.loop);
    loop_io_free(w.changes);
    loop_io_free(w.peer);
    loop_timer_free(w.again);
    loop_free(w.loop);
    survey_free(w.survey);
    tree_free(w.tree);
    buf_done(&w.out);
    return r < 0 && !err->code ? error_set(err, -r, "the guest's answers make no sense") : r;
}
