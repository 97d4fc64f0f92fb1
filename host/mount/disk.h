/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and syncs that have to wait for the disk, done by threads of their own, so that they delay
 * nothing that can be answered at once. Jobs are done in any order. All of these functions belong
 * to one thread, that of the loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"
#include "base/macros.h"

#define DISK_THREADS  4
#define DISK_JOBS_MAX 16 /* at a time; each read has memory of its size */

enum disk_kind {
    DISK_READ,
    DISK_FSYNC,
    DISK_FDATASYNC,
};

struct disk_job {
    enum disk_kind kind;
    uint64_t id;   /* whose job it is, and which; the caller's */
    uint64_t node; /* the caller's */
    int fd;        /* owned by the job */
    size_t size;   /* to be read, at @offset */
    off_t offset;
    uint8_t *data; /* room for @size bytes, owned by the job; NULL: none are read */
    int result;    /* bytes read, all there are; or -errno */
};

void disk_job_free(struct disk_job *job);
SCOPED_PTR(struct disk_job, disk_job_free)

struct disk;

/* Without a thread, and so without room for a job. -errno. */
int disk_new(struct disk **ret, struct error *err);
/* Waits for what has been begun. */
void disk_free(struct disk *disk);
SCOPED_PTR(struct disk, disk_free)
/* Returns when the threads run, so that a system call filter may follow. -errno. */
int disk_start(struct disk *disk, struct error *err);
/* Readable: disk_take() has something. */
int disk_fd(const struct disk *disk);

/* A job more can be put. */
bool disk_has_room(struct disk *disk);
void disk_put(struct disk *disk, struct disk_job *take_job);
/* One that is done, for the caller to free; NULL: none is. */
struct disk_job *disk_take(struct disk *disk);

/*
 * Whoever asked for the jobs there are is gone, and may ask again: they go on, but are not taken
 * before disk_adopt() finds them by their id. They keep their places: a sync that failed would not
 * fail again.
 */
void disk_orphan(struct disk *disk);
/* True: the job of this id was orphaned, and will be taken after all. */
bool disk_adopt(struct disk *disk, uint64_t id);
/* Nobody will ask for the jobs there are. */
void disk_abandon(struct disk *disk);
