/* SPDX-License-Identifier: Apache-2.0 */
#include "pathwatch.h"

#include <sys/inotify.h>
#include <unistd.h>
#include "base/alloc.h"

#define EVENTS      (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR)
#define BUFFER_SIZE 4096

struct pathwatch {
    int fd;
    struct loop_watch *watch;
    const char *const *folders;
    loop_fn *changed;
    void *arg;
};

static void watch_folders(struct pathwatch *watch)
{
    /* One that is watched already stays as it is; an absent one fails and is tried again later. */
    for (size_t i = 0; watch->folders[i]; i++) {
        inotify_add_watch(watch->fd, watch->folders[i], EVENTS);
    }
}

static void on_inotify_readable(int fd, short revents, void *arg)
{
    struct pathwatch *watch = arg;
    char events[BUFFER_SIZE];

    while (read(fd, events, sizeof(events)) > 0) {
    }
    watch_folders(watch);
    watch->changed(watch->arg);
}

int pathwatch_open(struct loop *loop, const char *const *folders, loop_fn *changed, void *arg,
                   struct pathwatch **ret, struct error *err)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    struct pathwatch *watch;

    if (fd < 0) {
        return error_errno(err, errno, "watching folders");
    }
    watch = xnew(struct pathwatch);
    *watch = (struct pathwatch){.fd = fd, .folders = folders, .changed = changed, .arg = arg};
    watch->watch = loop_watch_new(loop, fd, POLLIN, on_inotify_readable, watch);
    watch_folders(watch);
    *ret = watch;
    return 0;
}

void pathwatch_close(struct pathwatch *watch)
{
    if (!watch) {
        return;
    }
    loop_watch_free(watch->watch);
    fd_close(watch->fd);
    free(watch);
}
