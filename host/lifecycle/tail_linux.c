/* SPDX-License-Identifier: Apache-2.0 */
/* inotify: one watch on the folder for the file's name, one on the file while it is open. */
#include "lifecycle/tail.h"

#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "util/path.h"
#include "util/strv.h"

struct lifecycle_tail {
    char *path;
    char *name; /* of the file in its folder */
    int notify_fd;
    int dir_watch;
    int file_watch; /* -1: none */
    int fd;         /* -1: the file is not there yet */
    struct loop_io *io;
    struct buf line;
    lifecycle_line_fn fn;
    void *arg;
};

static void put_bytes(struct lifecycle_tail *tail, const char *data, size_t len)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t part = end ? (size_t)(end - data) : len;

        if (buf_put(&tail->line, data, part) < 0) {
            log_trace("a line of '%s' is longer than %u bytes; ignoring the rest", tail->path,
                      LIFECYCLE_LINE_MAX);
        }
        if (!end) {
            return;
        }
        tail->fn(buf_str(&tail->line), tail->arg);
        buf_truncate(&tail->line, 0);
        data += part + 1;
        len -= part + 1;
    }
}

static void read_file(struct lifecycle_tail *tail)
{
    char chunk[16384];
    ssize_t n;

    while (tail->fd >= 0 && (n = read(tail->fd, chunk, sizeof(chunk))) != 0) {
        if (n > 0) {
            put_bytes(tail, chunk, (size_t)n);
        } else if (errno != EINTR) {
            log_debug("reading '%s': %s; ignoring", tail->path, strerror(errno));
            return;
        }
    }
}

static void close_file(struct lifecycle_tail *tail)
{
    if (tail->file_watch >= 0) {
        inotify_rm_watch(tail->notify_fd, tail->file_watch);
    }
    tail->file_watch = -1;
    fd_close(steal_fd(&tail->fd));
}

static void open_file(struct lifecycle_tail *tail)
{
    close_file(tail);
    tail->fd = open(tail->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (tail->fd >= 0) {
        tail->file_watch = inotify_add_watch(tail->notify_fd, tail->path, IN_MODIFY);
    }
}

void lifecycle_tail_drain(struct lifecycle_tail *tail)
{
    if (tail->fd < 0) {
        open_file(tail);
    }
    read_file(tail);
}

static void on_tail_readable(evutil_socket_t fd, short what, void *arg)
{
    struct lifecycle_tail *tail = arg;
    _Alignas(struct inotify_event) char events[4096];
    ssize_t n;

    while ((n = read((int)fd, events, sizeof(events))) > 0) {
        for (char *p = events; p < events + n;) {
            const struct inotify_event *event = (const struct inotify_event *)p;

            if (event->wd == tail->dir_watch && event->len > 0 && str_eq(event->name, tail->name)) {
                read_file(tail); /* the end of the file that is replaced */
                open_file(tail);
            }
            p += sizeof(*event) + event->len;
        }
    }
    read_file(tail);
}

int lifecycle_tail_new(struct loop *loop, const char *dir, const char *file, bool from_end,
                       lifecycle_line_fn fn, void *arg, struct lifecycle_tail **ret,
                       struct error *err)
{
    scoped(lifecycle_tail_free) struct lifecycle_tail *tail = xnew(struct lifecycle_tail);

    *tail = (struct lifecycle_tail){.path = path_join(dir, file),
                                    .name = xstrdup(file),
                                    .fd = -1,
                                    .file_watch = -1,
                                    .line = BUF_INIT_CAP(LIFECYCLE_LINE_MAX),
                                    .fn = fn,
                                    .arg = arg};
    tail->notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (tail->notify_fd < 0) {
        return error_errno(err, errno, "watching '%s'", tail->path);
    }
    tail->dir_watch = inotify_add_watch(tail->notify_fd, dir, IN_CREATE | IN_MOVED_TO);
    if (tail->dir_watch < 0) {
        return error_errno(err, errno, "watching '%s'", dir);
    }
    open_file(tail);
    if (tail->fd >= 0 && from_end) {
        lseek(tail->fd, 0, SEEK_END);
    }
    tail->io = loop_io_new(loop, tail->notify_fd, EV_READ, on_tail_readable, tail);
    *ret = steal(tail);
    return 0;
}

void lifecycle_tail_free(struct lifecycle_tail *tail)
{
    if (!tail) {
        return;
    }
    loop_io_free(tail->io);
    fd_close(tail->fd);
    fd_close(tail->notify_fd);
    buf_done(&tail->line);
    free(tail->path);
    free(tail->name);
    free(tail);
}
