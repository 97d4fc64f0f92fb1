/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel device events straight from the kernel's netlink group: no udev needed, and they come
 * before udev has looked at them (device nodes are there already, devtmpfs makes them).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "loop.h"

#define UEVENT_LISTENERS_MAX 8

struct uevent;

/* @subsystem as in "virtio-ports" or "block"; valid during the call. */
typedef void uevent_fn(const char *subsystem, void *arg);

/* For a process without a loop: a socket that brings the kernel's messages, or -errno. @flags: of
 * socket(2), such as SOCK_NONBLOCK. */
int uevent_socket(int flags);

int uevent_open(struct loop *loop, struct uevent **ret, struct error *err);
void uevent_close(struct uevent *uevent);
/* Adds a listener for all events that are not removals. At most UEVENT_LISTENERS_MAX. */
void uevent_listen(struct uevent *uevent, uevent_fn *fn, void *arg);

/*
 * The subsystem of one kernel message ("add@/devices/..." and KEY=VALUE strings, each ended by a
 * NUL), or NULL when it names none, is a removal, or is not a kernel message. Points into @message.
 */
const char *uevent_subsystem(const char *message, size_t len);
