/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared folders of one VM by virtiofs: a virtiofsd for each, the Rust one as any user or that of
 * QEMU as root, whichever the host has. Nothing here makes a start fail: a folder that cannot be
 * shared so has no device, and its mount in the guest fails.
 *
 * They live as long as QEMU is connected to them, whatever becomes of us. QEMU 7.2 cannot connect
 * to another one, so one that dies is lost to the VM until its next start.
 */
#pragma once

#include "config/config.h"
#include "driver/qemu/args.h"
#include "util/loop.h"

struct qemu_virtiofs;

/* The server of the mount with this @tag (mount_tag()) has ended, though the VM runs. */
typedef void qemu_virtiofs_ended_fn(const char *tag, const char *reason, void *arg);

/* For a VM in folder @dir. NULL: none is wanted, or none can be. */
struct qemu_virtiofs *qemu_virtiofs_start(struct loop *loop, const struct config *config,
                                          const char *dir, qemu_virtiofs_ended_fn *ended,
                                          void *arg);
/* They are left to QEMU; without one they end. NULL is fine. */
void qemu_virtiofs_free(struct qemu_virtiofs *virtiofs);
SCOPED_PTR(struct qemu_virtiofs, qemu_virtiofs_free)

/* Devices for QEMU's arguments, borrowed; of NULL none. */
const struct qemu_fs_device *qemu_virtiofs_devices(const struct qemu_virtiofs *virtiofs,
                                                   size_t *ret_count);
/* The descriptor of device @index, to be passed on as its fd; borrowed. */
int qemu_virtiofs_fd(const struct qemu_virtiofs *virtiofs, size_t index);
/* QEMU has them. */
void qemu_virtiofs_passed(struct qemu_virtiofs *virtiofs);
