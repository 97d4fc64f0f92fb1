/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/sftp_wire.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include "base/macros.h"

/* SYMLINK: the target comes first, as OpenSSH has it, whatever the draft says. */
static const struct sftp_op ops[] = {
    {SFTP_INIT, "INIT", ""},
    {SFTP_OPEN, "OPEN", "pna"},
    {SFTP_CLOSE, "CLOSE", "h"},
    {SFTP_READ, "READ", "hon"},
    {SFTP_WRITE, "WRITE", "hod", .changes = true},
    {SFTP_LSTAT, "LSTAT", "p"},
    {SFTP_FSTAT, "FSTAT", "h"},
    {SFTP_SETSTAT, "SETSTAT", "pa", .changes = true},
    {SFTP_FSETSTAT, "FSETSTAT", "ha", .changes = true},
    {SFTP_OPENDIR, "OPENDIR", "p"},
    {SFTP_READDIR, "READDIR", "h"},
    {SFTP_REMOVE, "REMOVE", "p", .changes = true},
    {SFTP_MKDIR, "MKDIR", "pa", .changes = true},
    {SFTP_RMDIR, "RMDIR", "p", .changes = true},
    {SFTP_REALPATH, "REALPATH", "p"},
    {SFTP_STAT, "STAT", "p"},
    {SFTP_RENAME, "RENAME", "pq", .changes = true},
    {SFTP_READLINK, "READLINK", "p"},
    {SFTP_SYMLINK, "SYMLINK", "tp", .changes = true},
    {SFTP_EXTENDED, "posix-rename@openssh.com", "pq", "1", .changes = true},
    {SFTP_EXTENDED, "statvfs@openssh.com", "p", "2"},
    {SFTP_EXTENDED, "fstatvfs@openssh.com", "h", "2"},
    {SFTP_EXTENDED, "hardlink@openssh.com", "pq", "1", .changes = true},
    {SFTP_EXTENDED, "fsync@openssh.com", "h", "1"},
    {SFTP_EXTENDED, "lsetstat@openssh.com", "pa", "1", .changes = true},
    {SFTP_EXTENDED, "limits@openssh.com", "", "1"},
};

const struct sftp_op *sftp_op_at(size_t index)
{
    return index < ARRAY_LEN(ops) ? &ops[index] : NULL;
}

/* --- reading --- */

struct reader {
    const uint8_t *at;
    size_t left;
};

static int take(struct reader *reader, size_t len, const uint8_t **ret)
{
    if (len > reader->left) {
        return -EBADMSG;
    }
    *ret = reader->at;
    reader->at += len;
    reader->left -= len;
    return 0;
}

static int take_u32(struct reader *reader, uint32_t *ret)
{
    const uint8_t *at;
    int r = take(reader, sizeof(*ret), &at);

    if (r == 0) {
        memcpy(ret, at, sizeof(*ret));
        *ret = be32toh(*ret);
    }
    return r;
}

static int take_u64(struct reader *reader, uint64_t *ret)
{
    const uint8_t *at;
    int r = take(reader, sizeof(*ret), &at);

    if (r == 0) {
        memcpy(ret, at, sizeof(*ret));
        *ret = be64toh(*ret);
    }
    return r;
}

static int take_string(struct reader *reader, const uint8_t **ret, size_t *ret_len)
{
    uint32_t len;
    int r = take_u32(reader, &len);

    r = r < 0 ? r : take(reader, len, ret);
    *ret_len = r < 0 ? 0 : len;
    return r;
}

static int take_text(struct reader *reader, const char **ret, size_t *ret_len)
{
    const uint8_t *data;
    int r = take_string(reader, &data, ret_len);

    if (r < 0) {
        return r;
    }
    *ret = (const char *)data;
    return *ret_len > SFTP_PATH_MAX ? -ENAMETOOLONG : memchr(data, '\0', *ret_len) ? -EBADMSG : 0;
}

/* ".." takes the name before it away, or nothing at the top: nothing is above that. */
static int take_path(struct reader *reader, char ret[SFTP_PATH_MAX + 1])
{
    const char *text;
    size_t len, out = 0;
    int r = take_text(reader, &text, &len);

    if (r < 0) {
        return r;
    }
    for (size_t at = 0; at < len;) {
        const char *slash = memchr(text + at, '/', len - at);
        size_t one = slash ? (size_t)(slash - text) - at : len - at;

        if (one == 2 && memcmp(text + at, "..", 2) == 0) {
            while (out > 0 && ret[--out] != '/') {
            }
        } else if (one > 0 && !(one == 1 && text[at] == '.')) {
            if (out > 0) {
                ret[out++] = '/';
            }
            memcpy(ret + out, text + at, one);
            out += one;
        }
        at += one + 1;
    }
    ret[out] = '\0';
    return 0;
}

static int take_target(struct reader *reader, char ret[SFTP_PATH_MAX + 1])
{
    const char *text;
    size_t len;
    int r = take_text(reader, &text, &len);

    if (r == 0) {
        memcpy(ret, text, len);
        ret[len] = '\0';
    }
    return r;
}

static int take_handle(struct reader *reader, const uint8_t **ret)
{
    size_t len;
    int r = take_string(reader, ret, &len);

    return r < 0 ? r : len == SFTP_HANDLE_LEN ? 0 : -EBADMSG;
}

/* Attributes of other programs' extensions are passed over. */
static int take_extended(struct reader *reader)
{
    const uint8_t *data;
    uint32_t count;
    size_t len;
    int r = take_u32(reader, &count);

    for (uint64_t i = 0; r == 0 && i < 2 * (uint64_t)count; i++) {
        r = take_string(reader, &data, &len);
    }
    return r;
}

static int take_attrs(struct reader *reader, struct sftp_attrs *ret)
{
    int r = take_u32(reader, &ret->flags);

    if (r == 0 && ret->flags & SFTP_ATTR_SIZE) {
        r = take_u64(reader, &ret->size);
    }
    if (r == 0 && ret->flags & SFTP_ATTR_OWNER) {
        r = take_u32(reader, &ret->uid);
        r = r < 0 ? r : take_u32(reader, &ret->gid);
    }
    if (r == 0 && ret->flags & SFTP_ATTR_MODE) {
        r = take_u32(reader, &ret->mode);
    }
    if (r == 0 && ret->flags & SFTP_ATTR_TIMES) {
        r = take_u32(reader, &ret->atime);
        r = r < 0 ? r : take_u32(reader, &ret->mtime);
    }
    return r == 0 && ret->flags & SFTP_ATTR_EXTENDED ? take_extended(reader) : r;
}

static int take_field(struct reader *reader, char field, struct sftp_request *ret)
{
    switch (field) {
    case 'p':
        return take_path(reader, ret->path);
    case 'q':
        return take_path(reader, ret->path2);
    case 't':
        return take_target(reader, ret->path2);
    case 'h':
        return take_handle(reader, &ret->handle);
    case 'o':
        return take_u64(reader, &ret->offset);
    case 'n':
        return take_u32(reader, &ret->number);
    case 'd':
        return take_string(reader, &ret->data, &ret->data_len);
    default:
        return take_attrs(reader, &ret->attrs);
    }
}

static const struct sftp_op *find(uint8_t type, const uint8_t *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (ops[i].type == type &&
            (type != SFTP_EXTENDED ||
             (strlen(ops[i].name) == len && memcmp(ops[i].name, name, len) == 0))) {
            return &ops[i];
        }
    }
    return NULL;
}

int sftp_message_len(const void *data, size_t len)
{
    uint32_t said;

    if (len < sizeof(said)) {
        return 0;
    }
    memcpy(&said, data, sizeof(said));
    said = be32toh(said);
    return said < 1 || said > SFTP_MESSAGE_MAX ? -EBADMSG : (int)(said + sizeof(said));
}

int sftp_request_parse(const void *data, size_t len, struct sftp_request *ret)
{
    struct reader reader = {(const uint8_t *)data + sizeof(uint32_t), len - sizeof(uint32_t)};
    const uint8_t *type, *name = NULL;
    size_t name_len = 0;
    int r = take(&reader, 1, &type);

    ret->type = r < 0 ? 0 : *type;
    ret->id = 0;
    ret->op = NULL;
    ret->attrs = (struct sftp_attrs){0};
    r = r < 0 ? r : take_u32(&reader, &ret->id);
    if (r == 0 && ret->type == SFTP_EXTENDED) {
        r = take_string(&reader, &name, &name_len);
    }
    if (r < 0) {
        return r;
    }
    ret->op = find(ret->type, name, name_len);
    for (const char *field = ret->op ? ret->op->fields : ""; *field && r == 0; field++) {
        r = take_field(&reader, *field, ret);
    }
    return r;
}

/* --- writing --- */

void sftp_put_u32(struct buf *out, uint32_t value)
{
    value = htobe32(value);
    buf_put(out, &value, sizeof(value));
}

void sftp_put_u64(struct buf *out, uint64_t value)
{
    value = htobe64(value);
    buf_put(out, &value, sizeof(value));
}

void sftp_put_string(struct buf *out, const void *data, size_t len)
{
    sftp_put_u32(out, (uint32_t)len);
    buf_put(out, data, len);
}

size_t sftp_reply_begin(struct buf *out, enum sftp_type type, uint32_t id)
{
    size_t begin = out->len;

    sftp_put_u32(out, 0);
    buf_putc(out, (char)type);
    sftp_put_u32(out, id);
    return begin;
}

void sftp_reply_end(struct buf *out, size_t begin)
{
    uint32_t len = htobe32((uint32_t)(out->len - begin - sizeof(len)));

    memcpy(out->data + begin, &len, sizeof(len));
}

void sftp_put_attrs(struct buf *out, const struct sftp_attrs *attrs)
{
    sftp_put_u32(out, attrs->flags);
    if (attrs->flags & SFTP_ATTR_SIZE) {
        sftp_put_u64(out, attrs->size);
    }
    if (attrs->flags & SFTP_ATTR_OWNER) {
        sftp_put_u32(out, attrs->uid);
        sftp_put_u32(out, attrs->gid);
    }
    if (attrs->flags & SFTP_ATTR_MODE) {
        sftp_put_u32(out, attrs->mode);
    }
    if (attrs->flags & SFTP_ATTR_TIMES) {
        sftp_put_u32(out, attrs->atime);
        sftp_put_u32(out, attrs->mtime);
    }
}

void sftp_reply_status(struct buf *out, uint32_t id, enum sftp_status status, const char *text)
{
    size_t begin = sftp_reply_begin(out, SFTP_STATUS, id);

    sftp_put_u32(out, status);
    sftp_put_string(out, text, strlen(text));
    sftp_put_string(out, "", 0); /* language */
    sftp_reply_end(out, begin);
}

static enum sftp_status status_of(int error)
{
    switch (error) {
    case 0:
        return SFTP_OK;
    case -ENOENT:
    case -ENOTDIR: /* a folder that the guest knows is a file by now */
        return SFTP_NO_SUCH_FILE;
    case -EACCES:
    case -EPERM:
    case -EROFS:
    case -EXDEV: /* a link that leads out of the folder */
    case -ELOOP:
        return SFTP_PERMISSION_DENIED;
    case -EBADMSG:
        return SFTP_BAD_MESSAGE;
    case -EOPNOTSUPP:
    case -ENOSYS:
        return SFTP_OP_UNSUPPORTED;
    default:
        return SFTP_FAILURE;
    }
}

void sftp_reply_error(struct buf *out, uint32_t id, int error)
{
    sftp_reply_status(out, id, status_of(error), error ? strerror(-error) : "");
}
