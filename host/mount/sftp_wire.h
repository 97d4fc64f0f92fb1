/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SSH File Transfer Protocol, version 3 (draft-ietf-secsh-filexfer-02), with the extensions of
 * OpenSSH's PROTOCOL file, as a server sees it: requests taken apart and checked, answers put
 * together. No I/O. Requests come from a guest that may be hostile: what sftp_request_parse() hands
 * out lies within the message, sizes fit, paths are clean.
 *
 * A message: u32 length of what follows, u8 type, u32 number (but in INIT and VERSION), fields. All
 * numbers are big-endian; a string is its u32 length and so many bytes.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

#define SFTP_VERSION     3
#define SFTP_MESSAGE_MAX (256u << 10) /* as OpenSSH's */
#define SFTP_DATA_MAX    (SFTP_MESSAGE_MAX - 1024)
#define SFTP_PATH_MAX    (PATH_MAX - 1)
#define SFTP_HANDLE_LEN  8

enum sftp_type {
    SFTP_INIT = 1,
    SFTP_VERSION_IS = 2,
    SFTP_OPEN = 3,
    SFTP_CLOSE = 4,
    SFTP_READ = 5,
    SFTP_WRITE = 6,
    SFTP_LSTAT = 7,
    SFTP_FSTAT = 8,
    SFTP_SETSTAT = 9,
    SFTP_FSETSTAT = 10,
    SFTP_OPENDIR = 11,
    SFTP_READDIR = 12,
    SFTP_REMOVE = 13,
    SFTP_MKDIR = 14,
    SFTP_RMDIR = 15,
    SFTP_REALPATH = 16,
    SFTP_STAT = 17,
    SFTP_RENAME = 18,
    SFTP_READLINK = 19,
    SFTP_SYMLINK = 20,
    SFTP_STATUS = 101,
    SFTP_HANDLE = 102,
    SFTP_DATA = 103,
    SFTP_NAME = 104,
    SFTP_ATTRS = 105,
    SFTP_EXTENDED = 200,
    SFTP_EXTENDED_REPLY = 201,
};

enum sftp_status {
    SFTP_OK = 0,
    SFTP_EOF = 1,
    SFTP_NO_SUCH_FILE = 2,
    SFTP_PERMISSION_DENIED = 3,
    SFTP_FAILURE = 4,
    SFTP_BAD_MESSAGE = 5,
    SFTP_OP_UNSUPPORTED = 8,
};

enum sftp_open_flags {
    SFTP_OPEN_READ = 1,
    SFTP_OPEN_WRITE = 2,
    SFTP_OPEN_APPEND = 4,
    SFTP_OPEN_CREAT = 8,
    SFTP_OPEN_TRUNC = 16,
    SFTP_OPEN_EXCL = 32,
};

enum sftp_attr_flags {
    SFTP_ATTR_SIZE = 1,
    SFTP_ATTR_OWNER = 2,
    SFTP_ATTR_MODE = 4,
    SFTP_ATTR_TIMES = 8,
};
#define SFTP_ATTR_EXTENDED 0x80000000u

struct sftp_attrs {
    uint32_t flags; /* which of these are said */
    uint64_t size;
    uint32_t uid, gid;
    uint32_t mode;         /* as st_mode, type included */
    uint32_t atime, mtime; /* seconds */
};

/* What requests are made of; an extension is known by its name. */
struct sftp_op {
    enum sftp_type type;
    const char *name; /* of an extension: what the peer says; else for people */
    /*
     * Fields, a letter each: 'p' a path, 'q' another one, 't' a link's target as it is, 'h' a
     * handle, 'o' an offset, 'n' a number, 'd' data, 'a' attributes.
     */
    const char *fields;
    const char *version; /* of an extension, as VERSION tells it */
    bool changes;        /* refused when read-only; but OPEN, which depends */
};

struct sftp_request {
    uint8_t type;
    uint32_t id;              /* of INIT: the version */
    const struct sftp_op *op; /* NULL: not known */
    /* Without '/' at its ends, without empty names, "." and ".."; "" is the shared folder. */
    char path[SFTP_PATH_MAX + 1], path2[SFTP_PATH_MAX + 1];
    const uint8_t *handle; /* SFTP_HANDLE_LEN */
    uint64_t offset;
    uint32_t number;
    const uint8_t *data;
    size_t data_len;
    struct sftp_attrs attrs;
};

/* The table, for tests that go through all of it, and for what VERSION tells; NULL at its end. */
const struct sftp_op *sftp_op_at(size_t index);

/*
 * The length of the message that begins at @data, its length field included: 0 when more bytes are
 * needed to tell, -EBADMSG when it can be none (the stream is beyond repair).
 */
int sftp_message_len(const void *data, size_t len);
/*
 * @data holds one whole message. 0; -EBADMSG: fields are missing, or a name is none (@ret has type,
 * id and op then); -ENAMETOOLONG. A message too short for an id has the id 0.
 */
int sftp_request_parse(const void *data, size_t len, struct sftp_request *ret);

/* Begins an answer in @out; sftp_reply_end() fills its length in. Returns where it began. */
size_t sftp_reply_begin(struct buf *out, enum sftp_type type, uint32_t id);
void sftp_reply_end(struct buf *out, size_t begin);
void sftp_put_u32(struct buf *out, uint32_t value);
void sftp_put_u64(struct buf *out, uint64_t value);
void sftp_put_string(struct buf *out, const void *data, size_t len);
void sftp_put_attrs(struct buf *out, const struct sftp_attrs *attrs);
/* A whole answer: @error is 0 or -errno, SFTP_EOF a status of its own. */
void sftp_reply_error(struct buf *out, uint32_t id, int error);
void sftp_reply_status(struct buf *out, uint32_t id, enum sftp_status status, const char *text);
