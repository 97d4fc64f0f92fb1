/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest agent is told beforehand, so that it answers the kernel's requests itself
 * (LIMA_MOUNT_AHEAD, lima/mount.h): no more than what the kernel might keep as well, which is what
 * lies in watched folders. What is said of a folder is so until it is voided here; whoever changes
 * or hears of a change of one has to.
 *
 * Messages gather, in order, and have to go out before the answer of the request that they come
 * from.
 */
#pragma once

#include <linux/fuse.h>
#include "base/buf.h"
#include "mount/nodes.h"

#define AHEAD_NODES_MAX 1024 /* of which something is said at a time */

struct ahead {
    bool on;
    bool reads;     /* the guest agent takes LIMA_MOUNT_READ */
    uint64_t epoch; /* nodes that have this number: something is said of them */
    size_t count;
    struct buf out;
};

/* Another guest agent, which knows nothing; @can: of LIMA_MOUNT_CAN_*, what it takes. */
void ahead_restart(struct ahead *ahead, uint64_t can);
void ahead_done(struct ahead *ahead);
void ahead_say_attr(struct ahead *ahead, struct node *node, const struct fuse_attr_out *attr);
/* A folder that nothing is in, and that is watched. */
void ahead_say_empty(struct ahead *ahead, struct node *node);
/* It had better read the folder @node whole. */
void ahead_say_read(struct ahead *ahead, const struct node *node);
bool ahead_knows(const struct ahead *ahead, const struct node *node);
/* Without a word where nothing was said. */
void ahead_void(struct ahead *ahead, struct node *node);
void ahead_void_all(struct ahead *ahead);
