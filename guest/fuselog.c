/* SPDX-License-Identifier: Apache-2.0 */
#include "fuselog.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "lima/mount.h"

#define MAGIC       "LIMAFLG1"
#define SMALL_SIZE  4096u
#define LARGE_SIZE  ((1u << 20) + 8192u)
#define SLOTS       (FUSELOG_SMALL + FUSELOG_LARGE)
#define SMALL_BEGIN 32768u
#define LARGE_BEGIN (SMALL_BEGIN + FUSELOG_SMALL * SMALL_SIZE)
#define SIZE        (LARGE_BEGIN + FUSELOG_LARGE * LARGE_SIZE)
#define SMALL_KEPT  16 /* slots whose memory is kept while they are free */

/*
 * A slot is free while @seq is 0. It gets its number before it is read into, with the request's own
 * length zeroed: what has a number and a length has a request.
 */
struct slot {
    uint64_t seq;
};

struct shared {
    char magic[8];
    uint64_t next_seq;
    struct fuselog_mount mount;
    struct slot slots[SLOTS];
};

struct fuselog {
    int fd;
    uint8_t *map;
    struct shared *shared; /* its beginning */
    size_t used;
    size_t small_used, large_used;
    uint64_t order[SLOTS]; /* (seq << 16 | slot) of those in use, oldest first */
};

_Static_assert(sizeof(struct shared) <= SMALL_BEGIN, "the head fits");

static uint8_t *data_of(const struct fuselog *log, size_t slot)
{
    return slot < FUSELOG_SMALL
               ? log->map + SMALL_BEGIN + slot * SMALL_SIZE
               : log->map + LARGE_BEGIN + (slot - FUSELOG_SMALL) * (size_t)LARGE_SIZE;
}

static const struct fuse_in_header *head_of(const struct fuselog *log, size_t slot)
{
    return (const struct fuse_in_header *)data_of(log, slot);
}

static void append(struct fuselog *log, size_t slot)
{
    log->order[log->used++] = log->shared->slots[slot].seq << 16 | slot;
    *(slot < FUSELOG_SMALL ? &log->small_used : &log->large_used) += 1;
}

static void release(struct fuselog *log, size_t slot)
{
    size_t begin = (size_t)(data_of(log, slot) - log->map);
    size_t size = slot < FUSELOG_SMALL ? SMALL_SIZE : LARGE_SIZE;

    log->shared->slots[slot].seq = 0;
    if (slot >= SMALL_KEPT && slot != FUSELOG_SMALL) {
        fallocate(log->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin, (off_t)size);
    }
}

static size_t find_free(const struct fuselog *log, size_t from, size_t to)
{
    while (from < to && log->shared->slots[from].seq) {
        from++;
    }
    return from;
}

static int map(struct fuselog *log, struct error *err)
{
    log->map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd, 0);
    if (log->map == MAP_FAILED) {
        log->map = NULL;
        return error_errno(err, errno, "mapping the log of a mount");
    }
    log->shared = (struct shared *)log->map;
    return 0;
}

int fuselog_new(const struct fuselog_mount *mount, struct fuselog **ret, struct error *err)
{
    scoped(fuselog_free) struct fuselog *log = xnew(struct fuselog);
    int r;

    log->fd = memfd_create("lima-mount", MFD_CLOEXEC);
    if (log->fd < 0 || ftruncate(log->fd, SIZE) < 0) {
        return error_errno(err, errno, "making the log of a mount");
    }
    r = map(log, err);
    if (r < 0) {
        return r;
    }
    log->shared->mount = *mount;
    log->shared->next_seq = 1;
    memcpy(log->shared->magic, MAGIC, sizeof(log->shared->magic));
    *ret = steal(log);
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

int fuselog_open(int take_fd, struct fuselog **ret, struct error *err)
{
    scoped(fuselog_free) struct fuselog *log = xnew(struct fuselog);
    struct stat st;
    int r;

    log->fd = take_fd;
    if (fstat(take_fd, &st) < 0 || st.st_size != SIZE) {
        return error_set(err, EBADMSG, "no log of a mount");
    }
    r = map(log, err);
    if (r < 0) {
        return r;
    }
    if (memcmp(log->shared->magic, MAGIC, sizeof(log->shared->magic)) != 0) {
        return error_set(err, EBADMSG, "no log of a mount");
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (log->shared->slots[i].seq && head_of(log, i)->len) {
            append(log, i);
        } else {
            log->shared->slots[i].seq = 0;
        }
    }
    qsort(log->order, log->used, sizeof(log->order[0]), compare);
    *ret = steal(log);
    return 0;
}

void fuselog_free(struct fuselog *log)
{
    if (log) {
        if (log->map) {
            munmap(log->map, SIZE);
        }
        fd_close(log->fd);
        free(log);
    }
}

int fuselog_fd(const struct fuselog *log)
{
    return log->fd;
}

const struct fuselog_mount *fuselog_mount(const struct fuselog *log)
{
    return &log->shared->mount;
}

bool fuselog_has_room(const struct fuselog *log)
{
    return log->small_used < FUSELOG_SMALL && log->large_used < FUSELOG_LARGE - 1;
}

/* Read into a large slot, since the kernel wants the room; little ones move. */
ssize_t fuselog_read(struct fuselog *log, int fuse_fd, pid_t replayer)
{
    size_t large = find_free(log, FUSELOG_SMALL, SLOTS);
    struct slot *slots = log->shared->slots;
    uint8_t *data = data_of(log, large);
    const uint16_t mark = LIMA_MOUNT_REPLAYED;
    size_t slot = large;
    ssize_t n;

    memset(data, 0, sizeof(struct fuse_in_header));
    slots[large].seq = log->shared->next_seq++;
    n = read(fuse_fd, data, LARGE_SIZE);
    if (n < (ssize_t)sizeof(struct fuse_in_header)) {
        slots[large].seq = 0;
        return n < 0 ? -errno : -EIO;
    }
    if (replayer && head_of(log, large)->pid == (uint32_t)replayer) {
        memcpy(data + LIMA_MOUNT_REPLAYED_OFFSET, &mark, sizeof(mark));
    }
    if ((size_t)n <= SMALL_SIZE) {
        slot = find_free(log, 0, FUSELOG_SMALL);
        memcpy(data_of(log, slot), data, (size_t)n);
        slots[slot].seq =
            slots[large].seq; /* for a moment both: the same request twice does not harm */
        slots[large].seq = 0;
    }
    append(log, slot);
    return n;
}

static uint64_t show(const struct fuselog *log, size_t at, const uint8_t **ret_data,
                     size_t *ret_len)
{
    *ret_data = data_of(log, log->order[at] & 0xffff);
    *ret_len = head_of(log, log->order[at] & 0xffff)->len;
    return log->order[at] >> 16;
}

uint64_t fuselog_next(const struct fuselog *log, uint64_t after, const uint8_t **ret_data,
                      size_t *ret_len)
{
    size_t low = 0, high = log->used;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (log->order[middle] >> 16 > after) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (low == log->used) {
        return 0;
    }
    return show(log, low, ret_data, ret_len);
}

uint64_t fuselog_newest(const struct fuselog *log, const uint8_t **ret_data, size_t *ret_len)
{
    return log->used ? show(log, log->used - 1, ret_data, ret_len) : 0;
}

bool fuselog_drop(struct fuselog *log, uint64_t unique)
{
    for (size_t i = 0; i < log->used; i++) {
        size_t slot = log->order[i] & 0xffff;

        if (head_of(log, slot)->unique == unique) {
            memmove(log->order + i, log->order + i + 1,
                    (log->used - i - 1) * sizeof(log->order[0]));
            log->used--;
            *(slot < FUSELOG_SMALL ? &log->small_used : &log->large_used) -= 1;
            release(log, slot);
            return true;
        }
    }
    return false;
}

size_t fuselog_count(const struct fuselog *log)
{
    return log->used;
}
