/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP/1.0 exchange by hand: the server is ours, the answer ends with the connection, and every
 * command that lists instances would otherwise load libcurl with its forty libraries, which takes
 * twice as long as all the rest of the command.
 */
#include "api/client.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/file.h"
#include "util/loop.h"

#define ANSWER_MAX (1u << 20)
#define CHUNK      16384

/* Waits for @events until @deadline. 0, -ETIMEDOUT or -errno. */
static int wait_fd(int fd, short events, int64_t deadline)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int64_t left = deadline - loop_now_ms();
        int n = left > 0 ? poll(&p, 1, (int)MIN(left, INT32_MAX)) : 0;

        if (n > 0) {
            return 0;
        }
        if (n == 0) {
            return -ETIMEDOUT;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

static int send_request(int fd, const char *resource, int64_t deadline)
{
    scoped(free) char *text = xasprintf(
        "GET %s HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n", resource);
    size_t done = 0, len = strlen(text);

    while (done < len) {
        ssize_t n = send(fd, text + done, len - done, MSG_NOSIGNAL);
        int r = 0;

        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) {
            r = wait_fd(fd, POLLOUT, deadline);
        } else if (errno != EINTR) {
            r = -errno;
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Reads to the end of the connection. */
static int receive_answer(int fd, struct buf *answer, int64_t deadline)
{
    for (;;) {
        char chunk[CHUNK];
        ssize_t n = recv(fd, chunk, sizeof(chunk), 0);
        int r = 0;

        if (n == 0) {
            return 0;
        }
        if (n > 0) {
            r = buf_put(answer, chunk, (size_t)n);
        } else if (errno == EAGAIN) {
            r = wait_fd(fd, POLLIN, deadline);
        } else if (errno != EINTR) {
            r = -errno;
        }
        if (r < 0) {
            return r;
        }
    }
}

static int parse_answer(const struct buf *answer, jv *ret, struct error *err)
{
    const char *text = buf_str(answer), *body = strstr(text, "\r\n\r\n");
    int status = 0, r;

    if (sscanf(text, "HTTP/1.%*1d %3d", &status) != 1 || !body) {
        return error_set(err, EPROTO, "the host agent's answer is not HTTP");
    }
    if (status != 200) {
        return error_set(err, EPROTO, "the host agent answered with status %d", status);
    }
    r = value_from_json(body + 4, ret, err);
    return r < 0 ? error_wrap(err, -EPROTO, "the host agent's answer") : 0;
}

int api_get(const char *path, const char *resource, int64_t timeout_ms, jv *ret, struct error *err)
{
    scoped(buf_done) struct buf answer = BUF_INIT_CAP(ANSWER_MAX);
    scoped(fd_close) int fd = -1;
    int64_t deadline = loop_now_ms() + timeout_ms;
    int r = file_connect_unix(path, &fd, err);

    if (r < 0) {
        return r;
    }
    fd_set_nonblock(fd);
    r = send_request(fd, resource, deadline);
    if (r == 0) {
        r = receive_answer(fd, &answer, deadline);
    }
    if (r < 0) {
        return error_errno(err, -r, "asking the host agent on '%s'", path);
    }
    return parse_answer(&answer, ret, err);
}
