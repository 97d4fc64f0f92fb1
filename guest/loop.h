/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one loop of the guest agent: descriptors and timers over epoll(7), which costs the same
 * however many descriptors wait. Single-threaded; every other module of this folder hangs its
 * callbacks here and nothing else blocks.
 *
 * Watches and timers may be made, changed and freed inside any callback, their own included.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/macros.h"

struct loop;
struct loop_watch;
struct loop_timer;

/* @revents as poll(2) gives them. */
typedef void loop_watch_fn(int fd, short revents, void *arg);
typedef void loop_fn(void *arg);

struct loop *loop_new(void);
/* Every watch and timer has to be freed before. */
void loop_free(struct loop *loop);
SCOPED_PTR(struct loop, loop_free)

/* Called each time before the loop would wait; for output that is gathered during a round. */
void loop_set_prepare(struct loop *loop, loop_fn *fn, void *arg);
/* Runs until loop_quit(). -errno when waiting itself fails. */
int loop_run(struct loop *loop);
void loop_quit(struct loop *loop);

/*
 * @fd is borrowed, has one watch only, and is none of a regular file: free the watch before closing
 * it. @events 0 ignores the descriptor altogether, its hang-up too.
 */
struct loop_watch *loop_watch_new(struct loop *loop, int fd, short events, loop_watch_fn *fn,
                                  void *arg);
void loop_watch_set(struct loop_watch *watch, short events);
short loop_watch_events(const struct loop_watch *watch);
void loop_watch_free(struct loop_watch *watch);

/* A timer is idle until started; it fires once a start. */
struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg);
/* (Re)starts it: fires @ms milliseconds from now. */
void loop_timer_start(struct loop_timer *timer, unsigned ms);
void loop_timer_stop(struct loop_timer *timer);
bool loop_timer_active(const struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer);

/* CLOCK_BOOTTIME. */
uint64_t loop_now_us(void);
