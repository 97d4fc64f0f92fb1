/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/greeter.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"

#define INPUT_MAX (GREETER_LINE_MAX + GREETING_LEN)

struct greeter {
    int fd;
    struct loop_io *io;
    struct loop_timer *patience;
    bool connected;
    bool line;
    struct greeter_keys keys;
    greeter_fn done;
    void *arg;
    uint8_t in[INPUT_MAX];
    size_t len;
};

/* Length of "OK DIGITS\n", 0: not complete, -EBADMSG. */
static int parse_line(const uint8_t *data, size_t len)
{
    static const char begin[] = {'O', 'K', ' '};
    size_t n = MIN(len, sizeof(begin));

    if (memcmp(data, begin, n) != 0) {
        return -EBADMSG;
    }
    for (; n < MIN(len, (size_t)GREETER_LINE_MAX); n++) {
        if (data[n] == '\n' && n > sizeof(begin)) {
            return (int)n + 1;
        }
        if (data[n] < '0' || data[n] > '9') {
            return -EBADMSG;
        }
    }
    return len >= GREETER_LINE_MAX ? -EBADMSG : 0;
}

int greeter_parse(bool line, const uint8_t *data, size_t len, const uint8_t key[GREETING_KEY_LEN])
{
    int n = line ? parse_line(data, len) : 0;

    if (n < 0 || (line && n == 0)) {
        return n;
    }
    if (len - (size_t)n < GREETING_LEN) {
        return 0;
    }
    if (len - (size_t)n > GREETING_LEN) {
        return -EBADMSG;
    }
    return greeting_check(data + n, key) ? 1 : -EACCES;
}

void greeter_free(struct greeter *greeter)
{
    if (!greeter) {
        return;
    }
    loop_io_free(greeter->io);
    loop_timer_free(greeter->patience);
    fd_close(greeter->fd);
    free(greeter);
}

static void finish(struct greeter *greeter, int r)
{
    greeter_fn done = greeter->done;
    void *arg = greeter->arg;
    int fd = -1;

    loop_io_free(steal(greeter->io));
    if (r == 0) {
        fd = steal_fd(&greeter->fd);
    }
    greeter_free(greeter);
    done(r, fd, arg);
}

static void on_patience_end(void *arg)
{
    finish(arg, -ETIMEDOUT);
}

/* 0, or -errno. */
static int greet(struct greeter *greeter)
{
    uint8_t out[GREETING_LEN];
    ssize_t n;

    greeting_make(out, greeter->keys.host);
    n = send(greeter->fd, out, sizeof(out), MSG_NOSIGNAL);
    if (n < 0) {
        return -errno;
    }
    return n == (ssize_t)sizeof(out) ? 0 : -EIO; /* nothing was sent before: there is room */
}

/* 1 done, 0 more is to come, -errno. */
static int take_input(struct greeter *greeter)
{
    ssize_t n = recv(greeter->fd, greeter->in + greeter->len, INPUT_MAX - greeter->len, 0);
    int r;

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        return -ECONNREFUSED;
    }
    greeter->len += (size_t)n;
    r = greeter_parse(greeter->line, greeter->in, greeter->len, greeter->keys.guest);
    if (r > 0) {
        r = greet(greeter);
        return r < 0 ? r : 1;
    }
    return r;
}

static int connect_result(const struct greeter *greeter)
{
    int code = 0;
    socklen_t len = sizeof(code);

    return getsockopt(greeter->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0 ? -errno : -code;
}

static void on_greeter_ready(evutil_socket_t fd, short what, void *arg)
{
    struct greeter *greeter = arg;
    int r;

    if (!greeter->connected) {
        r = connect_result(greeter);
        if (r < 0) {
            finish(greeter, r);
            return;
        }
        greeter->connected = true;
        loop_io_want(greeter->io, EV_READ);
        return;
    }
    r = take_input(greeter);
    if (r != 0) {
        finish(greeter, MIN(r, 0));
    }
}

struct greeter *greeter_new(struct loop *loop, int take_fd, bool line,
                            const struct greeter_keys *keys, greeter_fn done, void *arg)
{
    struct greeter *greeter = xnew(struct greeter);

    greeter->fd = take_fd;
    greeter->line = line;
    greeter->keys = *keys;
    greeter->done = done;
    greeter->arg = arg;
    greeter->io = loop_io_new(loop, take_fd, EV_WRITE, on_greeter_ready, greeter);
    greeter->patience = loop_timer_new(loop, on_patience_end, greeter);
    loop_timer_set(greeter->patience, GREETER_TIME_MS);
    return greeter;
}
