/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is there a default route, and notices when IPv4 routes change.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "loop.h"

struct route_watch;

/* @changed comes from the loop only, for any IPv4 route. */
int route_watch_open(struct loop *loop, loop_fn *changed, void *arg, struct route_watch **ret,
                     struct error *err);
void route_watch_close(struct route_watch *watch);
bool route_has_default(void);
/* @text as in /proc/net/route. */
bool route_text_has_default(const char *text);
