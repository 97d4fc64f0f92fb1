/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads folders of a mount whole, so that the kernel's FUSE knows what is in them from few answers
 * (READDIRPLUS), where programs look up one name after the other. In a thread of its own, for the
 * process that gives notifications to the kernel: these need not wait for it, and what it asks for
 * is not taken for a replay.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include "lima/mount.h"

#define FOLDER_READER_MAX 16 /* folders that wait; more are not read */

struct folder_reader {
    const char *source, *path; /* of the mount; borrowed */
    bool started, failed;
    pthread_mutex_t lock; /* of the next three */
    pthread_cond_t some;
    struct lima_read waiting[FOLDER_READER_MAX];
    unsigned count;
};

/* @message: a whole LIMA_MOUNT_READ. @reader begins as zero but for the first two. */
void folder_reader_take(struct folder_reader *reader, const void *message, size_t len);
