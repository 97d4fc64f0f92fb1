/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/fuse_wire.h"

#include <errno.h>
#include <string.h>
#include "lima/mount.h"

/* Newer than some kernel headers. */
#define OP_SYNCFS  50
#define OP_TMPFILE 51

static const struct fuse_op ops[] = {
    {FUSE_LOOKUP, "LOOKUP", 0, 1},
    {FUSE_FORGET, "FORGET", sizeof(struct fuse_forget_in), 0, .once = true, .silent = true},
    {FUSE_GETATTR, "GETATTR", sizeof(struct fuse_getattr_in), 0},
    {FUSE_SETATTR, "SETATTR", sizeof(struct fuse_setattr_in), 0, .changes = true},
    {FUSE_READLINK, "READLINK", 0, 0},
    {FUSE_SYMLINK, "SYMLINK", 0, 2, .changes = true, .once = true},
    {FUSE_MKNOD, "MKNOD", sizeof(struct fuse_mknod_in), 1, .changes = true, .once = true},
    {FUSE_MKDIR, "MKDIR", sizeof(struct fuse_mkdir_in), 1, .changes = true, .once = true},
    {FUSE_UNLINK, "UNLINK", 0, 1, .changes = true, .once = true},
    {FUSE_RMDIR, "RMDIR", 0, 1, .changes = true, .once = true},
    {FUSE_RENAME, "RENAME", sizeof(struct fuse_rename_in), 2, .changes = true, .once = true},
    {FUSE_LINK, "LINK", sizeof(struct fuse_link_in), 1, .changes = true, .once = true},
    {FUSE_OPEN, "OPEN", sizeof(struct fuse_open_in), 0},
    {FUSE_READ, "READ", sizeof(struct fuse_read_in), 0},
    {FUSE_WRITE, "WRITE", sizeof(struct fuse_write_in), 0, .changes = true},
    {FUSE_STATFS, "STATFS", 0, 0},
    {FUSE_RELEASE, "RELEASE", sizeof(struct fuse_release_in), 0},
    {FUSE_FSYNC, "FSYNC", sizeof(struct fuse_fsync_in), 0},
    {FUSE_SETXATTR, "SETXATTR", FUSE_COMPAT_SETXATTR_IN_SIZE, 1, .changes = true, .once = true},
    {FUSE_GETXATTR, "GETXATTR", sizeof(struct fuse_getxattr_in), 1},
    {FUSE_LISTXATTR, "LISTXATTR", sizeof(struct fuse_getxattr_in), 0},
    {FUSE_REMOVEXATTR, "REMOVEXATTR", 0, 1, .changes = true, .once = true},
    {FUSE_FLUSH, "FLUSH", sizeof(struct fuse_flush_in), 0},
    {FUSE_INIT, "INIT", 16, 0},
    {FUSE_OPENDIR, "OPENDIR", sizeof(struct fuse_open_in), 0},
    {FUSE_READDIR, "READDIR", sizeof(struct fuse_read_in), 0},
    {FUSE_RELEASEDIR, "RELEASEDIR", sizeof(struct fuse_release_in), 0},
    {FUSE_FSYNCDIR, "FSYNCDIR", sizeof(struct fuse_fsync_in), 0},
    {FUSE_ACCESS, "ACCESS", sizeof(struct fuse_access_in), 0},
    {FUSE_CREATE, "CREATE", sizeof(struct fuse_create_in), 1, .changes = true, .once = true},
    {FUSE_INTERRUPT, "INTERRUPT", sizeof(struct fuse_interrupt_in), 0, .silent = true},
    {FUSE_DESTROY, "DESTROY", 0, 0},
    {FUSE_BATCH_FORGET, "BATCH_FORGET", sizeof(struct fuse_batch_forget_in), 0, .once = true,
     .silent = true},
    {FUSE_FALLOCATE, "FALLOCATE", sizeof(struct fuse_fallocate_in), 0, .changes = true},
    {FUSE_READDIRPLUS, "READDIRPLUS", sizeof(struct fuse_read_in), 0},
    {FUSE_RENAME2, "RENAME2", sizeof(struct fuse_rename2_in), 2, .changes = true, .once = true},
    {FUSE_LSEEK, "LSEEK", sizeof(struct fuse_lseek_in), 0},
    {FUSE_COPY_FILE_RANGE, "COPY_FILE_RANGE", sizeof(struct fuse_copy_file_range_in), 0,
     .changes = true},
    {OP_SYNCFS, "SYNCFS", 8, 0},
    {OP_TMPFILE, "TMPFILE", sizeof(struct fuse_create_in), 1, .changes = true, .once = true},
};

const struct fuse_op *fuse_op_at(size_t index)
{
    return index < ARRAY_LEN(ops) ? &ops[index] : NULL;
}

const struct fuse_op *fuse_op_find(uint32_t opcode)
{
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (ops[i].opcode == opcode) {
            return &ops[i];
        }
    }
    return NULL;
}

int fuse_message_len(const void *data, size_t len, size_t max)
{
    uint32_t said;

    if (len < sizeof(said)) {
        return 0;
    }
    memcpy(&said, data, sizeof(said));
    return said < sizeof(struct fuse_out_header) || said > max ? -EBADMSG : (int)said;
}

/* A name behind the struct: takes it from the front of what is left. */
static int take_name(const uint8_t **at, size_t *left, size_t max, const char **ret)
{
    const uint8_t *end = memchr(*at, '\0', *left);

    if (!end) {
        return -EBADMSG;
    }
    *ret = (const char *)*at;
    *left -= (size_t)(end + 1 - *at);
    if ((size_t)(end - *at) > max) {
        return -ENAMETOOLONG;
    }
    *at = end + 1;
    return 0;
}

static int take_names(const struct fuse_op *op, const uint8_t **at, size_t *left,
                      struct fuse_request *ret)
{
    size_t second = op->opcode == FUSE_SYMLINK ? FUSE_TARGET_LEN : FUSE_NAME_LEN;
    int r = op->names > 0 ? take_name(at, left, FUSE_NAME_LEN, &ret->name) : 0;

    return r < 0 || op->names < 2 ? r : take_name(at, left, second, &ret->name2);
}

/* The sizes that the struct itself names must be those of what follows. */
static int check_data(const struct fuse_request *req)
{
    uint64_t want = 0;

    if (req->opcode == FUSE_WRITE) {
        want = ((const struct fuse_write_in *)req->arg)->size;
    } else if (req->opcode == FUSE_SETXATTR) {
        want = ((const struct fuse_setxattr_in *)req->arg)->size;
    } else if (req->opcode == FUSE_BATCH_FORGET) {
        want = (uint64_t)((const struct fuse_batch_forget_in *)req->arg)->count *
               sizeof(struct fuse_forget_one);
    }
    return want > req->data_len ? -EBADMSG : 0;
}

int fuse_request_parse(const void *data, size_t len, struct fuse_request *ret)
{
    const struct fuse_in_header *head = data;
    const struct fuse_op *op;
    const uint8_t *at = (const uint8_t *)data + sizeof(*head);
    size_t left;
    uint16_t mark;
    int r;

    *ret = (struct fuse_request){0};
    if (len < sizeof(*head)) {
        return -EBADMSG;
    }
    left = len - sizeof(*head);
    memcpy(&mark, (const uint8_t *)data + LIMA_MOUNT_REPLAYED_OFFSET, sizeof(mark));
    *ret = (struct fuse_request){.opcode = head->opcode,
                                 .unique = head->unique,
                                 .node = head->nodeid,
                                 .uid = head->uid,
                                 .gid = head->gid,
                                 .replayed = mark == LIMA_MOUNT_REPLAYED};
    op = fuse_op_find(head->opcode);
    if (!op) {
        return 0;
    }
    if (left < op->arg_len) {
        return -EBADMSG;
    }
    if (op->arg_len) {
        ret->arg = at;
        at += op->arg_len;
        left -= op->arg_len;
    }
    r = take_names(op, &at, &left, ret);
    if (r < 0) {
        return r;
    }
    ret->data = at;
    ret->data_len = left;
    return check_data(ret);
}

size_t fuse_reply_begin(struct buf *out, uint64_t unique)
{
    struct fuse_out_header head = {.unique = unique};
    size_t begin = out->len;

    buf_put(out, &head, sizeof(head));
    return begin;
}

void fuse_reply_end(struct buf *out, size_t begin)
{
    uint32_t len = (uint32_t)(out->len - begin);

    memcpy(out->data + begin, &len, sizeof(len));
}

void fuse_reply_error(struct buf *out, uint64_t unique, int error)
{
    struct fuse_out_header head = {.len = sizeof(head), .error = error, .unique = unique};

    buf_put(out, &head, sizeof(head));
}

void fuse_reply(struct buf *out, uint64_t unique, const void *body, size_t len)
{
    size_t begin = fuse_reply_begin(out, unique);

    buf_put(out, body, len);
    fuse_reply_end(out, begin);
}

bool fuse_put_dirent(struct buf *out, size_t begin, size_t max, const struct fuse_entry_out *plus,
                     uint64_t ino, uint64_t next, uint32_t type, const char *name)
{
    static const char zeros[8];
    size_t name_len = strlen(name);
    struct fuse_dirent entry = {
        .ino = ino, .off = next, .namelen = (uint32_t)name_len, .type = type};
    size_t len = FUSE_NAME_OFFSET + name_len + (plus ? sizeof(*plus) : 0);
    size_t whole = FUSE_DIRENT_ALIGN(len);

    if (out->len - begin + whole > max) {
        return false;
    }
    if (plus) {
        buf_put(out, plus, sizeof(*plus));
    }
    buf_put(out, &entry, FUSE_NAME_OFFSET);
    buf_put(out, name, name_len);
    buf_put(out, zeros, whole - len);
    return true;
}
