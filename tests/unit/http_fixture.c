/* SPDX-License-Identifier: Apache-2.0 */
#include "http_fixture.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"

static bool read_request(int fd, char *request, size_t size)
{
    size_t len = 0;

    while (len + 1 < size) {
        ssize_t n = recv(fd, request + len, size - 1 - len, 0);

        if (n <= 0) {
            return false;
        }
        len += (size_t)n;
        request[len] = '\0';
        if (strstr(request, "\r\n\r\n")) {
            return true;
        }
    }
    return false;
}

/* Value of a header, up to the end of its line; NULL if it is not there. Caller frees. */
static char *header(const char *request, const char *name)
{
    const char *at = strcasestr(request, name);

    at = at ? at + strlen(name) : NULL;
    return at ? xstrndup(at, strcspn(at, "\r")) : NULL;
}

static bool wants_rest(const struct http_fixture *s, const char *request, size_t *ret_start)
{
    scoped(free) char *range = header(request, "\r\nRange: bytes=");
    scoped(free) char *valid = header(request, "\r\nIf-Range: ");

    if (!range || s->no_range ||
        (valid && (!s->etag || strcmp(valid, s->etag) != 0) &&
         (!s->last_modified || strcmp(valid, s->last_modified) != 0))) {
        return false;
    }
    *ret_start = strtoul(range, NULL, 10);
    return true;
}

static void put_headers(const struct http_fixture *s, struct buf *out, int status, size_t start,
                        size_t len)
{
    buf_printf(out, "HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %zu\r\n", status, len);
    buf_puts(out, "Content-Type: application/octet-stream\r\n");
    if (s->etag) {
        buf_printf(out, "ETag: %s\r\n", s->etag);
    }
    if (s->last_modified) {
        buf_printf(out, "Last-Modified: %s\r\n", s->last_modified);
    }
    if (status == 206) {
        buf_printf(out, "Content-Range: bytes %zu-%zu/%zu\r\n", start, s->content_len - 1,
                   s->content_len);
    }
    buf_puts(out, "\r\n");
}

static void answer_get(struct http_fixture *s, const char *request, struct buf *out)
{
    size_t start = 0, len;
    bool rest = wants_rest(s, request, &start);

    s->gets++;
    s->last_start = start;
    if (s->status) {
        put_headers(s, out, s->status, 0, 5);
        buf_puts(out, "error");
        return;
    }
    if (rest && start >= s->content_len) {
        put_headers(s, out, 416, 0, 0);
        return;
    }
    start += rest && s->wrong_range && start > 0 ? -1 : 0;
    len = s->content_len - start;
    put_headers(s, out, rest ? 206 : 200, start, len);
    if (s->cut_after && s->cut_count > 0) {
        s->cut_count--;
        len = MIN(len, s->cut_after);
    }
    buf_put(out, s->content + start, len);
}

static void serve(struct http_fixture *s, int fd)
{
    char request[4096];
    scoped(buf_done) struct buf out = BUF_INIT;

    if (!read_request(fd, request, sizeof(request))) {
        return;
    }
    if (!strncmp(request, "HEAD ", 5)) {
        s->heads++;
        put_headers(s, &out, s->no_head ? 405 : s->status ? s->status : 200, 0, s->content_len);
    } else {
        answer_get(s, request, &out);
    }
    for (size_t done = 0; done < out.len;) {
        ssize_t n = send(fd, out.data + done, out.len - done, MSG_NOSIGNAL);

        if (n <= 0) {
            return;
        }
        done += (size_t)n;
    }
}

static void *http_fixture_run(void *arg)
{
    struct http_fixture *s = arg;
    int fd;

    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        serve(s, fd);
        close(fd);
    }
    return NULL;
}

void http_fixture_start(struct http_fixture *s)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&addr, len) < 0 || listen(s->fd, 16) < 0 ||
        getsockname(s->fd, (struct sockaddr *)&addr, &len) < 0 ||
        pthread_create(&s->thread, NULL, http_fixture_run, s) != 0) {
        perror("http_fixture");
        abort();
    }
    s->port = ntohs(addr.sin_port);
}

void http_fixture_stop(struct http_fixture *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

char *http_fixture_url(const struct http_fixture *s, const char *name)
{
    return xasprintf("http://127.0.0.1:%d/%s", s->port, name);
}
