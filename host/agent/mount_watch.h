/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host does in the source of a mount with a device, shown to those who watch in the guest:
 * a process that watches (mount/watcher.h), joined to the guest's call Touch. Started again when
 * either breaks; then it looks for what has changed meanwhile.
 */
#pragma once

#include <stdbool.h>
#include "peer/client.h"
#include "util/loop.h"

struct mount_watch;

struct mount_watch_options { /* borrowed */
    struct loop *loop;
    struct peer *peer;
    const char *tag, *source;
    const char *without; /* a folder that is left out: the instance's own */
    bool holds;          /* the guest has to hold folders to tell of them (guest/touching.h) */
};

/* Idle. */
struct mount_watch *mount_watch_new(const struct mount_watch_options *options);
void mount_watch_free(struct mount_watch *watch);
/* The mount is there. */
void mount_watch_start(struct mount_watch *watch);
/* It, or the session, is not; NULL and an idle one are fine. */
void mount_watch_stop(struct mount_watch *watch);
