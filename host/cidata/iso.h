/* SPDX-License-Identifier: Apache-2.0 */
/* A small ISO 9660 image with Rock Ridge names, built in memory by libarchive. */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/error.h"

#define ISO_NAME_MAX 30 /* bytes of one component: longer ones are cut by the format */

struct iso;

/* @label as it is written, lower case kept. */
int iso_new(const char *label, struct iso **ret, struct error *err);
void iso_free(struct iso *iso);
SCOPED_PTR(struct iso, iso_free)

/* Adds a file, owned by root. @path is relative; its folders appear by themselves. */
int iso_add(struct iso *iso, const char *path, mode_t mode, const void *data, size_t len,
            struct error *err);
/* The complete image; nothing can be added afterwards. */
int iso_finish(struct iso *iso, struct buf *out, struct error *err);
