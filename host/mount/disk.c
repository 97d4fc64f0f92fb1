/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/disk.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/file.h"

#define STACK_SIZE MAX((size_t)PTHREAD_STACK_MIN, (size_t)64 << 10)

enum state {
    WAITING,
    RUNNING,
    DONE,
};

/* A place of a job; free while @job is NULL. */
struct place {
    struct disk_job *job;
    enum state state;
    uint64_t seq; /* the oldest goes first */
    bool orphan;
    bool abandoned;
};

struct disk {
    pthread_mutex_t lock; /* of everything below, but for @fd and @threads */
    pthread_cond_t work;  /* something waits, or it is time to end */
    pthread_cond_t up;    /* one more thread runs */
    struct place places[DISK_JOBS_MAX];
    uint64_t seq;
    unsigned running;
    bool ending;

    int fd;
    pthread_t threads[DISK_THREADS];
    unsigned thread_count;
};

void disk_job_free(struct disk_job *job)
{
    if (job) {
        fd_close(job->fd);
        free(job->data);
        free(job);
    }
}

/* --- the threads --- */

static int read_all(const struct disk_job *job)
{
    size_t done = 0;

    while (done < job->size) {
        ssize_t n = pread(job->fd, job->data + done, job->size - done, job->offset + (off_t)done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return done > 0 ? (int)done : -errno;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (int)done;
}

static int run(const struct disk_job *job)
{
    switch (job->kind) {
    case DISK_READ:
        return read_all(job);
    case DISK_FSYNC:
        return fsync(job->fd) < 0 ? -errno : 0;
    case DISK_FDATASYNC:
        return fdatasync(job->fd) < 0 ? -errno : 0;
    }
    return -EINVAL;
}

/* The oldest place in @state that @adopted allows; NULL: none. */
static struct place *oldest(struct disk *disk, enum state state, bool adopted)
{
    struct place *found = NULL;

    for (size_t i = 0; i < DISK_JOBS_MAX; i++) {
        struct place *place = &disk->places[i];

        if (place->job && place->state == state && !(adopted && place->orphan) &&
            (!found || place->seq < found->seq)) {
            found = place;
        }
    }
    return found;
}

static void tell(const struct disk *disk)
{
    const uint64_t one = 1;
    ssize_t n = write(disk->fd, &one, sizeof(one)); /* fails when it is full, which tells as well */

    (void)n;
}

static void *work(void *arg)
{
    struct disk *disk = arg;
    struct place *place;

    pthread_mutex_lock(&disk->lock);
    disk->running++;
    pthread_cond_signal(&disk->up);
    while (!disk->ending) {
        place = oldest(disk, WAITING, false);
        if (!place) {
            pthread_cond_wait(&disk->work, &disk->lock);
            continue;
        }
        place->state = RUNNING;
        pthread_mutex_unlock(&disk->lock);
        place->job->result = run(place->job);
        pthread_mutex_lock(&disk->lock);
        place->state = DONE;
        tell(disk);
    }
    pthread_mutex_unlock(&disk->lock);
    return NULL;
}

/* --- the loop's side --- */

static struct disk_job *vacate(struct place *place)
{
    struct disk_job *job = place->job;

    *place = (struct place){0};
    return job;
}

int disk_new(struct disk **ret, struct error *err)
{
    scoped(disk_free) struct disk *disk = xnew(struct disk);

    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->work, NULL);
    pthread_cond_init(&disk->up, NULL);
    disk->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (disk->fd < 0) {
        return error_errno(err, errno, "making an event descriptor");
    }
    *ret = steal(disk);
    return 0;
}

int disk_start(struct disk *disk, struct error *err)
{
    pthread_attr_t attr;
    int r = 0;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    while (r == 0 && disk->thread_count < DISK_THREADS) {
        r = pthread_create(&disk->threads[disk->thread_count], &attr, work, disk);
        disk->thread_count += r == 0;
    }
    pthread_attr_destroy(&attr);
    pthread_mutex_lock(&disk->lock);
    while (disk->running < disk->thread_count) {
        pthread_cond_wait(&disk->up, &disk->lock);
    }
    pthread_mutex_unlock(&disk->lock);
    return r ? error_errno(err, r, "starting a thread") : 0;
}

void disk_free(struct disk *disk)
{
    if (!disk) {
        return;
    }
    pthread_mutex_lock(&disk->lock);
    disk->ending = true;
    pthread_cond_broadcast(&disk->work);
    pthread_mutex_unlock(&disk->lock);
    for (unsigned i = 0; i < disk->thread_count; i++) {
        pthread_join(disk->threads[i], NULL);
    }
    for (size_t i = 0; i < DISK_JOBS_MAX; i++) {
        disk_job_free(disk->places[i].job);
    }
    pthread_cond_destroy(&disk->up);
    pthread_cond_destroy(&disk->work);
    pthread_mutex_destroy(&disk->lock);
    fd_close(disk->fd);
    free(disk);
}

int disk_fd(const struct disk *disk)
{
    return disk->fd;
}

/* A free one; NULL: there is none. */
static struct place *find_room(struct disk *disk)
{
    for (size_t i = 0; i < DISK_JOBS_MAX; i++) {
        if (!disk->places[i].job) {
            return &disk->places[i];
        }
    }
    return NULL;
}

bool disk_has_room(struct disk *disk)
{
    bool any;

    if (!disk->thread_count) {
        return false;
    }
    pthread_mutex_lock(&disk->lock);
    any = find_room(disk);
    pthread_mutex_unlock(&disk->lock);
    return any;
}

void disk_put(struct disk *disk, struct disk_job *take_job)
{
    pthread_mutex_lock(&disk->lock);
    *find_room(disk) = (struct place){.job = take_job, .state = WAITING, .seq = ++disk->seq};
    pthread_cond_signal(&disk->work);
    pthread_mutex_unlock(&disk->lock);
}

struct disk_job *disk_take(struct disk *disk)
{
    struct disk_job *job = NULL;
    struct place *place;
    uint64_t count;
    ssize_t n;

    pthread_mutex_lock(&disk->lock);
    while ((place = oldest(disk, DONE, true)) && place->abandoned) {
        disk_job_free(vacate(place));
    }
    if (place) {
        job = vacate(place);
    } else {
        n = read(disk->fd, &count, sizeof(count)); /* under the lock: nothing told is missed */
        (void)n;
    }
    pthread_mutex_unlock(&disk->lock);
    return job;
}

void disk_orphan(struct disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    for (size_t i = 0; i < DISK_JOBS_MAX; i++) {
        disk->places[i].orphan = disk->places[i].job && !disk->places[i].abandoned;
    }
    pthread_mutex_unlock(&disk->lock);
}

bool disk_adopt(struct disk *disk, uint64_t id)
{
    bool found = false;

    pthread_mutex_lock(&disk->lock);
    for (size_t i = 0; i < DISK_JOBS_MAX && !found; i++) {
        struct place *place = &disk->places[i];

        if (place->orphan && place->job->id == id) {
            place->orphan = false;
            found = true;
            if (place->state == DONE) {
                tell(disk);
            }
        }
    }
    pthread_mutex_unlock(&disk->lock);
    return found;
}

void disk_abandon(struct disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    for (size_t i = 0; i < DISK_JOBS_MAX; i++) {
        struct place *place = &disk->places[i];

        if (place->job && place->state != RUNNING) {
            disk_job_free(vacate(place));
        }
        place->abandoned = place->job;
        place->orphan = false;
    }
    pthread_mutex_unlock(&disk->lock);
}
