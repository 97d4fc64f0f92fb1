/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of a process: a thin owner of one libevent base, with signals, timers, pidfds and
 * wake-ups. One per process, passed explicitly; nothing called from it blocks. A handle is freed
 * before the descriptor it watches is closed. Every handle may be freed from its own callback.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <sys/types.h>
#include "base/error.h"
#include "base/macros.h"

struct loop;
struct loop_io;     /* readiness of a descriptor */
struct loop_timer;  /* one shot */
struct loop_signal; /* signal delivery */
struct loop_child;  /* exit of a process, ours or not */

struct loop *loop_new(void) _nonnull_;
void loop_free(struct loop *loop);
SCOPED_PTR(struct loop, loop_free)

/* For libraries that want the base itself (evhttp, evdns, bufferevents). Borrowed. */
struct event_base *loop_base(struct loop *loop);

/* Runs until loop_quit(); returns what was given there, or -EIO when no event is left to wait for.
 */
int loop_run(struct loop *loop);
void loop_quit(struct loop *loop, int result);
/* One round: blocks until some event was handled. For synchronous code on top of the loop. */
void loop_once(struct loop *loop);

/* @what: EV_READ, EV_WRITE or both; persistent, level-triggered. @fd stays the caller's. */
typedef void (*loop_io_fn)(evutil_socket_t fd, short what, void *arg);
struct loop_io *loop_io_new(struct loop *loop, int fd, short what, loop_io_fn fn,
                            void *arg) _nonnull_;
/* Changes what is waited for; 0 pauses. */
void loop_io_want(struct loop_io *io, short what);
void loop_io_free(struct loop_io *io);
SCOPED_PTR(struct loop_io, loop_io_free)

typedef void (*loop_fn)(void *arg);
/* Created idle; loop_timer_set() arms or re-arms it, a negative @delay_ms disarms. */
struct loop_timer *loop_timer_new(struct loop *loop, loop_fn fn, void *arg) _nonnull_;
void loop_timer_set(struct loop_timer *timer, int64_t delay_ms);
bool loop_timer_pending(const struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer);
SCOPED_PTR(struct loop_timer, loop_timer_free)

typedef void (*loop_signal_fn)(int signo, void *arg);
struct loop_signal *loop_signal_new(struct loop *loop, int signo, loop_signal_fn fn,
                                    void *arg) _nonnull_;
void loop_signal_free(struct loop_signal *sig);
SCOPED_PTR(struct loop_signal, loop_signal_free)

/*
 * Calls @fn once when @pid ends, by pidfd. For a child, @status is its wait status and the child
 * has been reaped; for another process @status is -1.
 * Errors: ESRCH (no such process now).
 */
typedef void (*loop_child_fn)(pid_t pid, int status, void *arg);
int loop_child_new(struct loop *loop, pid_t pid, loop_child_fn fn, void *arg,
                   struct loop_child **ret, struct error *err);
/* Signals this very process, whoever has its number by now. -ESRCH: it has ended. */
int loop_child_kill(struct loop_child *child, int signo);
/* Stops watching; the process goes on. */
void loop_child_free(struct loop_child *child);
SCOPED_PTR(struct loop_child, loop_child_free)

/* CLOCK_MONOTONIC in milliseconds. */
int64_t loop_now_ms(void);
