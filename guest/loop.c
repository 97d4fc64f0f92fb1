/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <time.h>
#include "base/alloc.h"

struct loop_watch {
    struct loop *loop;
    size_t index; /* into fds[] and watches[] */
    int fd;
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
    struct pollfd *fds;
    struct loop_watch **watches; /* same indexes; NULL: freed during this round */
    size_t count;
    size_t fds_cap;
    size_t watches_cap;
    struct loop_timer *timers;
    loop_fn *prepare;
    void *prepare_arg;
    bool holes;
    bool quit;
};

uint64_t loop_now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct loop *loop_new(void)
{
    return xnew(struct loop);
}

void loop_free(struct loop *loop)
{
    if (!loop) {
        return;
    }
    assert(!loop->timers);
    free(loop->fds);
    free(loop->watches);
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
    array_reserve(loop->fds, loop->fds_cap, loop->count + 1);
    array_reserve(loop->watches, loop->watches_cap, loop->count + 1);
    *watch =
        (struct loop_watch){.loop = loop, .index = loop->count, .fd = fd, .fn = fn, .arg = arg};
    loop->watches[loop->count] = watch;
    loop->fds[loop->count] = (struct pollfd){.fd = -1};
    loop->count++;
    loop_watch_set(watch, events);
    return watch;
}

void loop_watch_set(struct loop_watch *watch, short events)
{
    struct pollfd *slot = &watch->loop->fds[watch->index];

    /* poll(2) reports hang-ups of a descriptor that asks for nothing; a negative one is skipped. */
    slot->fd = events ? watch->fd : -1;
    slot->events = events;
    slot->revents &= (short)(events ? events | POLLHUP | POLLERR | POLLNVAL : 0);
}

short loop_watch_events(const struct loop_watch *watch)
{
    return watch->loop->fds[watch->index].events;
}

void loop_watch_free(struct loop_watch *watch)
{
    struct loop *loop;

    if (!watch) {
        return;
    }
    loop = watch->loop;
    loop->watches[watch->index] = NULL;
    loop->fds[watch->index] = (struct pollfd){.fd = -1};
    loop->holes = true;
    free(watch);
}

static void close_holes(struct loop *loop)
{
    size_t kept = 0;

    if (!loop->holes) {
        return;
    }
    for (size_t i = 0; i < loop->count; i++) {
        if (loop->watches[i]) {
            loop->watches[kept] = loop->watches[i];
            loop->fds[kept] = loop->fds[i];
            loop->watches[kept]->index = kept;
            kept++;
        }
    }
    loop->count = kept;
    loop->holes = false;
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
    size_t count = loop->count;

    for (size_t i = 0; i < count && !loop->quit; i++) {
        short revents = loop->fds[i].revents;

        if (loop->watches[i] && revents) {
            loop->fds[i].revents = 0;
            loop->watches[i]->fn(loop->watches[i]->fd, revents, loop->watches[i]->arg);
        }
    }
}

int loop_run(struct loop *loop)
{
    while (!loop->quit) {
        int n;

        if (loop->prepare) {
            loop->prepare(loop->prepare_arg);
        }
        if (loop->quit) {
            break;
        }
        close_holes(loop);
        n = poll(loop->fds, loop->count, wait_ms(loop));
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            dispatch(loop);
        }
        fire_timers(loop);
    }
    loop->quit = false;
    return 0;
}
