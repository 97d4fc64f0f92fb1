/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the kernel's FUSE that need not go to the host, because it has said before what it
 * would answer (LIMA_MOUNT_AHEAD, lima/mount.h): attributes of folders, names that a new folder
 * does not have, attributes that no file has. A round trip less for each, of five that a new file
 * takes.
 *
 * What is said of a folder may be forgotten at any time: then the host is asked.
 */
#pragma once

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include "base/macros.h"

#define AHEAD_ANSWER_MAX (sizeof(struct fuse_out_header) + sizeof(struct fuse_attr_out))

struct ahead;

struct ahead *ahead_new(void);
void ahead_free(struct ahead *ahead);
SCOPED_PTR(struct ahead, ahead_free)
/* Another host, or none: nothing is known. */
void ahead_clear(struct ahead *ahead);
/* A whole message with the code LIMA_MOUNT_AHEAD; one that makes no sense voids all. */
void ahead_take(struct ahead *ahead, const void *message, size_t len);
/*
 * A request that was just read: the length of the answer in @ret, or 0: it has to go to the host,
 * and what it is about is noted.
 */
size_t ahead_answer(struct ahead *ahead, const void *request, size_t len,
                    uint8_t ret[AHEAD_ANSWER_MAX]);
