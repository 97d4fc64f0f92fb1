/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ways that cover each other: stat() sees that a path leads to another file by now, whatever
 * did that, but not a second write within one tick of the file system's clock; inotify on the file
 * itself sees every write. Both only look when asked, nothing runs in between.
 */
#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "dns/watch.h"

#define EVENTS (IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)

struct file {
    const char *path;
    struct stat st; /* zeroed: there was none */
    int wd;         /* -1: not watched */
};

struct dns_watch {
    int fd; /* -1: no inotify here */
    struct file files[DNS_WATCH_MAX];
    size_t count;
};

/* Takes the state of now as the one that is known. */
static void look(struct dns_watch *watch, struct file *file)
{
    int wd = watch->fd < 0 ? -1 : inotify_add_watch(watch->fd, file->path, EVENTS);

    if (wd != file->wd && file->wd >= 0) {
        inotify_rm_watch(watch->fd,
                         file->wd); /* of a file that has moved; fails for one that is gone */
    }
    file->wd = wd;
    if (stat(file->path, &file->st) < 0) {
        file->st = (struct stat){0};
    }
}

struct dns_watch *dns_watch_new(const char *const *paths, size_t count)
{
    struct dns_watch *watch = xnew(struct dns_watch);

    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->fd < 0) {
        log_debug("no inotify: %s, ignoring", strerror(errno));
    }
    watch->count = MIN(count, (size_t)DNS_WATCH_MAX);
    for (size_t i = 0; i < watch->count; i++) {
        watch->files[i] = (struct file){.path = paths[i], .wd = -1};
        look(watch, &watch->files[i]);
    }
    return watch;
}

void dns_watch_free(struct dns_watch *watch)
{
    if (watch) {
        fd_close(watch->fd);
        free(watch);
    }
}

static unsigned bit(size_t index)
{
    return 1u << index;
}

static unsigned files_of(const struct dns_watch *watch, const struct inotify_event *event)
{
    unsigned mask = 0;

    for (size_t i = 0; i < watch->count; i++) {
        if ((event->mask & IN_Q_OVERFLOW) || watch->files[i].wd == event->wd) {
            mask |= bit(i);
        }
    }
    return mask;
}

static unsigned read_events(struct dns_watch *watch)
{
    _Alignas(struct inotify_event) char events[4096];
    unsigned mask = 0;
    ssize_t n;

    while (watch->fd >= 0 && (n = read(watch->fd, events, sizeof(events))) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const void *)(events + at);

            mask |= files_of(watch, event);
            at += (ssize_t)(sizeof(*event) + event->len);
        }
    }
    return mask;
}

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

unsigned dns_watch_changed(struct dns_watch *watch)
{
    unsigned mask = read_events(watch);

    for (size_t i = 0; i < watch->count; i++) {
        struct stat st = {0};

        if (stat(watch->files[i].path, &st) < 0) {
            st = (struct stat){0};
        }
        if (!same(&st, &watch->files[i].st)) {
            mask |= bit(i);
        }
    }
    for (size_t i = 0; i < watch->count; i++) {
        if (mask & bit(i)) {
            look(watch, &watch->files[i]);
        }
    }
    return mask;
}
