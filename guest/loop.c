/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define EVENTS_MAX 64 /* taken in one round */

struct loop_watch {
    struct loop *loop;
    int fd;
    short events;  /* 0: not in the epoll set */
    short revents; /* of this round, not told yet */
    loop_watch_fn *fn;
    void *arg;
};

struct loop_timer {
    struct loop *loop;
    struct loop_timer *next;
    uint64_t due_us; /* 0: idle */
    loop_fn *fn;
    void *arg;
};

struct loop {
    int epoll_fd;
    struct loop_watch *ready[EVENTS_MAX]; /* of this round; NULL: freed during it */
    size_t ready_count;
    struct loop_timer *timers;
    loop_fn *prepare;
    void *prepare_arg;
    bool quit;
};

/* One set of bits serves poll(2) and epoll(7). */
static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLHUP == EPOLLHUP &&
                  POLLERR == EPOLLERR && POLLPRI == EPOLLPRI,
              "events of epoll are those of poll");

uint64_t loop_now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct loop *loop_new(void)
{
    struct loop *loop = xnew(struct loop);

    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        abort(); /* as out of memory: nothing else makes it fail when a process begins */
    }
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop) {
        return;
    }
    assert(!loop->timers);
    close(loop->epoll_fd);
    free(loop);
}

void loop_set_prepare(struct loop *loop, loop_fn *fn, void *arg)
{
    loop->prepare = fn;
    loop->prepare_arg = arg;
}

void loop_quit(struct loop *loop)
{
    loop->quit = true;
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, short events, loop_watch_fn *fn,
                                  void *arg)
{
    struct loop_watch *watch = xnew(struct loop_watch);

    assert(fd >= 0);
    *watch = (struct loop_watch){.loop = loop, .fd = fd, .fn = fn, .arg = arg};
    loop_watch_set(watch, events);
    return watch;
}

void loop_watch_set(struct loop_watch *watch, short events)
{
    struct epoll_event event = {.events = (uint16_t)events, .data.ptr = watch};
    int op = !events ? EPOLL_CTL_DEL : watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    if (events == watch->events) {
        return;
    }
    if (epoll_ctl(watch->loop->epoll_fd, op, watch->fd, &event) < 0) {
        log_error("watching descriptor %d: %s", watch->fd, strerror(errno));
    }
    watch->events = events;
    watch->revents &= (short)(events ? events | POLLHUP | POLLERR : 0);
}

short loop_watch_events(const struct loop_watch *watch)
{
    return watch->events;
}

void loop_watch_free(struct loop_watch *watch)
{
    struct loop *loop;

    if (!watch) {
        return;
    }
    loop_watch_set(watch, 0);
    loop = watch->loop;
    for (size_t i = 0; i < loop->ready_count; i++) {
        if (loop->ready[i] == watch) {
            loop->ready[i] = NULL;
        }
    }
    free(watch);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg)
{
    struct loop_timer *timer = xnew(struct loop_timer);

    *timer = (struct loop_timer){.loop = loop, .next = loop->timers, .fn = fn, .arg = arg};
    loop->timers = timer;
    return timer;
}

void loop_timer_start(struct loop_timer *timer, unsigned ms)
{
    timer->due_us = loop_now_us() + (uint64_t)ms * 1000;
}

void loop_timer_stop(struct loop_timer *timer)
{
    timer->due_us = 0;
}

bool loop_timer_active(const struct loop_timer *timer)
{
    return timer->due_us != 0;
}

void loop_timer_free(struct loop_timer *timer)
{
    struct loop_timer **link;

    if (!timer) {
        return;
    }
    for (link = &timer->loop->timers; *link != timer; link = &(*link)->next) {
    }
    *link = timer->next;
    free(timer);
}

static struct loop_timer *next_timer(struct loop *loop)
{
    struct loop_timer *first = NULL;

    for (struct loop_timer *timer = loop->timers; timer; timer = timer->next) {
        if (timer->due_us && (!first || timer->due_us < first->due_us)) {
            first = timer;
        }
    }
    return first;
}

static int wait_ms(struct loop *loop)
{
    const struct loop_timer *timer = next_timer(loop);
    uint64_t now;

    if (!timer) {
        return -1;
    }
    now = loop_now_us();
    if (timer->due_us <= now) {
        return 0;
    }
    return (int)MIN((timer->due_us - now + 999) / 1000, 3600u * 1000);
}

static void fire_timers(struct loop *loop)
{
    uint64_t now = loop_now_us();
    struct loop_timer *timer;

    /* One started by a callback for "now" is later than @now and waits for the next round. */
    while (!loop->quit && (timer = next_timer(loop)) && timer->due_us <= now) {
        timer->due_us = 0;
        timer->fn(timer->arg);
    }
}

static void dispatch(struct loop *loop)
{
    for (size_t i = 0; i < loop->ready_count && !loop->quit; i++) {
        struct loop_watch *watch = loop->ready[i];
        short revents = watch ? watch->revents : 0;

        if (revents) {
            watch->revents = 0;
            watch->fn(watch->fd, revents, watch->arg);
        }
    }
    loop->ready_count = 0;
}

static int wait_ready(struct loop *loop)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(loop->epoll_fd, events, EVENTS_MAX, wait_ms(loop));

    if (n < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    for (int i = 0; i < n; i++) {
        loop->ready[i] = events[i].data.ptr;
        loop->ready[i]->revents = (short)events[i].events;
    }
    loop->ready_count = (size_t)n;
    return 0;
}

int loop_run(struct loop *loop)
{
    while (!loop->quit) {
        int r;

        if (loop->prepare) {
            loop->prepare(loop->prepare_arg);
        }
        if (loop->quit) {
            break;
        }
        r = wait_ready(loop);
        if (r < 0) {
            return r;
        }
        dispatch(loop);
        fire_timers(loop);
    }
    loop->quit = false;
    return 0;
}
