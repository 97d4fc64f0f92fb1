/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/ahead.h"

#include "lima/mount.h"

static void put(struct ahead *ahead, enum lima_ahead_kind kind, uint64_t node, const void *data,
                size_t len)
{
    const struct {
        struct fuse_out_header head;
        struct lima_ahead body;
    } message = {.head = {.len = (uint32_t)(sizeof(message) + len), .error = LIMA_MOUNT_AHEAD},
                 .body = {.kind = kind, .node = node}};

    buf_put(&ahead->out, &message, sizeof(message));
    if (len) {
        buf_put(&ahead->out, data, len);
    }
}

void ahead_restart(struct ahead *ahead, uint64_t can)
{
    ahead->on = can & LIMA_MOUNT_CAN_AHEAD;
    ahead->reads = can & LIMA_MOUNT_CAN_READ;
    ahead->epoch++;
    ahead->count = 0;
    buf_drop(&ahead->out, ahead->out.len);
    if (ahead->on) {
        put(ahead, LIMA_AHEAD_XATTR, 0, NULL, 0);
    }
}

void ahead_done(struct ahead *ahead)
{
    buf_done(&ahead->out);
}

void ahead_say_read(struct ahead *ahead, const struct node *node)
{
    const struct {
        struct fuse_out_header head;
        struct lima_read body;
    } message = {.head = {.len = sizeof(message), .error = LIMA_MOUNT_READ},
                 .body = {.node = node->id, .generation = node->generation}};

    if (ahead->reads) {
        buf_put(&ahead->out, &message, sizeof(message));
    }
}

bool ahead_knows(const struct ahead *ahead, const struct node *node)
{
    return ahead->on && node->ahead == ahead->epoch;
}

static void mark(struct ahead *ahead, struct node *node)
{
    if (ahead_knows(ahead, node)) {
        return;
    }
    if (ahead->count == AHEAD_NODES_MAX) {
        ahead_void_all(ahead);
    }
    node->ahead = ahead->epoch;
    ahead->count++;
}

void ahead_say_attr(struct ahead *ahead, struct node *node, const struct fuse_attr_out *attr)
{
    if (ahead->on) {
        mark(ahead, node);
        put(ahead, LIMA_AHEAD_ATTR, node->id, attr, sizeof(*attr));
    }
}

void ahead_say_empty(struct ahead *ahead, struct node *node)
{
    if (ahead->on) {
        mark(ahead, node);
        put(ahead, LIMA_AHEAD_EMPTY, node->id, NULL, 0);
    }
}

void ahead_void(struct ahead *ahead, struct node *node)
{
    if (ahead_knows(ahead, node)) {
        node->ahead = 0;
        ahead->count--;
        put(ahead, LIMA_AHEAD_VOID, node->id, NULL, 0);
    }
}

void ahead_void_all(struct ahead *ahead)
{
    if (ahead->on) {
        ahead->epoch++;
        ahead->count = 0;
        put(ahead, LIMA_AHEAD_VOID, 0, NULL, 0);
    }
}
