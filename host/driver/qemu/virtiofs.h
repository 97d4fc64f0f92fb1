/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared folders of one VM by virtiofs: a virtiofsd for each, the Rust one as any user or that of
 * QEMU as root, whichever the host has. Nothing here makes a start fail: a folder that cannot be
 * shared so has no device, and its mount in the guest fails.
 *
 * They live as long as QEMU is connected to them, whatever becomes of us: what was started is
 * recorded in files, for a later host agent. QEMU 7.2 cannot connect to another one, so one that
 * dies is lost to the VM until its next start.
 */
#pragma once

#include "config/config.h"
#include "driver/qemu/args.h"
#include "util/loop.h"

struct qemu_virtiofs;

/* The server of the mount with this @tag (mount_tag()) has ended, though the VM runs. */
typedef void qemu_virtiofs_ended_fn(const char *tag, const char *reason, void *arg);

/* For a VM in folder @dir; nothing is started yet. */
struct qemu_virtiofs *qemu_virtiofs_new(struct loop *loop, const char *dir,
                                        qemu_virtiofs_ended_fn *ended, void *arg);
/* They are left to QEMU; without one they end. NULL is fine. */
void qemu_virtiofs_free(struct qemu_virtiofs *virtiofs);
SCOPED_PTR(struct qemu_virtiofs, qemu_virtiofs_free)
/* The VM has ended: so do they, and nothing is recorded any more. */
void qemu_virtiofs_clean(struct qemu_virtiofs *virtiofs);

/* --- with the VM --- */

/*
 * Starts those that the configuration wants; the first of them are behind ports (args.h).
 * *@ret_usable: it wants any, or would by 'mountType', and the host has a virtiofsd: more can be
 * added later.
 */
void qemu_virtiofs_start(struct qemu_virtiofs *virtiofs, const struct config *config,
                         bool *ret_usable);
/* Devices for QEMU's arguments, borrowed. */
const struct qemu_fs_device *qemu_virtiofs_devices(const struct qemu_virtiofs *virtiofs,
                                                   size_t *ret_count);
/* The descriptor of device @index, to be passed on as its fd; borrowed. */
int qemu_virtiofs_fd(const struct qemu_virtiofs *virtiofs, size_t index);
/* QEMU has them. */
void qemu_virtiofs_passed(struct qemu_virtiofs *virtiofs);
/* Goes on with what an earlier host agent has started; ended() comes from the loop. */
void qemu_virtiofs_attach(struct qemu_virtiofs *virtiofs);

/* --- later --- */

struct qemu_virtiofs_server { /* borrowed */
    const char *tag;
    int port;   /* its device is behind this one; -1: behind none */
    bool ended; /* the device is there for nothing */
};

/* The next one behind @from, NULL: the first; NULL: none. */
const struct qemu_virtiofs_server *qemu_virtiofs_next(const struct qemu_virtiofs *virtiofs,
                                                      const struct qemu_virtiofs_server *from);
/* Whether the host has a virtiofsd that works here. Errors: ENOENT, EPERM. */
int qemu_virtiofs_search(struct qemu_virtiofs *virtiofs, struct error *err);
/*
 * Starts one, for a device behind @port. *@ret_path: where QEMU has to connect to, which it has to
 * do but once. Caller frees.
 */
int qemu_virtiofs_add(struct qemu_virtiofs *virtiofs, const struct config_mount *mount, int port,
                      int *ret_queue_size, char **ret_path, struct error *err);
/* Its device is there. */
void qemu_virtiofs_added(struct qemu_virtiofs *virtiofs, const char *tag);
/* Its device is gone, or never came: so does it. */
void qemu_virtiofs_remove(struct qemu_virtiofs *virtiofs, const char *tag);
