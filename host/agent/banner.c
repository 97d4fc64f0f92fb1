/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/banner.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"

#define PAUSE_MIN_MS 250
#define PAUSE_MAX_MS 2000
#define PATIENCE_MS  20000 /* a slow guest may need long from accept to banner */

struct banner {
    struct loop *loop;
    int port;
    loop_fn fn;
    void *arg;
    int fd;
    struct loop_io *io;
    struct loop_timer *timer; /* pause between attempts, patience within one */
    int64_t pause_ms;
};

static void attempt_end(struct banner *b)
{
    loop_io_free(b->io);
    b->io = NULL;
    fd_close(b->fd);
    b->fd = -1;
}

static void attempt_later(struct banner *b)
{
    attempt_end(b);
    loop_timer_set(b->timer, b->pause_ms);
    b->pause_ms = MIN(b->pause_ms * 2, PAUSE_MAX_MS);
}

static void on_banner_readable(evutil_socket_t fd, short what, void *arg)
{
    struct banner *b = arg;
    char text[4];
    ssize_t n = recv(fd, text, sizeof(text), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n == sizeof(text) && memcmp(text, "SSH-", sizeof(text)) == 0) {
        attempt_end(b);
        loop_timer_set(b->timer, -1);
        b->fn(b->arg); /* may free b */
        return;
    }
    attempt_later(b);
}

static void attempt_begin(struct banner *b)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)b->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    b->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (b->fd < 0 || (connect(b->fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
                      errno != EINPROGRESS)) {
        attempt_later(b);
        return;
    }
    b->io = loop_io_new(b->loop, b->fd, EV_READ, on_banner_readable, b);
    loop_timer_set(b->timer, PATIENCE_MS);
}

static void on_banner_timer(void *arg)
{
    struct banner *b = arg;

    if (b->io) {
        attempt_later(b);
    } else {
        attempt_begin(b);
    }
}

struct banner *banner_new(struct loop *loop, int port, loop_fn fn, void *arg)
{
    struct banner *b = xnew(struct banner);

    b->loop = loop;
    b->port = port;
    b->fn = fn;
    b->arg = arg;
    b->fd = -1;
    b->pause_ms = PAUSE_MIN_MS;
    b->timer = loop_timer_new(loop, on_banner_timer, b);
    loop_timer_set(b->timer, PAUSE_MIN_MS);
    return b;
}

void banner_free(struct banner *b)
{
    if (b) {
        attempt_end(b);
        loop_timer_free(b->timer);
        free(b);
    }
}
