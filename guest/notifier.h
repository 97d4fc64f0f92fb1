/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives notifications of a file server to the kernel's FUSE. In a child process: the kernel may
 * make the writer wait until pages are read whose answers we have yet to pass on.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "child.h"
#include "loop.h"

#define NOTIFIER_MESSAGE_MAX 512

struct notifier;

/* @taken: so many more are through, whether the kernel wanted them or not. */
struct notifier *notifier_new(struct loop *loop, struct children *children, int fuse_fd,
                              void (*taken)(unsigned count, void *arg), void *arg);
void notifier_free(struct notifier *notifier);
SCOPED_PTR(struct notifier, notifier_free)
/* One whole message; what is too long or cannot be passed on counts as taken. */
void notifier_send(struct notifier *notifier, const void *data, size_t len);
