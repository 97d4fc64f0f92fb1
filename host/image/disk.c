/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 header (big-endian): magic, version, backing file offset (8) and length (16), cluster bits
 * (20), size (24), L1 entries (36) and offset (40); from version 3 on incompatible features (72)
 * and header length (100). Extensions follow the header: type, length, data padded to 8 bytes, type
 * 0 ends them; they lie in the first cluster.
 */
#include "image/disk.h"

#include <assert.h>
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/process.h"
#include "util/units.h"

#define HEAD_MAX             65536
#define ISO_OFFSET           32769
#define QCOW2_V2_LEN         72
#define QCOW2_V3_LEN         104
#define QCOW2_CLUSTER_MIN    9
#define QCOW2_CLUSTER_MAX    21
#define QCOW2_L1_MAX         (32u << 20) /* bytes, as QEMU limits it */
#define QCOW2_DATA_FILE      (UINT64_C(1) << 2)
#define QCOW2_KNOWN_FEATURES UINT64_C(0x1f)
#define QCOW2_EXT_BACKING    0xe2792aca
#define QCOW2_EXT_DATA_FILE  0x44415441

static const struct {
    const char *name;
    const char *magic; /* at @offset; NULL: cannot be told */
    size_t magic_len;
    size_t offset;
} formats[] = {
    [DISK_FORMAT_RAW] = {"raw", NULL, 0, 0},
    [DISK_FORMAT_QCOW2] = {"qcow2", "QFI\xfb", 4, 0},
    [DISK_FORMAT_ISO] = {"iso", "CD001", 5, ISO_OFFSET},
    [DISK_FORMAT_VMDK] = {"vmdk", "KDMV", 4, 0},
    [DISK_FORMAT_VHDX] = {"vhdx", "vhdxfile", 8, 0},
    [DISK_FORMAT_VDI] = {"vdi", "\x7f\x10\xda\xbe", 4, 64},
};

struct head {
    const char *path;
    unsigned char data[HEAD_MAX];
    size_t len;
    int64_t file_size;
};

const char *disk_format_name(enum disk_format format)
{
    return formats[format].name;
}

static uint32_t be32_at(const struct head *h, size_t at)
{
    uint32_t v;

    assert(at + sizeof(v) <= h->len);
    memcpy(&v, h->data + at, sizeof(v));
    return be32toh(v);
}

static uint64_t be64_at(const struct head *h, size_t at)
{
    return (uint64_t)be32_at(h, at) << 32 | be32_at(h, at + 4);
}

static enum disk_format detect(const struct head *h)
{
    /* The most telling last: a bootable ISO may carry anything in its first sectors. */
    if (h->len >= ISO_OFFSET + 5 && !memcmp(h->data + ISO_OFFSET, "CD001", 5)) {
        return DISK_FORMAT_ISO;
    }
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        size_t end = formats[i].offset + formats[i].magic_len;

        if (formats[i].magic && h->len >= end &&
            !memcmp(h->data + formats[i].offset, formats[i].magic, formats[i].magic_len)) {
            return (enum disk_format)i;
        }
    }
    return DISK_FORMAT_RAW;
}

static int damaged(const struct head *h, const char *what, struct error *err)
{
    return error_set(err, EINVAL, "'%s' is not a valid qcow2 image: %s", h->path, what);
}

static int refused(const struct head *h, const char *what, struct error *err)
{
    error_set(err, EPERM, "'%s' must not have %s", h->path, what);
    return error_hint(err, "make one file of it: qemu-img convert -O qcow2 '%s' NEW", h->path),
           -EPERM;
}

static int check_extensions(const struct head *h, size_t at, size_t end, struct error *err)
{
    while (at + 8 <= end) {
        uint32_t type = be32_at(h, at), len = be32_at(h, at + 4);

        if (type == 0) {
            return 0;
        }
        if (type == QCOW2_EXT_DATA_FILE) {
            return refused(h, "an external data file", err);
        }
        if (type == QCOW2_EXT_BACKING) {
            return refused(h, "a backing file", err);
        }
        at += 8;
        if (len > end - at) {
            return damaged(h, "a header extension is longer than the header", err);
        }
        at += (len + 7u) / 8 * 8;
    }
    return 0;
}

/* Sizes that fit together; -EINVAL names the first that does not. */
static int check_qcow2_sizes(const struct head *h, struct error *err)
{
    uint32_t cluster_bits = be32_at(h, 20), l1_entries = be32_at(h, 36);
    uint64_t size = be64_at(h, 24), l1_offset = be64_at(h, 40), per_l1;

    if (cluster_bits < QCOW2_CLUSTER_MIN || cluster_bits > QCOW2_CLUSTER_MAX) {
        return damaged(h, "cluster size out of range", err);
    }
    per_l1 = UINT64_C(1) << (2 * cluster_bits - 3);
    if (size > INT64_MAX || size / per_l1 > QCOW2_L1_MAX / 8) {
        return damaged(h, "size out of range", err);
    }
    if (l1_entries > QCOW2_L1_MAX / 8 || l1_entries < (size + per_l1 - 1) / per_l1) {
        return damaged(h, "the cluster table does not fit the size", err);
    }
    if (l1_offset % (UINT64_C(1) << cluster_bits) ||
        (l1_entries > 0 && l1_offset >= (uint64_t)h->file_size)) {
        return damaged(h, "the cluster table lies outside of the file", err);
    }
    return 0;
}

static int check_qcow2(const struct head *h, int64_t *ret_size, struct error *err)
{
    uint32_t version, header_len = QCOW2_V2_LEN;
    uint64_t features = 0;
    int r;

    if (h->len < QCOW2_V2_LEN) {
        return damaged(h, "cut off", err);
    }
    version = be32_at(h, 4);
    if (version != 2 && version != 3) {
        return damaged(h, "unknown version", err);
    }
    if (version == 3) {
        if (h->len < QCOW2_V3_LEN) {
            return damaged(h, "cut off", err);
        }
        features = be64_at(h, 72);
        header_len = be32_at(h, 100);
    }
    if (be64_at(h, 8) != 0 || be32_at(h, 16) != 0) {
        return refused(h, "a backing file", err);
    }
    if (features & QCOW2_DATA_FILE) {
        return refused(h, "an external data file", err);
    }
    if (features & ~QCOW2_KNOWN_FEATURES) {
        return damaged(h, "unknown features", err);
    }
    r = check_qcow2_sizes(h, err);
    if (r < 0) {
        return r;
    }
    if (header_len % 8 || (version == 3 && header_len < QCOW2_V3_LEN) ||
        header_len > UINT64_C(1) << be32_at(h, 20)) {
        return damaged(h, "header length out of range", err);
    }
    r = check_extensions(h, header_len, MIN(h->len, (size_t)1 << be32_at(h, 20)), err);
    if (r == 0) {
        *ret_size = (int64_t)be64_at(h, 24);
    }
    return r;
}

static int head_load(const char *path, struct head *h, struct error *err)
{
    scoped(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return error_errno(err, errno, "opening disk image '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return error_set(err, EINVAL, "disk image '%s' is not a regular file", path);
    }
    h->path = path;
    h->file_size = st.st_size;
    while (h->len < sizeof(h->data)) {
        ssize_t n = read(fd, h->data + h->len, sizeof(h->data) - h->len);

        if (n < 0 && errno != EINTR) {
            return error_errno(err, errno, "reading disk image '%s'", path);
        }
        if (n == 0) {
            break;
        }
        h->len += n < 0 ? 0 : (size_t)n;
    }
    return 0;
}

int disk_probe(const char *path, struct disk_info *ret, struct error *err)
{
    scoped(free) struct head *h = xnew(struct head);
    struct disk_info info;
    int r = head_load(path, h, err);

    if (r < 0) {
        return r;
    }
    info = (struct disk_info){.format = detect(h), .size = -1};
    if (info.format == DISK_FORMAT_QCOW2) {
        r = check_qcow2(h, &info.size, err);
    } else if (info.format == DISK_FORMAT_RAW || info.format == DISK_FORMAT_ISO) {
        info.size = h->file_size;
    }
    if (r == 0) {
        *ret = info;
    }
    return r;
}

static int grow_raw(const char *path, int64_t size, struct error *err)
{
    return truncate(path, size) < 0 ? error_errno(err, errno, "growing disk '%s'", path) : 0;
}

static int grow_qcow2(const char *path, int64_t size, struct error *err)
{
    scoped(free) char *bytes = xasprintf("%" PRId64, size);
    const char *const argv[] = {"qemu-img", "resize", "-q", "-f", "qcow2", path, bytes, NULL};
    int r = process_check(argv, 0, NULL, err);

    if (r == -ENOENT) {
        error_hint(err, "as root, run: apt-get install -y qemu-utils");
    }
    return r < 0 ? error_wrap(err, r, "growing disk '%s'", path) : 0;
}

int disk_grow(const char *path, const struct disk_info *info, int64_t size, struct error *err)
{
    if (info->format != DISK_FORMAT_RAW && info->format != DISK_FORMAT_QCOW2) {
        return error_set(err, EINVAL, "disk '%s' has format %s, which cannot be resized", path,
                         disk_format_name(info->format));
    }
    if (info->size == size) {
        return 0;
    }
    if (info->size > size) {
        scoped(free) char *have = size_format(info->size);
        scoped(free) char *want = size_format(size);

        error_set(err, EINVAL, "disk shrinking is not supported: the image has %s, `disk` is %s",
                  have, want);
        return error_hint(err, "set `disk` to %s or more", have), -EINVAL;
    }
    return info->format == DISK_FORMAT_RAW ? grow_raw(path, size, err)
                                           : grow_qcow2(path, size, err);
}

int disk_create(const char *path, int64_t size, struct error *err)
{
    scoped(free) char *bytes = xasprintf("%" PRId64, size);
    const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", path, bytes, NULL};
    int r = process_check(argv, 0, NULL, err);

    return r < 0 ? error_wrap(err, r, "creating disk '%s'", path) : 0;
}
