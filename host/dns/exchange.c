/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/exchange.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "dns/message.h"

#define PREFIX 2 /* bytes of the length by TCP */

struct exchange {
    enum exchange_way way;
    int fd;
    struct loop_io *io;
    uint8_t *query; /* the prefix, then the message */
    size_t len;     /* of both */
    size_t sent;    /* by TCP */
    struct buf in;  /* by TCP */
    exchange_fn done;
    void *arg;
};

static const uint8_t *message(const struct exchange *exchange)
{
    return exchange->query + PREFIX;
}

static bool matches(const struct exchange *exchange, const uint8_t *response, size_t len)
{
    return dns_response_matches(message(exchange), exchange->len - PREFIX, response, len);
}

/* --- UDP: the socket is connected, so the kernel lets nobody else's datagrams in --- */

static void on_udp_readable(evutil_socket_t fd, short what, void *arg)
{
    static uint8_t response[DNS_MESSAGE_MAX];
    struct exchange *exchange = arg;
    ssize_t n;

    while ((n = recv(fd, response, sizeof(response), 0)) >= 0) {
        if (matches(exchange, response, (size_t)n)) {
            exchange->done(response, (size_t)n, exchange->arg);
            return;
        }
        log_debug("a datagram that answers nothing, ignoring");
    }
    if (errno != EAGAIN && errno != EINTR) {
        exchange->done(NULL, 0, exchange->arg);
    }
}

static bool send_udp(struct exchange *exchange)
{
    size_t len = exchange->len - PREFIX;

    return send(exchange->fd, message(exchange), len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* --- TCP --- */

/* >0: all is written; 0: not yet; <0: it failed. */
static int write_some(struct exchange *exchange)
{
    ssize_t n = send(exchange->fd, exchange->query + exchange->sent, exchange->len - exchange->sent,
                     MSG_NOSIGNAL);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    exchange->sent += (size_t)n;
    return exchange->sent == exchange->len;
}

/* Bytes of the whole message, or 0 while it is not there. */
static size_t whole(const struct buf *in)
{
    const uint8_t *at = (const uint8_t *)in->data;
    size_t len = in->len < PREFIX ? 0 : (size_t)(at[0] << 8 | at[1]);

    return len && in->len - PREFIX >= len ? len : 0;
}

/* >0: the answer is complete; 0: not yet; <0: there will be none. */
static int read_some(struct exchange *exchange)
{
    struct buf *in = &exchange->in;
    ssize_t n = recv(exchange->fd, buf_reserve(in, 4096), 4096, 0);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    buf_commit(in, (size_t)n);
    if (whole(in)) {
        return matches(exchange, (const uint8_t *)in->data + PREFIX, whole(in)) ? 1 : -EBADMSG;
    }
    return n ? 0 : -ECONNRESET;
}

static void on_tcp_ready(evutil_socket_t fd, short what, void *arg)
{
    struct exchange *exchange = arg;
    int r;

    if (exchange->sent < exchange->len) {
        r = write_some(exchange);
        if (r > 0) {
            loop_io_want(exchange->io, EV_READ);
        }
    } else {
        r = read_some(exchange);
        if (r > 0) {
            exchange->done((const uint8_t *)exchange->in.data + PREFIX, whole(&exchange->in),
                           exchange->arg);
            return;
        }
    }
    if (r < 0) {
        exchange->done(NULL, 0, exchange->arg);
    }
}

/* --- both --- */

static bool begin(struct exchange *exchange, struct loop *loop, const struct dns_address *server)
{
    bool tcp = exchange->way == EXCHANGE_TCP;

    exchange->fd = socket(server->any.sa_family,
                          (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (exchange->fd < 0) {
        return false;
    }
    if (connect(exchange->fd, &server->any, server->len) < 0 && errno != EINPROGRESS) {
        return false;
    }
    if (tcp) {
        exchange->io = loop_io_new(loop, exchange->fd, EV_WRITE, on_tcp_ready, exchange);
        return true;
    }
    exchange->io = loop_io_new(loop, exchange->fd, EV_READ, on_udp_readable, exchange);
    return send_udp(exchange);
}

struct exchange *exchange_new(struct loop *loop, enum exchange_way way,
                              const struct dns_address *server, const uint8_t *query, size_t len,
                              exchange_fn done, void *arg)
{
    scoped(exchange_free) struct exchange *exchange = xnew(struct exchange);
    uint16_t id;

    *exchange = (struct exchange){.way = way,
                                  .fd = -1,
                                  .query = xmalloc(PREFIX + len),
                                  .len = PREFIX + len,
                                  .in = BUF_INIT_CAP(2 * DNS_MESSAGE_MAX),
                                  .done = done,
                                  .arg = arg};
    if (getrandom(&id, sizeof(id), 0) != sizeof(id)) {
        return NULL;
    }
    exchange->query[0] = (uint8_t)(len >> 8);
    exchange->query[1] = (uint8_t)len;
    memcpy(exchange->query + PREFIX, query, len);
    dns_set_id(exchange->query + PREFIX, id);
    if (!begin(exchange, loop, server)) {
        log_debug("a DNS server cannot be asked: %s, ignoring", strerror(errno));
        return NULL;
    }
    return steal(exchange);
}

void exchange_free(struct exchange *exchange)
{
    if (!exchange) {
        return;
    }
    loop_io_free(exchange->io);
    fd_close(exchange->fd);
    buf_done(&exchange->in);
    free(exchange->query);
    free(exchange);
}
