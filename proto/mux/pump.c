/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A direction holds at most one piece: COPY_MAX bytes in @small (with or without a length before
 * them), and behind those PIPE_MAX bytes in the pipe. It reads on when both are out. The pipe is
 * there as long as full pieces come.
 */
#include "mux/pump.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "mux/direct.h"
#include "mux/frame.h"

#define COPY_MAX (16u << 10)
#define PIPE_MAX (64u << 10)
#define PIECES   4 /* of one direction, before the other and others get their turn */

static_assert(PIPE_MAX <= DIRECT_SEGMENT_MAX, "a piece is a segment");

struct direction {
    int from, to;
    uint8_t *small; /* allocated while bytes are in it */
    size_t small_at, small_len;
    int pipe[2]; /* -1: none */
    size_t piped;
    bool bulk;   /* full pieces come: splice */
    bool ended;  /* nothing more will be read */
    bool passed; /* and @to was told */
};

struct pump {
    struct direction out, in; /* plain to segmented, and back */
    bool opener;
    uint8_t head[DIRECT_SEGMENT_HEAD]; /* of the next segment that comes */
    size_t head_len;
    uint32_t left; /* bytes to come of the present one */
};

static struct direction direction_of(int from, int to)
{
    return (struct direction){.from = from, .to = to, .pipe = {-1, -1}};
}

struct pump *pump_new(int plain_fd, int segmented_fd, uint32_t segment_left, bool opener)
{
    struct pump *pump = xnew(struct pump);

    pump->out = direction_of(plain_fd, segmented_fd);
    pump->in = direction_of(segmented_fd, plain_fd);
    pump->left = segment_left;
    pump->opener = opener;
    return pump;
}

static void drop_pipe(struct direction *d)
{
    d->bulk = false;
    fd_close(d->pipe[0]);
    fd_close(d->pipe[1]);
    d->pipe[0] = d->pipe[1] = -1;
}

void pump_free(struct pump *pump)
{
    if (!pump) {
        return;
    }
    drop_pipe(&pump->out);
    drop_pipe(&pump->in);
    free(pump->out.small);
    free(pump->in.small);
    free(pump);
}

/* Without descriptors for a pipe it goes on by copying. */
static void want_bulk(struct direction *d, bool bulk)
{
    if (!bulk) {
        drop_pipe(d);
    } else if (!d->bulk && pipe2(d->pipe, O_CLOEXEC | O_NONBLOCK) == 0) {
        d->bulk = true;
    }
}

static uint8_t *small_room(struct direction *d)
{
    if (!d->small) {
        d->small = xmalloc(DIRECT_SEGMENT_HEAD + COPY_MAX);
    }
    d->small_at = 0;
    return d->small;
}

/* What is held goes out: 1 all of it, 0 @to takes no more, -errno. */
static int flush(struct direction *d)
{
    ssize_t n;

    while (d->small_len || d->piped) {
        if (d->small_len) {
            n = send(d->to, d->small + d->small_at, d->small_len,
                     MSG_NOSIGNAL | (d->piped ? MSG_MORE : 0));
        } else {
            n = splice(d->pipe[0], NULL, d->to, NULL, d->piped, SPLICE_F_NONBLOCK);
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? -EPIPE : errno == EAGAIN ? 0 : -errno;
        }
        if (d->small_len) {
            d->small_at += (size_t)n;
            d->small_len -= (size_t)n;
        } else {
            d->piped -= (size_t)n;
        }
    }
    return 1;
}

/* One read by either means: bytes, 0 end of file, -EAGAIN, -errno. */
static ssize_t read_piece(struct direction *d, uint8_t *small, size_t max)
{
    ssize_t n;

    do {
        n = d->bulk ? splice(d->from, NULL, d->pipe[1], NULL, MIN(max, (size_t)PIPE_MAX),
                             SPLICE_F_NONBLOCK | SPLICE_F_MOVE)
                    : recv(d->from, small, MIN(max, (size_t)COPY_MAX), 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void give_memory_back(struct direction *d)
{
    want_bulk(d, false);
    free(steal(d->small));
}

/* 1 something was taken, 0 nothing is there, -errno. */
static int take_plain(struct direction *d)
{
    uint8_t *small = small_room(d);
    bool bulk = d->bulk;
    ssize_t n = read_piece(d, small + DIRECT_SEGMENT_HEAD, PIPE_MAX);

    if (n == -EAGAIN) {
        give_memory_back(d);
        return 0;
    }
    if (n < 0) {
        return (int)n;
    }
    frame_put_u32(small, (uint32_t)n);
    d->small_len = DIRECT_SEGMENT_HEAD + (bulk ? 0 : (size_t)n);
    d->piped = bulk ? (size_t)n : 0;
    d->ended = n == 0;
    if (!bulk) {
        want_bulk(d, n == COPY_MAX);
    }
    return 1;
}

/* The length of the next segment. 1, 0, -errno. */
static int take_head(struct pump *pump)
{
    ssize_t n =
        recv(pump->in.from, pump->head + pump->head_len, sizeof(pump->head) - pump->head_len, 0);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        return -ECONNRESET;
    }
    pump->head_len += (size_t)n;
    if (pump->head_len < sizeof(pump->head)) {
        return 1;
    }
    pump->head_len = 0;
    pump->left = frame_get_u32(pump->head);
    pump->in.ended = pump->left == 0;
    want_bulk(&pump->in, pump->left > COPY_MAX);
    return pump->left <= DIRECT_SEGMENT_MAX ? 1 : -EPROTO;
}

static int take_segment(struct pump *pump)
{
    struct direction *d = &pump->in;
    bool bulk = d->bulk;
    ssize_t n = read_piece(d, bulk ? NULL : small_room(d), pump->left);

    if (n == -EAGAIN) {
        return 0;
    }
    if (n <= 0) {
        return n < 0 ? (int)n : -ECONNRESET;
    }
    pump->left -= (uint32_t)n;
    d->small_len = bulk ? 0 : (size_t)n;
    d->piped = bulk ? (size_t)n : 0;
    return 1;
}

static int run_out(struct pump *pump)
{
    struct direction *d = &pump->out;

    for (int i = 0; i < PIECES && !d->passed; i++) {
        int r = flush(d);

        if (r <= 0) {
            return r;
        }
        if (d->ended) { /* the segment that says so is out */
            d->passed = true;
            give_memory_back(d);
            break;
        }
        r = take_plain(d);
        if (r <= 0) {
            return r;
        }
    }
    return 0;
}

static int run_in(struct pump *pump)
{
    struct direction *d = &pump->in;

    /* An end is passed on in the turn that took it: no descriptor would tell of it again. */
    for (int i = 0; (i < 2 * PIECES || d->ended) && !d->passed; i++) {
        int r = flush(d);

        if (r <= 0) {
            return r;
        }
        if (d->ended) {
            d->passed = true;
            give_memory_back(d);
            shutdown(d->to, SHUT_WR);
            break;
        }
        r = pump->left ? take_segment(pump) : take_head(pump);
        if (r <= 0) {
            if (!pump->left) {
                give_memory_back(d);
            }
            return r;
        }
    }
    return 0;
}

/* The other side has said all: only the end of the connection can come. 1 it came, 0, -errno. */
static int await_end(const struct pump *pump)
{
    char byte;
    ssize_t n = recv(pump->in.from, &byte, 1, 0);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n > 0) {
        return -EPROTO;
    }
    return pump->out.passed ? 1 : -ECONNRESET;
}

int pump_run(struct pump *pump)
{
    int r = run_out(pump);

    if (r == 0) {
        r = run_in(pump);
    }
    if (r < 0 || !pump->in.passed) {
        return r;
    }
    return pump->out.passed && pump->opener ? 1 : await_end(pump);
}

struct pump_wants pump_wants(const struct pump *pump)
{
    bool out_holds = pump->out.small_len || pump->out.piped;
    bool in_holds = pump->in.small_len || pump->in.piped;

    return (struct pump_wants){
        .plain_in = !pump->out.ended && !out_holds,
        .segmented_out = out_holds,
        .segmented_in = !in_holds,
        .plain_out = in_holds,
    };
}
