/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells that something in one of a few folders was made, finished writing, renamed or removed.
 * Folders that do not exist yet are watched as soon as any event shows that they might.
 */
#pragma once

#include "base/error.h"
#include "loop.h"

struct pathwatch;

/* @folders ends with NULL and is borrowed. @changed comes from the loop only, once for many events.
 */
int pathwatch_open(struct loop *loop, const char *const *folders, loop_fn *changed, void *arg,
                   struct pathwatch **ret, struct error *err);
void pathwatch_close(struct pathwatch *watch);
