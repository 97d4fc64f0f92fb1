/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the stream of a mount carries besides the kernel's own FUSE messages (linux/fuse.h), between
 * the guest agent and the host's file server. Like those: in the guest's byte order.
 */
#pragma once

#include <stdint.h>

/*
 * A request with this opcode is the guest agent's: behind its header a u64, so many notifications
 * were taken. It is not answered. The first one of a stream has 0 there, and behind it another u64:
 * what the guest agent can.
 */
#define LIMA_MOUNT_ACK       0x4c4d0002u
#define LIMA_MOUNT_CAN_AHEAD 1u /* takes LIMA_MOUNT_AHEAD */
#define LIMA_MOUNT_CAN_READ  2u /* takes LIMA_MOUNT_READ */

/*
 * A message with this code is for the guest agent itself, and does not count as a notification:
 * struct lima_ahead. It answers some requests at once by what these say, until the stream ends.
 * They come before the answer to the request that made them true.
 */
#define LIMA_MOUNT_AHEAD 0x4c4d0004

enum lima_ahead_kind {
    LIMA_AHEAD_XATTR = 1, /* GETXATTR of a name that does not begin with "user." is ENODATA */
    LIMA_AHEAD_ATTR,      /* behind it a struct fuse_attr_out: what GETATTR of the node has */
    /* The folder is empty: LOOKUP of a name that was in no request to it since then is ENOENT. */
    LIMA_AHEAD_EMPTY,
    LIMA_AHEAD_VOID, /* nothing of this is so any more; node 0: of any node */
};

struct lima_ahead {
    uint32_t kind;
    uint32_t reserved;
    uint64_t node;
};

/*
 * A message with this code is for the guest agent itself, too: struct lima_read. Names of this
 * folder are being looked up one by one: to read it whole would have the kernel know all of them.
 */
#define LIMA_MOUNT_READ 0x4c4d0005

struct lima_read {
    uint64_t node;
    uint64_t generation;
};

/*
 * At this offset of a request's header, in what the kernel leaves 0 (u16): the guest agent has it
 * made, to replay what the host has done already. It is answered as if it were done now, and
 * changes nothing.
 */
#define LIMA_MOUNT_REPLAYED_OFFSET 38
#define LIMA_MOUNT_REPLAYED        0x4c52u

/* A notification with this code asks for that: struct lima_replay, then both names, each with a
 * NUL. */
#define LIMA_MOUNT_REPLAY 0x4c4d0003

enum lima_replay_op {
    LIMA_REPLAY_MAKE = 1, /* mode has its type */
    LIMA_REPLAY_REMOVE,   /* mode: a folder, or not */
    LIMA_REPLAY_MOVE,     /* to name2 in dir2, where it has the number ino then */
    LIMA_REPLAY_MODIFY,
    LIMA_REPLAY_ATTRIBUTES, /* name empty: those of dir */
    LIMA_REPLAY_CLOSE,      /* by somebody who might have written */
};

struct lima_replay {
    uint32_t op;
    uint32_t mode;
    uint64_t dir, dir2; /* numbers of folders, as the kernel has them from LOOKUP */
    uint32_t generation, generation2;
    uint64_t ino;
    uint32_t name_len, name2_len; /* without their NULs */
};

/*
 * A folder at the mount's root that is there for replays alone, and never listed: what is moved out
 * of the guest's sight goes there, and what comes into it comes from there.
 */
#define LIMA_REPLAY_ELSEWHERE      ".lima-elsewhere"
#define LIMA_REPLAY_ELSEWHERE_NODE (UINT64_C(1) << 40)

#define LIMA_REPLAY_MAX (16 + sizeof(struct lima_replay) + 2 * 256) /* bytes, with its header */
