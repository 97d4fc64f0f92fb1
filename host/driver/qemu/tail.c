/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/tail.h"

#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define CHUNK      (16u << 10)
#define CHUNKS_MAX 64 /* in one go; others shall have their turn */

struct tail {
    int fd, inotify;
    off_t at;
    struct loop_io *io;
    struct loop_timer *more;
    tail_fn fn;
    void *arg;
    bool *alive; /* of the function that is calling back; NULL when none is */
};

void tail_free(struct tail *tail)
{
    if (!tail) {
        return;
    }
    if (tail->alive) {
        *tail->alive = false;
    }
    loop_timer_free(tail->more);
    loop_io_free(tail->io);
    fd_close(tail->inotify);
    fd_close(tail->fd);
    free(tail);
}

/* Bytes read at the present place, 0 at the end. */
static size_t read_chunk(struct tail *tail, char *data)
{
    struct stat st;
    ssize_t n;

    if (fstat(tail->fd, &st) == 0 && st.st_size < tail->at) {
        tail->at = 0;
    }
    n = pread(tail->fd, data, CHUNK, tail->at);
    if (n < 0) {
        log_debug("reading a console log: %s, ignoring", strerror(errno));
        return 0;
    }
    tail->at += n;
    return (size_t)n;
}

bool tail_flush(struct tail *tail)
{
    char data[CHUNK];
    bool alive = true;

    for (int i = 0; i < CHUNKS_MAX; i++) {
        size_t n = read_chunk(tail, data);

        if (n == 0) {
            return true;
        }
        tail->alive = &alive;
        tail->fn(data, n, tail->arg);
        if (!alive) {
            return false;
        }
        tail->alive = NULL;
    }
    loop_timer_set(tail->more, 0);
    return true;
}

static void on_tail_more(void *arg)
{
    tail_flush(arg);
}

static void on_tail_changed(evutil_socket_t fd, short what, void *arg)
{
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

    while (read(fd, events, sizeof(events)) > 0) {
        /* that something changed is all we want to know */
    }
    tail_flush(arg);
}

int tail_new(struct loop *loop, const char *path, bool from_end, tail_fn fn, void *arg,
             struct tail **ret, struct error *err)
{
    scoped(tail_free) struct tail *tail = xnew(struct tail);

    tail->fn = fn;
    tail->arg = arg;
    tail->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    tail->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (tail->fd < 0) {
        return error_errno(err, errno, "opening '%s'", path);
    }
    if (tail->inotify < 0 || inotify_add_watch(tail->inotify, path, IN_MODIFY) < 0) {
        return error_errno(err, errno, "watching '%s'", path);
    }
    tail->at = from_end ? lseek(tail->fd, 0, SEEK_END) : 0;
    tail->more = loop_timer_new(loop, on_tail_more, tail);
    tail->io = loop_io_new(loop, tail->inotify, EV_READ, on_tail_changed, tail);
    *ret = steal(tail);
    return 0;
}
