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

#define ANSWER_MAX (4u << 20)
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

/* The request as text; @body is consumed. Caller frees. */
static char *format_request(const char *method, const char *resource, jv body)
{
    scoped(free) char *json = NULL;

    if (!jv_is_valid(body)) {
        jv_free(body);
        return xasprintf("%s %s HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n",
                         method, resource);
    }
    json = value_to_json(body, false);
    return xasprintf("%s %s HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     method, resource, strlen(json), json);
}

static int send_request(int fd, const char *text, int64_t deadline)
{
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

/* What an answer that is not 200 says for itself; @document is consumed. */
static int refused(int status, jv document, struct error *err)
{
    int code = status == 404 ? ESRCH : EPROTO;
    scoped(value_done) jv message = jv_invalid();
    scoped(value_done) jv hint = jv_invalid();

    if (jv_get_kind(document) != JV_KIND_OBJECT) {
        jv_free(document);
        return error_set(err, EPROTO, "the host agent answered with status %d", status);
    }
    message = jv_object_get(jv_copy(document), jv_string("message"));
    hint = jv_object_get(document, jv_string("hint"));
    if (jv_get_kind(message) != JV_KIND_STRING) {
        return error_set(err, EPROTO, "the host agent answered with status %d", status);
    }
    error_set(err, code, "%s", jv_string_value(message));
    if (jv_get_kind(hint) == JV_KIND_STRING) {
        error_hint(err, "%s", jv_string_value(hint));
    }
    return -code;
}

static int parse_answer(const struct buf *answer, jv *ret, struct error *err)
{
    const char *text = buf_str(answer), *body = strstr(text, "\r\n\r\n");
    jv document;
    int status = 0, r;

    if (sscanf(text, "HTTP/1.%*1d %3d", &status) != 1 || !body) {
        return error_set(err, EPROTO, "the host agent's answer is not HTTP");
    }
    r = value_from_json(body + 4, &document, err);
    if (r < 0) {
        return error_wrap(err, -EPROTO, "the host agent's answer");
    }
    if (status != 200) {
        return refused(status, document, err);
    }
    *ret = document;
    return 0;
}

int api_call(const char *path, const char *method, const char *resource, jv body,
             int64_t timeout_ms, jv *ret, struct error *err)
{
    scoped(buf_done) struct buf answer = BUF_INIT_CAP(ANSWER_MAX);
    scoped(free) char *request = format_request(method, resource, body);
    scoped(fd_close) int fd = -1;
    int64_t deadline = loop_now_ms() + timeout_ms;
    int r = file_connect_unix(path, &fd, err);

    if (r < 0) {
        return r;
    }
    fd_set_nonblock(fd);
    r = send_request(fd, request, deadline);
    if (r == 0) {
        r = receive_answer(fd, &answer, deadline);
    }
    if (r < 0) {
        return error_errno(err, -r, "asking the host agent on '%s'", path);
    }
    return parse_answer(&answer, ret, err);
}

int api_get(const char *path, const char *resource, int64_t timeout_ms, jv *ret, struct error *err)
{
    return api_call(path, "GET", resource, jv_invalid(), timeout_ms, ret, err);
}

static int begin_question(const struct api_question *question, int64_t deadline, int *ret_fd,
                          struct error *err)
{
    scoped(free) char *request = format_request("GET", question->resource, jv_invalid());
    scoped(fd_close) int fd = -1;
    int r = file_connect_unix(question->path, &fd, err);

    if (r < 0) {
        return r;
    }
    fd_set_nonblock(fd);
    r = send_request(fd, request, deadline);
    if (r < 0) {
        return error_errno(err, -r, "asking the host agent on '%s'", question->path);
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int end_question(struct api_question *question, int fd, int64_t deadline)
{
    scoped(buf_done) struct buf answer = BUF_INIT_CAP(ANSWER_MAX);
    int r = receive_answer(fd, &answer, deadline);

    if (r < 0) {
        return error_errno(&question->err, -r, "asking the host agent on '%s'", question->path);
    }
    return parse_answer(&answer, &question->answer, &question->err);
}

/* Who answers while we wait for another has it read without waiting, even behind the deadline. */
void api_get_all(struct api_question *questions, size_t count, int64_t timeout_ms)
{
    scoped(free) int *fds = xnew_n(int, count + 1);
    int64_t deadline = loop_now_ms() + timeout_ms;

    for (size_t i = 0; i < count; i++) {
        fds[i] = -1;
        questions[i].r = begin_question(&questions[i], deadline, &fds[i], &questions[i].err);
    }
    for (size_t i = 0; i < count; i++) {
        if (questions[i].r == 0) {
            questions[i].r = end_question(&questions[i], fds[i], deadline);
        }
        fd_close(fds[i]);
    }
}
