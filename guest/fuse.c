/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>
#include "ahead.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "lima/mount.h"
#include "notifier.h"
#include "rpc.h"

#define DEVICE     "/dev/fuse"
#define ANSWER_MAX ((1u << 20) + 4096u)
#define READS_MAX  64 /* in one go */
#define HELD_MS    10 /* nobody waits for FORGET: it goes with the next request */
#define HELD_MAX   64

struct fuse {
    struct fuse_options options;
    int fd;
    struct loop_watch *watch;
    struct fuselog *log;
    struct mux_stream *stream; /* NULL: the host is not there */
    uint64_t sending;          /* number of the request on its way; 0: none */
    size_t sent;               /* bytes of it */
    uint64_t last;             /* the last one that was sent whole */
    uint64_t urgent;           /* the last one that is to be sent at once */
    struct loop_timer *held;   /* for those behind it */
    struct ahead *ahead;
    struct buf in; /* an answer that is not complete */
    struct notifier *notifier;
    uint64_t taken; /* notifications that the host has not been told of */
};

/* --- the kernel's requests, to the host --- */

/* Between requests. */
static void send_ack(struct fuse *fuse)
{
    struct {
        struct fuse_in_header head;
        uint64_t count;
    } ack = {.head = {.len = sizeof(ack), .opcode = LIMA_MOUNT_ACK}, .count = fuse->taken};

    if (fuse->taken && fuse->stream && !fuse->sending &&
        mux_stream_write_all(fuse->stream, &ack, sizeof(ack))) {
        fuse->taken = 0;
    }
}

static bool is_forget(const uint8_t *request)
{
    uint32_t opcode = ((const struct fuse_in_header *)request)->opcode;

    return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
}

/* False when the stream takes no more. */
static bool send_requests(struct fuse *fuse)
{
    const uint8_t *data;
    uint64_t seq;
    size_t len;

    send_ack(fuse);
    while ((seq = fuselog_next(fuse->log, fuse->last, &data, &len))) {
        if (seq > fuse->urgent) {
            if (!loop_timer_active(fuse->held)) {
                loop_timer_start(fuse->held, HELD_MS);
            }
            return true;
        }
        if (seq != fuse->sending) {
            fuse->sending = seq;
            fuse->sent = 0;
        }
        fuse->sent += mux_stream_write(fuse->stream, data + fuse->sent, len - fuse->sent);
        if (fuse->sent < len) {
            return false;
        }
        fuse->last = seq;
        fuse->sending = 0;
        send_ack(fuse);
    }
    return true;
}

static void watch_device(struct fuse *fuse, bool wanted)
{
    loop_watch_set(fuse->watch, wanted && fuselog_has_room(fuse->log) ? POLLIN : 0);
}

/* In good order: the host need not serve it any more. */
static void end_stream(struct fuse *fuse)
{
    struct mux_stream *stream = fuse->stream;

    if (stream) {
        fuse_detach(fuse);
        rpc_end(stream, NULL, NULL);
    }
}

static void on_held_due(void *arg)
{
    struct fuse *fuse = arg;
    const uint8_t *data;
    size_t len;

    fuse->urgent = fuselog_newest(fuse->log, &data, &len);
    if (fuse->stream) {
        watch_device(fuse, send_requests(fuse));
    }
}

/* One that was just read: answered at once, or to be sent. */
static void take_request(struct fuse *fuse)
{
    uint8_t answer[AHEAD_ANSWER_MAX];
    const uint8_t *data;
    size_t len;
    uint64_t seq = fuselog_newest(fuse->log, &data, &len);
    uint64_t unique = ((const struct fuse_in_header *)data)->unique;
    size_t n = ahead_answer(fuse->ahead, data, len, answer);

    if (n && write(fuse->fd, answer, n) >= 0) {
        fuselog_drop(fuse->log, unique);
    } else if (!is_forget(data) || fuselog_count(fuse->log) > HELD_MAX) {
        fuse->urgent = seq;
    }
}

static void on_device_readable(int fd, short revents, void *arg)
{
    struct fuse *fuse = arg;
    unsigned reads = 0;
    ssize_t n;

    do {
        n = fuselog_read(fuse->log, fd, notifier_pid(fuse->notifier));
        if (n > 0) {
            take_request(fuse);
        }
        n = n == -EINTR || n == -ENOENT ? 0 : n; /* a request that was taken back */
        /* Who works alone asks once at a time: a look for more would cost it time. */
    } while (n >= 0 && ++reads < READS_MAX && fuselog_count(fuse->log) > 1 &&
             fuselog_has_room(fuse->log));
    if (n < 0 && n != -EAGAIN) {
        log_debug("the mount at '%s' ends: %s", fuselog_mount(fuse->log)->point, strerror((int)-n));
        end_stream(fuse);
        fuse->options.ended(fuse, fuse->options.arg);
        return;
    }
    watch_device(fuse, fuse->stream && send_requests(fuse));
}

/* --- the host's answers, to the kernel --- */

/* One whole answer. The kernel knows best whether it is one; what it refuses is not ours to mend.
 */
static void answer(struct fuse *fuse, const uint8_t *data, size_t len)
{
    struct fuse_out_header head;

    memcpy(&head, data, sizeof(head));
    if (!head.unique && head.error == LIMA_MOUNT_AHEAD) {
        ahead_take(fuse->ahead, data, len);
        return;
    }
    if (!head.unique && head.error == LIMA_MOUNT_READ) {
        notifier_advise(fuse->notifier, data, len);
        return;
    }
    if (!head.unique) {
        notifier_send(fuse->notifier, data, len);
        return;
    }
    if (!fuselog_drop(fuse->log, head.unique) || len < sizeof(head)) {
        return;
    }
    if (write(fuse->fd, data, len) < 0 && errno != ENOENT) { /* ENOENT: FORGET, or nobody waits */
        log_debug("an answer for '%s': %s", fuselog_mount(fuse->log)->point, strerror(errno));
        head = (struct fuse_out_header){.len = sizeof(head), .error = -EIO, .unique = head.unique};
        (void)!write(fuse->fd, &head, sizeof(head));
    }
}

/* Length of the answer that begins at @data, 0 for not yet, -EBADMSG. */
static int answer_len(const uint8_t *data, size_t len)
{
    struct fuse_out_header head;

    if (len < sizeof(head)) {
        return 0;
    }
    memcpy(&head, data, sizeof(head));
    return head.len < sizeof(head) || head.len > ANSWER_MAX ? -EBADMSG : (int)head.len;
}

/* Takes whole answers off the front of @data; how many bytes that were, or -EBADMSG. */
static ssize_t take_answers(struct fuse *fuse, const uint8_t *data, size_t len)
{
    size_t at = 0;

    for (;;) {
        int one = answer_len(data + at, len - at);

        if (one < 0) {
            return one;
        }
        if (!one || (size_t)one > len - at) {
            return (ssize_t)at;
        }
        answer(fuse, data + at, (size_t)one);
        at += (size_t)one;
    }
}

static ssize_t take_data(struct fuse *fuse, const uint8_t *data, size_t len)
{
    ssize_t n = fuse->in.len ? 0 : take_answers(fuse, data, len);

    if (n < 0) {
        return n;
    }
    buf_put(&fuse->in, data + n, len - (size_t)n);
    if (n > 0 || !fuse->in.len) {
        return 0;
    }
    n = take_answers(fuse, (const uint8_t *)fuse->in.data, fuse->in.len);
    if (n > 0) {
        buf_drop(&fuse->in, (size_t)n);
    }
    return MIN(n, 0);
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct fuse *fuse = arg;

    if (take_data(fuse, data, len) < 0) {
        log_warn("the host's answers for '%s' make no sense, waiting for others",
                 fuselog_mount(fuse->log)->point);
        fuse_detach(fuse);
        mux_stream_reset(stream, MUX_RESET_PROTOCOL);
        return;
    }
    mux_stream_consumed(stream, len);
    watch_device(fuse, send_requests(fuse));
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    fuse_detach(arg);
    mux_stream_reset(stream, MUX_RESET_CANCEL);
}

static void on_stream_writable(struct mux_stream *stream, void *arg)
{
    struct fuse *fuse = arg;

    watch_device(fuse, send_requests(fuse));
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    fuse_detach(arg);
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

static void on_notifications_taken(unsigned count, void *arg)
{
    struct fuse *fuse = arg;

    fuse->taken += count;
    send_ack(fuse);
}

/* --- life --- */

static struct fuse *fuse_with(const struct fuse_options *options, int fd, struct fuselog *log)
{
    struct fuse *fuse = xnew(struct fuse);

    fuse->options = *options;
    fuse->fd = fd;
    fuse->log = log;
    fuse->in = BUF_INIT;
    fuse->notifier = notifier_new(options->loop, options->children, fd, fuselog_mount(log),
                                  on_notifications_taken, fuse);
    fuse->ahead = ahead_new();
    fuse->held = loop_timer_new(options->loop, on_held_due, fuse);
    fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    fuse->watch = loop_watch_new(options->loop, fd, 0, on_device_readable, fuse);
    return fuse;
}

int fuse_new(const struct fuse_options *options, const struct fuselog_mount *mount,
             struct fuse **ret, struct error *err)
{
    scoped(fd_close) int fd = open(DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct fuselog *log;
    int r;

    if (fd < 0) {
        error_errno(err, errno, "opening '" DEVICE "'");
        return error_hint(err, "The guest's kernel needs FUSE (CONFIG_FUSE_FS).");
    }
    r = fuselog_new(mount, &log, err);
    if (r < 0) {
        return r;
    }
    *ret = fuse_with(options, steal_fd(&fd), log);
    return 0;
}

struct fuse *fuse_resume(const struct fuse_options *options, int take_fd, struct fuselog *take_log)
{
    return fuse_with(options, take_fd, take_log);
}

void fuse_free(struct fuse *fuse)
{
    if (fuse) {
        if (fuse->stream) {
            mux_stream_reset(fuse->stream, MUX_RESET_CANCEL);
        }
        notifier_free(fuse->notifier);
        loop_timer_free(fuse->held);
        ahead_free(fuse->ahead);
        loop_watch_free(fuse->watch);
        fd_close(fuse->fd);
        fuselog_free(fuse->log);
        buf_done(&fuse->in);
        free(fuse);
    }
}

int fuse_fd(const struct fuse *fuse)
{
    return fuse->fd;
}

int fuse_log_fd(const struct fuse *fuse)
{
    return fuselog_fd(fuse->log);
}

const struct fuselog_mount *fuse_mount(const struct fuse *fuse)
{
    return fuselog_mount(fuse->log);
}

/* Says what we can. Without room for it, it is as if we could not. */
static void send_hello(struct mux_stream *stream)
{
    const struct {
        struct fuse_in_header head;
        uint64_t count, can;
    } hello = {.head = {.len = sizeof(hello), .opcode = LIMA_MOUNT_ACK},
               .can = LIMA_MOUNT_CAN_AHEAD | LIMA_MOUNT_CAN_READ};

    (void)mux_stream_write_all(stream, &hello, sizeof(hello));
}

void fuse_attach(struct fuse *fuse, struct mux_stream *stream)
{
    struct mux_stream *older = fuse->stream;
    const uint8_t *data;
    size_t len;

    if (older) {
        fuse_detach(fuse);
        mux_stream_reset(older, MUX_RESET_CANCEL);
    }
    fuse->stream = stream;
    mux_stream_set_ops(stream, &stream_ops, fuse);
    send_hello(stream);
    fuse->urgent = fuselog_newest(fuse->log, &data, &len);
    watch_device(fuse, send_requests(fuse));
}

bool fuse_is_held(const struct fuse *fuse)
{
    return notifier_pid(fuse->notifier) != 0;
}

void fuse_let_go(struct fuse *fuse)
{
    notifier_let_go(fuse->notifier);
}

void fuse_detach(struct fuse *fuse)
{
    fuse->stream = NULL;
    fuse->sending = fuse->last = 0;
    fuse->sent = 0;
    fuse->taken = 0; /* the next connection counts anew */
    ahead_clear(fuse->ahead);
    loop_timer_stop(fuse->held);
    buf_done(&fuse->in);
    fuse->in = BUF_INIT;
    watch_device(fuse, false);
}
