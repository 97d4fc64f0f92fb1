/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "keep.h"
#include "mounts_internal.h"

#define KEEP_FUSE "lima-fuse-" /* + number */
#define KEEP_LOG  "lima-fuselog-"

static char *keep_name(const char *prefix, unsigned number)
{
    return xasprintf("%s%u", prefix, number);
}

void mounts_keep(const struct mount *mount, void (*fn)(const char *name, int fd))
{
    scoped(free) char *fuse_name = keep_name(KEEP_FUSE, mount->number);
    scoped(free) char *log_name = keep_name(KEEP_LOG, mount->number);

    fn(fuse_name, fuse_fd(mount->fuse));
    fn(log_name, fuse_log_fd(mount->fuse));
}

void mounts_remove_kept(const char *name, int fd)
{
    keep_remove(name);
}

struct found {
    struct mounts *mounts;
    struct {
        unsigned number;
        int fuse_fd, log_fd;
    } items[MOUNTS_MAX];
    size_t count;
};

static void on_kept(const char *name, int take_fd, void *arg)
{
    struct found *found = arg;
    bool is_log = strncmp(name, KEEP_LOG, strlen(KEEP_LOG)) == 0;
    bool is_fuse = strncmp(name, KEEP_FUSE, strlen(KEEP_FUSE)) == 0;
    unsigned number = 0;
    size_t i = 0;

    if (is_log || is_fuse) {
        number = (unsigned)strtoul(name + strlen(is_log ? KEEP_LOG : KEEP_FUSE), NULL, 10);
    }
    while (i < found->count && found->items[i].number != number) {
        i++;
    }
    if (!number || i == MOUNTS_MAX) {
        fd_close(take_fd);
        return;
    }
    if (i == found->count) {
        found->items[found->count++] = (typeof(found->items[0])){number, -1, -1};
    }
    *(is_log ? &found->items[i].log_fd : &found->items[i].fuse_fd) = take_fd;
}

static void resume(struct mounts *mounts, unsigned number, int take_fuse_fd, int take_log_fd)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct fuselog *log;
    struct mount *mount;

    if (take_fuse_fd < 0 || take_log_fd < 0 || fuselog_open(take_log_fd, &log, &err) < 0) {
        log_warn("what the last process left of a mount is not whole, ignoring");
        fd_close(take_fuse_fd);
        return;
    }
    mount = mounts_new_one(mounts, fuselog_mount(log)->tag, fuselog_mount(log)->point);
    mounts->next_number = MAX(mounts->next_number, number);
    mount->number = number;
    mount->type = MOUNTPOINT_FUSE;
    mount->state = MOUNTS_STATE_MOUNTED;
    mount->fuse = fuse_resume(&(struct fuse_options){.loop = mounts->options.loop,
                                                     .children = mounts->options.children,
                                                     .ended = mounts_on_fuse_ended,
                                                     .arg = mount},
                              take_fuse_fd, log);
    log_info("going on with the mount at '%s'", mount->path);
}

/* Our own processes may be all that keeps one that was unmounted (replay.h). */

void mounts_resume_kept(struct mounts *mounts)
{
    struct found found = {.mounts = mounts};

    keep_take_all(on_kept, &found);
    for (size_t i = 0; i < found.count; i++) {
        resume(mounts, found.items[i].number, found.items[i].fuse_fd, found.items[i].log_fd);
    }
}
