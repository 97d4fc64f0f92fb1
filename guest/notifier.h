/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives notifications of a file server to the kernel's FUSE, and does what they ask to replay
 * (replay.h). In a child process: both may wait for answers that we have yet to pass on.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "child.h"
#include "loop.h"

#define NOTIFIER_MESSAGE_MAX 1024

struct fuselog_mount;
struct notifier;

/* @mount is borrowed. @taken: so many more are through, whether the kernel wanted them or not. */
struct notifier *notifier_new(struct loop *loop, struct children *children, int fuse_fd,
                              const struct fuselog_mount *mount,
                              void (*taken)(unsigned count, void *arg), void *arg);
void notifier_free(struct notifier *notifier);
/* The process that does it; 0: there is none, and so nobody that keeps the file system. */
pid_t notifier_pid(const struct notifier *notifier);
/* It ends, until there is something to do again. */
void notifier_let_go(struct notifier *notifier);
SCOPED_PTR(struct notifier, notifier_free)
/* One whole message; what is too long or cannot be passed on counts as taken. */
void notifier_send(struct notifier *notifier, const void *data, size_t len);
/* One whole message LIMA_MOUNT_READ (lima/mount.h), which is done beside all others, or not. */
void notifier_advise(struct notifier *notifier, const void *data, size_t len);
