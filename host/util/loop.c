/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop.h"

#include <assert.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"

/*
 * A handle may be freed from its own callback: libevent allows event_free() of the event that runs,
 * and no function here touches a handle after it has called up.
 */

struct loop {
    struct event_base *base;
    int result;
    bool quit;
};

struct loop_io {
    struct loop *loop;
    struct event *event;
    short what;
    loop_io_fn fn;
    void *arg;
};

struct loop_timer {
    struct event *event;
    loop_fn fn;
    void *arg;
};

struct loop_signal {
    struct event *event;
    loop_signal_fn fn;
    void *arg;
};

struct loop_child {
    struct event *event;
    int pidfd;
    pid_t pid;
    loop_child_fn fn;
    void *arg;
};

struct loop *loop_new(void)
{
    struct loop *loop = xnew(struct loop);
    struct event_config *config = event_config_new();

    assert(config);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    assert(loop->base);
    return loop;
}

void loop_free(struct loop *loop)
{
    if (loop) {
        event_base_free(loop->base);
        free(loop);
    }
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

int loop_run(struct loop *loop)
{
    loop->result = -EIO;
    loop->quit = false;
    while (!loop->quit) {
        if (event_base_loop(loop->base, EVLOOP_ONCE) != 0) {
            break;
        }
    }
    return loop->result;
}

void loop_quit(struct loop *loop, int result)
{
    loop->result = result;
    loop->quit = true;
    event_base_loopbreak(loop->base);
}

void loop_once(struct loop *loop)
{
    event_base_loop(loop->base, EVLOOP_ONCE);
}

int64_t loop_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void on_io_event(evutil_socket_t fd, short what, void *arg)
{
    struct loop_io *io = arg;

    io->fn(fd, what, io->arg);
}

struct loop_io *loop_io_new(struct loop *loop, int fd, short what, loop_io_fn fn, void *arg)
{
    struct loop_io *io = xnew(struct loop_io);

    io->loop = loop;
    io->fn = fn;
    io->arg = arg;
    io->event = event_new(loop->base, fd, EV_PERSIST, on_io_event, io);
    assert(io->event);
    loop_io_want(io, what);
    return io;
}

void loop_io_want(struct loop_io *io, short what)
{
    evutil_socket_t fd = event_get_fd(io->event);

    if (what == io->what) {
        return;
    }
    if (io->what) {
        event_del(io->event);
    }
    io->what = what;
    if (what) {
        event_assign(io->event, io->loop->base, fd, (short)(what | EV_PERSIST), on_io_event, io);
        event_add(io->event, NULL);
    }
}

void loop_io_free(struct loop_io *io)
{
    if (io) {
        event_free(io->event);
        free(io);
    }
}

static void on_timer_event(evutil_socket_t fd, short what, void *arg)
{
    struct loop_timer *timer = arg;

    timer->fn(timer->arg);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn fn, void *arg)
{
    struct loop_timer *timer = xnew(struct loop_timer);

    timer->fn = fn;
    timer->arg = arg;
    timer->event = evtimer_new(loop->base, on_timer_event, timer);
    assert(timer->event);
    return timer;
}

void loop_timer_set(struct loop_timer *timer, int64_t delay_ms)
{
    struct timeval tv = {.tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000};

    if (delay_ms < 0) {
        evtimer_del(timer->event);
    } else {
        evtimer_add(timer->event, &tv);
    }
}

bool loop_timer_pending(const struct loop_timer *timer)
{
    return evtimer_pending(timer->event, NULL);
}

void loop_timer_free(struct loop_timer *timer)
{
    if (timer) {
        event_free(timer->event);
        free(timer);
    }
}

static void on_signal_event(evutil_socket_t signo, short what, void *arg)
{
    struct loop_signal *sig = arg;

    sig->fn(signo, sig->arg);
}

struct loop_signal *loop_signal_new(struct loop *loop, int signo, loop_signal_fn fn, void *arg)
{
    struct loop_signal *sig = xnew(struct loop_signal);

    sig->fn = fn;
    sig->arg = arg;
    sig->event = evsignal_new(loop->base, signo, on_signal_event, sig);
    assert(sig->event);
    evsignal_add(sig->event, NULL);
    return sig;
}

void loop_signal_free(struct loop_signal *sig)
{
    if (sig) {
        event_free(sig->event);
        free(sig);
    }
}

static void on_child_event(evutil_socket_t fd, short what, void *arg)
{
    struct loop_child *child = arg;
    int status = -1;
    pid_t got;

    do {
        got = waitpid(child->pid, &status, WNOHANG);
    } while (got < 0 && errno == EINTR);
    if (got != child->pid) {
        status = -1; /* not our child */
    }
    event_del(child->event);
    child->fn(child->pid, status, child->arg);
}

int loop_child_new(struct loop *loop, pid_t pid, loop_child_fn fn, void *arg,
                   struct loop_child **ret, struct error *err)
{
    struct loop_child *child;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (fd < 0) {
        return error_errno(err, errno, "watching process %d", (int)pid);
    }
    child = xnew(struct loop_child);
    child->pidfd = fd;
    child->pid = pid;
    child->fn = fn;
    child->arg = arg;
    child->event = event_new(loop->base, fd, EV_READ | EV_PERSIST, on_child_event, child);
    assert(child->event);
    event_add(child->event, NULL);
    *ret = child;
    return 0;
}

int loop_child_kill(struct loop_child *child, int signo)
{
    return syscall(SYS_pidfd_send_signal, child->pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

void loop_child_free(struct loop_child *child)
{
    if (child) {
        event_free(child->event);
        fd_close(child->pidfd);
        free(child);
    }
}
