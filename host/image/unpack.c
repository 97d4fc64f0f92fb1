/* SPDX-License-Identifier: Apache-2.0 */
#include "image/unpack.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "image/scoped_archive.h"

#define BLOCK     65536 /* unit of holes */
#define MAGIC_MAX 6

static const struct {
    const char *bytes;
    size_t len;
} magics[] = {
    {"\x1f\x8b", 2},                 /* gzip */
    {"BZh", 3},                      /* bzip2 */
    {"\xfd\x37\x7a\x58\x5a\x00", 6}, /* xz */
    {"\x28\xb5\x2f\xfd", 4},         /* zstd */
    {"\x04\x22\x4d\x18", 4},         /* lz4 */
};

bool unpack_is_packed(const char *path)
{
    scoped(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char head[MAGIC_MAX];
    ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof(head));

    for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
        if (n >= (ssize_t)magics[i].len && !memcmp(head, magics[i].bytes, magics[i].len)) {
            return true;
        }
    }
    return false;
}

static bool all_zero(const char *data, size_t len)
{
    return len == 0 || (data[0] == 0 && !memcmp(data, data + 1, len - 1));
}

/* Writes what is not zero, a block at a time. */
static int write_sparse(int fd, const char *data, size_t len, int64_t offset)
{
    while (len > 0) {
        size_t chunk = MIN(len, (size_t)(BLOCK - offset % BLOCK));

        if (!all_zero(data, chunk)) {
            ssize_t n = pwrite(fd, data, chunk, offset);

            if (n < 0 && errno != EINTR) {
                return -errno;
            }
            chunk = n < 0 ? 0 : (size_t)n;
        }
        data += chunk;
        len -= chunk;
        offset += (int64_t)chunk;
    }
    return 0;
}

static int unpack_open(const char *from, struct archive *a, struct error *err)
{
    struct archive_entry *entry;

    archive_read_support_filter_gzip(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_lz4(a);
    archive_read_support_format_raw(a);
    archive_read_support_format_empty(a);
    if (archive_read_open_filename(a, from, BLOCK) != ARCHIVE_OK ||
        archive_read_next_header(a, &entry) < ARCHIVE_WARN) {
        return error_set(err, EBADMSG, "unpacking '%s': %s", from, archive_error_string(a));
    }
    return 0;
}

static int unpack_all(const char *from, struct archive *a, int fd, struct error *err)
{
    int64_t size = 0;

    for (;;) {
        const void *data;
        size_t len;
        la_int64_t offset;
        int got = archive_read_data_block(a, &data, &len, &offset), r;

        if (got == ARCHIVE_EOF) {
            break;
        }
        if (got == ARCHIVE_RETRY) {
            continue;
        }
        if (got != ARCHIVE_OK) {
            return error_set(err, EBADMSG, "unpacking '%s': %s", from, archive_error_string(a));
        }
        r = write_sparse(fd, data, len, offset);
        if (r < 0) {
            return error_errno(err, -r, "unpacking '%s'", from);
        }
        size = offset + (int64_t)len;
    }
    if (ftruncate(fd, size) < 0) {
        return error_errno(err, errno, "unpacking '%s'", from);
    }
    return 0;
}

int unpack_file(const char *from, const char *to, struct error *err)
{
    scoped(archive_read_free) struct archive *a = archive_read_new();
    scoped(fd_close) int fd = -1;
    int r = unpack_open(from, a, err);

    if (r < 0) {
        return r;
    }
    fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_errno(err, errno, "creating '%s'", to);
    }
    r = unpack_all(from, a, fd, err);
    if (r < 0) {
        unlink(to);
    }
    return r;
}
