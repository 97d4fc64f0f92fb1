/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's FUSE protocol (linux/fuse.h, version 7) as a file server sees it: requests taken
 * apart and checked, replies put together. No I/O. Requests come from a guest that may be hostile:
 * what fuse_request_parse() hands out lies within the message, names are terminated, sizes fit.
 */
#pragma once

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

#define FUSE_WRITE_MAX   (1u << 20) /* bytes of data in a WRITE or of an answer to READ */
#define FUSE_REQUEST_MAX (FUSE_WRITE_MAX + 4096)
#define FUSE_NAME_LEN    255  /* NAME_MAX */
#define FUSE_TARGET_LEN  4095 /* of a symbolic link: PATH_MAX less its end */

struct fuse_request {
    uint32_t opcode; /* enum fuse_opcode, or one that this version does not know */
    uint64_t unique;
    uint64_t node;
    uint32_t uid, gid; /* of who asks */
    bool replayed;     /* LIMA_MOUNT_REPLAYED */
    const void *arg;   /* the struct of the opcode, aligned to 8; NULL: has none */
    const char *name, *name2;
    const uint8_t *data;
    size_t data_len;
};

/* What is known of an opcode before it is served. */
struct fuse_op {
    uint32_t opcode;
    const char *name;
    uint8_t arg_len; /* the least that the struct has */
    uint8_t names;   /* 0 to 2 behind it */
    bool changes;    /* refused when read-only */
    bool once;       /* doing it twice is not the same as once */
    bool silent;     /* the kernel wants no answer */
};

/* NULL: not known. */
const struct fuse_op *fuse_op_find(uint32_t opcode);
/* The table, for tests that go through all of it. */
const struct fuse_op *fuse_op_at(size_t index);

/*
 * The length of the message that begins at @data: 0 when more bytes are needed to tell, -EBADMSG
 * when it can be none (the stream is beyond repair).
 */
int fuse_message_len(const void *data, size_t len, size_t max);

/*
 * @data holds one whole message, aligned to 8. -EBADMSG: what the opcode must have is not there;
 * @ret has opcode and unique then.
 */
int fuse_request_parse(const void *data, size_t len, struct fuse_request *ret);

/* Begins an answer in @out; fuse_reply_end() fills its length in. Returns where it began. */
size_t fuse_reply_begin(struct buf *out, uint64_t unique);
void fuse_reply_end(struct buf *out, size_t begin);
/* A whole answer: @error is 0 or -errno, as the kernel wants it. */
void fuse_reply_error(struct buf *out, uint64_t unique, int error);
void fuse_reply(struct buf *out, uint64_t unique, const void *body, size_t len);

/* Appends a directory entry (@plus NULL: of READDIR) unless it exceeds @max bytes from @begin. */
bool fuse_put_dirent(struct buf *out, size_t begin, size_t max, const struct fuse_entry_out *plus,
                     uint64_t ino, uint64_t next, uint32_t type, const char *name);
