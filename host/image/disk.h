/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images as files: what format they have, whether they may be used, their size. Headers are
 * read here, not by a program, since an image may come from anywhere: one that names other files of
 * the host is refused.
 */
#pragma once

#include <stdint.h>
#include "base/error.h"

enum disk_format {
    DISK_FORMAT_RAW,
    DISK_FORMAT_QCOW2,
    DISK_FORMAT_ISO,
    DISK_FORMAT_VMDK,
    DISK_FORMAT_VHDX,
    DISK_FORMAT_VDI,
};

const char *disk_format_name(enum disk_format format); /* "qcow2" */

struct disk_info {
    enum disk_format format;
    int64_t size; /* bytes that the guest sees; -1: not known for this format */
};

/*
 * By content; what is not recognised is raw.
 * Errors: EPERM (a qcow2 that needs a backing file or an external data file), EINVAL (a header that
 * contradicts itself), I/O errors.
 */
int disk_probe(const char *path, struct disk_info *ret, struct error *err);
/*
 * Grows the disk at @path to @size bytes; raw without a program, qcow2 with qemu-img. Equal sizes
 * are fine. Errors: EINVAL (would shrink, or the format cannot be resized), ENOENT (no qemu-img).
 */
int disk_grow(const char *path, const struct disk_info *info, int64_t size, struct error *err);
/* A new, empty qcow2. */
int disk_create(const char *path, int64_t size, struct error *err);
