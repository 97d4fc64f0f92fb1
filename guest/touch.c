/* SPDX-License-Identifier: Apache-2.0 */
#include "touch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "lima/touch.h"
#include "touching.h"
#include "wire.h"

struct touch {
    struct mux_stream *stream;
    struct loop_watch *watch;
    int fd;             /* the child has the other end */
    bool ready;         /* it has said so, and the call is answered */
    bool ended;         /* the host's direction */
    struct buf waiting; /* for the child; not consumed yet */
    struct child *child;
    char *path;
    struct touching about; /* for the child; its texts are not ours, but for the path */
};

static void touch_free(struct touch *touch)
{
    if (touch->child) {
        child_kill(touch->child, SIGKILL);
        child_forget(touch->child);
    }
    loop_watch_free(touch->watch);
    fd_close(touch->fd);
    buf_done(&touch->waiting);
    free(touch->path);
    free(touch);
}

static void wait_for(struct touch *touch)
{
    bool room = !touch->ready || mux_stream_room(touch->stream) > 0;

    loop_watch_set(touch->watch, (short)((room ? POLLIN : 0) | (touch->waiting.len ? POLLOUT : 0)));
}

/* False: the child is gone, and so is everything here. */
static bool feed(struct touch *touch)
{
    while (touch->waiting.len) {
        ssize_t n = send(touch->fd, touch->waiting.data, touch->waiting.len, MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            mux_stream_reset(touch->stream, MUX_RESET_CANCEL);
            touch_free(touch);
            return false;
        }
        if (n < 0) {
            break;
        }
        buf_drop(&touch->waiting, (size_t)n);
        mux_stream_consumed(touch->stream, (size_t)n);
    }
    return true;
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct touch *touch = arg;

    if (buf_put(&touch->waiting, data, len) < 0) { /* more than was granted */
        mux_stream_reset(stream, MUX_RESET_PROTOCOL);
        touch_free(touch);
        return;
    }
    if (feed(touch)) {
        wait_for(touch);
    }
}

/* The host's end is the end. */
static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    mux_stream_reset(stream, MUX_RESET_CANCEL);
    touch_free(arg);
}

static void on_stream_writable(struct mux_stream *stream, void *arg)
{
    wait_for(arg);
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    touch_free(arg);
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

/* The child's first byte. False: it cannot. */
static bool on_ready(struct touch *touch, uint8_t status)
{
    if (status) {
        rpc_refuse(touch->stream, status, NULL);
        touch_free(touch);
        return false;
    }
    if (!rpc_reply(touch->stream, 0, NULL)) {
        mux_stream_reset(touch->stream, MUX_RESET_REFUSED);
        touch_free(touch);
        return false;
    }
    touch->ready = true;
    return true;
}

static void on_child_answers(struct touch *touch)
{
    uint8_t bytes[LIMA_TOUCH_WINDOW];
    size_t room = touch->ready ? MIN(mux_stream_room(touch->stream), sizeof(bytes)) : 1;
    ssize_t n = room ? recv(touch->fd, bytes, room, 0) : -1;

    if (n > 0 && !touch->ready) {
        if (on_ready(touch, bytes[0])) {
            wait_for(touch);
        }
        return;
    }
    if (n > 0) {
        (void)mux_stream_write(touch->stream, bytes, (size_t)n); /* there is room */
    } else if (room && (n == 0 || (errno != EAGAIN && errno != EINTR))) {
        if (touch->ready) {
            rpc_end(touch->stream, NULL, NULL);
        } else {
            rpc_refuse(touch->stream, EIO, NULL);
        }
        touch_free(touch);
        return;
    }
    wait_for(touch);
}

static void on_child_ready(int fd, short revents, void *arg)
{
    struct touch *touch = arg;

    if (revents & POLLOUT && !feed(touch)) {
        return;
    }
    if (revents & (POLLIN | POLLHUP | POLLERR)) {
        on_child_answers(touch);
    } else {
        wait_for(touch);
    }
}

static void on_child_exited(int status, void *arg)
{
    struct touch *touch = arg;

    touch->child = NULL; /* what it has said last is still to be read */
}

static int start(struct touch *touch, const struct touch_service *service, struct error *err)
{
    int fds[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        return error_errno(err, errno, "opening a socket");
    }
    touch->fd = fds[0];
    touch->about.fd = fds[1];
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    r = child_start(service->children,
                    &(struct child_options){.run = touching_run,
                                            .keep_fd = fds[1],
                                            .exited = on_child_exited,
                                            .arg = &touch->about},
                    &touch->child, err);
    close(fds[1]);
    if (r == 0) {
        touch->watch = loop_watch_new(service->loop, touch->fd, POLLIN, on_child_ready, touch);
    }
    return r;
}

int touch_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    const struct touch_service *service = arg;
    lima_guest_v1_TouchRequest request = lima_guest_v1_TouchRequest_init_zero;
    struct mounts_device device;
    struct touch *touch;
    int r;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_TouchRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    if (!mounts_find_device(service->mounts, request.tag, &device)) {
        return error_set(err, ESTALE, "no such mount");
    }
    touch = xnew(struct touch);
    touch->fd = -1;
    touch->stream = call->stream;
    touch->waiting = BUF_INIT_CAP(MUX_WINDOW_MAX);
    touch->path = xstrdup(device.path);
    touch->about = (struct touching){device.tag, touch->path, device.type, -1};
    r = start(touch, service, err);
    if (r < 0) {
        touch_free(touch);
        return r;
    }
    mux_stream_set_ops(call->stream, &stream_ops, touch);
    if (call->rest_len) {
        on_stream_data(call->stream, call->rest, call->rest_len, touch);
    }
    return 0;
}
