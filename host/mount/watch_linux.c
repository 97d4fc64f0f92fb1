/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/statfs.h>
#include <unistd.h>
#include "base/alloc.h"
#include "mount/tree.h"

#define LIMIT_PATH "/proc/sys/fs/inotify/max_user_watches"
#define READ_SIZE  65536
#define NAMES      (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
#define GONE       (IN_DELETE_SELF | IN_UNMOUNT | IN_IGNORED)
#define MASK       (NAMES | IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_ONLYDIR)

struct watch {
    int fd;
    size_t count, max;
    bool closed;
    char *buf;
};

static size_t read_limit(void)
{
    scoped(fd_close) int fd = open(LIMIT_PATH, O_RDONLY | O_CLOEXEC);
    char text[32] = "";

    return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? strtoul(text, NULL, 10) : 8192;
}

struct watch *watch_new(unsigned share)
{
    struct watch *watch;
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

    if (fd < 0) {
        return NULL;
    }
    watch = xnew(struct watch);
    watch->fd = fd;
    watch->max = read_limit() / 100 * share;
    watch->buf = xmalloc(READ_SIZE);
    return watch;
}

void watch_free(struct watch *watch)
{
    if (watch) {
        close(watch->fd);
        free(watch->buf);
        free(watch);
    }
}

void watch_ask_closed(struct watch *watch, bool closed)
{
    watch->closed = closed;
}

int watch_fd(const struct watch *watch)
{
    return watch->fd;
}

/* What other machines do to these this one does not hear of (linux/magic.h and their sources). */
static bool is_shared(int fd)
{
    static const unsigned long shared[] = {
        NFS_SUPER_MAGIC,        SMB_SUPER_MAGIC,
        CODA_SUPER_MAGIC,       V9FS_MAGIC,
        AFS_SUPER_MAGIC,        0xff534d42 /* CIFS */,
        0xfe534d42 /* SMB2 */,  0x65735546 /* FUSE */,
        0x00c36400 /* Ceph */,  0x01161970 /* GFS2 */,
        0x7461636f /* OCFS2 */, 0x0bd00bd0 /* Lustre */,
    };
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
        if ((unsigned long)fs.f_type == shared[i]) {
            return true;
        }
    }
    return false;
}

int watch_add(struct watch *watch, int fd)
{
    char path[TREE_FD_PATH_MAX];
    int wd;

    if (watch->count >= watch->max) {
        return -ENOSPC;
    }
    if (is_shared(fd)) {
        return -EOPNOTSUPP;
    }
    tree_fd_path(fd, path);
    wd = inotify_add_watch(watch->fd, path, MASK | (watch->closed ? IN_CLOSE_WRITE : 0));
    if (wd < 0) {
        return -errno;
    }
    watch->count++;
    return wd;
}

void watch_remove(struct watch *watch, int wd)
{
    (void)inotify_rm_watch(watch->fd, wd); /* it may have gone with its folder */
    watch->count -= watch->count > 0;
}

static bool classify(const struct inotify_event *in, struct watch_event *ret)
{
    static const struct {
        uint32_t mask;
        enum watch_kind kind;
    } kinds[] = {{IN_CREATE, WATCH_MADE},           {IN_DELETE, WATCH_REMOVED},
                 {IN_MOVED_FROM, WATCH_MOVED_FROM}, {IN_MOVED_TO, WATCH_MOVED_TO},
                 {IN_MODIFY, WATCH_CONTENT},        {IN_CLOSE_WRITE, WATCH_CLOSED},
                 {IN_ATTRIB, WATCH_ATTRIBUTES}};
    size_t i = 0;

    *ret = (struct watch_event){.wd = in->wd,
                                .name = in->len ? in->name : "",
                                .is_dir = in->mask & IN_ISDIR,
                                .cookie = in->cookie};
    if (in->mask & IN_Q_OVERFLOW) {
        ret->kind = WATCH_OVERFLOW;
        return true;
    }
    if (in->mask & GONE) {
        ret->kind = WATCH_GONE;
        return !(in->mask & IN_IGNORED); /* comes behind each of the others, and behind our own */
    }
    while (i < ARRAY_LEN(kinds) && !(in->mask & kinds[i].mask)) {
        i++;
    }
    ret->kind = i < ARRAY_LEN(kinds) ? kinds[i].kind : WATCH_ATTRIBUTES;
    return i < ARRAY_LEN(kinds);
}

void watch_read(struct watch *watch, void (*fn)(const struct watch_event *event, void *arg),
                void *arg)
{
    ssize_t n;

    while ((n = read(watch->fd, watch->buf, READ_SIZE)) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *in = (const struct inotify_event *)(watch->buf + at);
            struct watch_event event;

            if (classify(in, &event)) {
                fn(&event, arg);
            }
            at += (ssize_t)(sizeof(*in) + in->len);
        }
    }
}
