/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the kernel's FUSE that have been read and not been answered, in memory that outlives
 * this process (a memfd that is kept, see keep.h): the kernel gives each one once, and would wait
 * for an answer for ever if it were lost. They are read straight into that memory, so there is no
 * moment at which a kill loses one.
 *
 * Little ones have a slot of 4 KiB, large ones one of 1 MiB and more; slots that are free have no
 * memory, but for the first few.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"
#include "base/macros.h"

#define FUSELOG_ID_LEN    16
#define FUSELOG_SMALL     512
#define FUSELOG_LARGE     12
#define FUSELOG_TAG_MAX   64
#define FUSELOG_POINT_MAX 4096

struct fuselog;

/* What the memory says of the mount that it belongs to. */
struct fuselog_mount {
    uint8_t id[FUSELOG_ID_LEN];
    char tag[FUSELOG_TAG_MAX];
    char point[FUSELOG_POINT_MAX];
};

int fuselog_new(const struct fuselog_mount *mount, struct fuselog **ret, struct error *err);
/* That of an earlier process; takes @take_fd. -EBADMSG: it is none. */
int fuselog_open(int take_fd, struct fuselog **ret, struct error *err);
/* Unmaps it; the memory lives as long as somebody has its descriptor. */
void fuselog_free(struct fuselog *log);
SCOPED_PTR(struct fuselog, fuselog_free)
int fuselog_fd(const struct fuselog *log);
const struct fuselog_mount *fuselog_mount(const struct fuselog *log);

/* There is room for one more, of any size. */
bool fuselog_has_room(const struct fuselog *log);
/*
 * read(2)s one request from /dev/fuse; there must be room. One that the process @replayer (0: none)
 * has made is marked (lima/mount.h). Its length, or -errno as read(2).
 */
ssize_t fuselog_read(struct fuselog *log, int fuse_fd, pid_t replayer);
/*
 * The oldest request that is younger than @after (0: the oldest of all): its sequence number, or 0.
 * *@ret_data is valid until it is dropped.
 */
uint64_t fuselog_next(const struct fuselog *log, uint64_t after, const uint8_t **ret_data,
                      size_t *ret_len);
/* The youngest of all, as fuselog_next(). */
uint64_t fuselog_newest(const struct fuselog *log, const uint8_t **ret_data, size_t *ret_len);
/* The one that @unique names was answered. False: there is none. */
bool fuselog_drop(struct fuselog *log, uint64_t unique);
size_t fuselog_count(const struct fuselog *log);
