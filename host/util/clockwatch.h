/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells when this machine's wall clock has been set, which the kernel also does when the machine
 * has slept. By an event: nobody polls.
 */
#pragma once

#include <stdbool.h>
#include "base/macros.h"
#include "util/loop.h"

struct clock_watch;

/* @slept: the machine was suspended since the last call, or since the watch began. */
typedef void (*clock_watch_fn)(bool slept, void *arg);

/* Where the kernel cannot tell, nothing comes. */
struct clock_watch *clock_watch_new(struct loop *loop, clock_watch_fn fn, void *arg) _nonnull_;
void clock_watch_free(struct clock_watch *watch);
SCOPED_PTR(struct clock_watch, clock_watch_free)
