/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A timer on CLOCK_REALTIME that is due in the far future and cancelled when the clock is set. What
 * CLOCK_BOOTTIME has more than CLOCK_MONOTONIC is the time that the machine has slept.
 */
#include "util/clockwatch.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define FAR_S    9000000000ll /* the year 2255, about as far as the kernel counts */
#define SLEPT_MS 10           /* reading two clocks takes time too */

struct clock_watch {
    int fd; /* -1: no such timers here */
    struct loop_io *io;
    clock_watch_fn fn;
    void *arg;
    int64_t slept_ms; /* in all */
};

static int64_t read_ms(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t slept_in_all_ms(void)
{
    return read_ms(CLOCK_BOOTTIME) - read_ms(CLOCK_MONOTONIC);
}

static bool arm(int fd)
{
    struct itimerspec far = {.it_value.tv_sec = FAR_S};

    return read_ms(CLOCK_REALTIME) / 1000 < FAR_S &&
           timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL) == 0;
}

static void on_timer_ready(evutil_socket_t fd, short what, void *arg)
{
    struct clock_watch *watch = arg;
    int64_t slept_ms = slept_in_all_ms();
    bool slept = slept_ms > watch->slept_ms + SLEPT_MS;
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0 && errno == EAGAIN) {
        return;
    }
    watch->slept_ms = slept_ms;
    if (!arm(fd)) {
        log_debug("no more notices of a set clock");
        loop_io_want(watch->io, 0);
    }
    watch->fn(slept, watch->arg); /* may free the watch */
}

struct clock_watch *clock_watch_new(struct loop *loop, clock_watch_fn fn, void *arg)
{
    struct clock_watch *watch = xnew(struct clock_watch);

    watch->fn = fn;
    watch->arg = arg;
    watch->slept_ms = slept_in_all_ms();
    watch->fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (watch->fd >= 0 && arm(watch->fd)) {
        watch->io = loop_io_new(loop, watch->fd, EV_READ, on_timer_ready, watch);
    }
    return watch;
}

void clock_watch_free(struct clock_watch *watch)
{
    if (watch) {
        loop_io_free(watch->io);
        fd_close(watch->fd);
        free(watch);
    }
}
