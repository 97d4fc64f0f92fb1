/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/tcp.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "dns/message.h"
#include "dns/udp.h"

#define PREFIX         2
#define BACKLOG        64
#define READ_SIZE      16384
#define IN_MAX         (PREFIX + DNS_MESSAGE_MAX + READ_SIZE)
#define OUT_FULL       (256u << 10) /* no more queries are taken while so much waits to be read */
#define OUT_MAX        (1u << 20)   /* with answers to those that were taken; then it is closed */
#define ACCEPT_WAIT_MS 1000         /* without descriptors */

static_assert(OUT_FULL + PREFIX + DNS_MESSAGE_MAX <= OUT_MAX, "an answer at once fits");

struct dns_tcp_conn {
    struct dns_tcp *tcp;
    struct dns_tcp_conn *next, **link; /* newest first */
    int fd;
    struct loop_io *io;
    struct loop_timer *idle;
    struct buf in, out;
    unsigned pending; /* queries without an answer */
    bool ended;       /* the client sends no more */
};

struct dns_tcp {
    struct loop *loop;
    const struct dns_tcp_events *events;
    void *arg;
    int64_t idle_ms;
    int fd;
    uint16_t port;
    struct loop_io *io;
    struct loop_timer *accept_again;
    struct dns_tcp_conn *conns;
    size_t count;
    struct buf answer; /* of the query that is served now */
};

static void conn_close(struct dns_tcp_conn *conn)
{
    struct dns_tcp *tcp = conn->tcp;

    *conn->link = conn->next;
    if (conn->next) {
        conn->next->link = conn->link;
    }
    tcp->count--;
    tcp->events->closed(conn, tcp->arg);
    loop_io_free(conn->io);
    loop_timer_free(conn->idle);
    fd_close(conn->fd);
    buf_done(&conn->in);
    buf_done(&conn->out);
    free(conn);
}

static void on_conn_idle(void *arg)
{
    conn_close(arg);
}

static bool takes_more(const struct dns_tcp_conn *conn)
{
    return !conn->ended && conn->pending < DNS_TCP_PENDING_MAX && conn->out.len < OUT_FULL;
}

/* False when too much waits to be read already. */
static bool put_answer(struct dns_tcp_conn *conn, const void *data, size_t len)
{
    uint8_t prefix[PREFIX] = {(uint8_t)(len >> 8), (uint8_t)len};

    return buf_put(&conn->out, prefix, sizeof(prefix)) == 0 && buf_put(&conn->out, data, len) == 0;
}

static void serve_one(struct dns_tcp_conn *conn, size_t len)
{
    struct dns_tcp *tcp = conn->tcp;

    conn->pending++;
    tcp->events->query(conn, (const uint8_t *)conn->in.data + PREFIX, len, &tcp->answer, tcp->arg);
    if (tcp->answer.len) {
        conn->pending--;
        (void)put_answer(conn, tcp->answer.data, tcp->answer.len); /* takes_more(): it fits */
        buf_truncate(&tcp->answer, 0);
    }
    buf_drop(&conn->in, PREFIX + len);
}

/* Queries that are complete. False: what came is no DNS. */
static bool serve(struct dns_tcp_conn *conn)
{
    while (conn->in.len >= PREFIX && takes_more(conn)) {
        const uint8_t *at = (const uint8_t *)conn->in.data;
        size_t len = (size_t)(at[0] << 8 | at[1]);

        if (len < DNS_HEADER || (conn->in.len > PREFIX + 2 && (at[PREFIX + 2] & 0x80))) {
            return false; /* too short, or itself an answer: it would get none */
        }
        if (conn->in.len < PREFIX + len) {
            break;
        }
        serve_one(conn, len);
    }
    return true;
}

/* True as long as the connection is good. */
static bool conn_write(struct dns_tcp_conn *conn)
{
    while (conn->out.len) {
        ssize_t n = send(conn->fd, conn->out.data, conn->out.len, MSG_NOSIGNAL);

        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        buf_drop(&conn->out, (size_t)n);
        loop_timer_set(conn->idle, conn->tcp->idle_ms);
    }
    return true;
}

/* 0: nothing more for now; >0: something came; <0: it is over. */
static int conn_read(struct dns_tcp_conn *conn)
{
    void *room = buf_reserve(&conn->in, READ_SIZE);
    ssize_t n = room ? recv(conn->fd, room, READ_SIZE, 0) : -1;

    if (!room) {
        return -EMSGSIZE;
    }
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        conn->ended = true;
        return 0;
    }
    buf_commit(&conn->in, (size_t)n);
    loop_timer_set(conn->idle, conn->tcp->idle_ms);
    return 1;
}

/* After anything has happened: serves, writes, and says what is waited for. May free @conn. */
static void conn_go_on(struct dns_tcp_conn *conn)
{
    bool good = serve(conn) && conn_write(conn);

    /* Room in the output lets queries in that have been read already. */
    while (good && conn->out.len == 0 && takes_more(conn) && conn->in.len >= PREFIX) {
        size_t before = conn->in.len;

        good = serve(conn) && conn_write(conn);
        if (conn->in.len == before) {
            break;
        }
    }
    if (!good || (conn->ended && !conn->pending && !conn->out.len)) {
        conn_close(conn);
        return;
    }
    loop_io_want(conn->io,
                 (short)((takes_more(conn) ? EV_READ : 0) | (conn->out.len ? EV_WRITE : 0)));
}

static void on_conn_ready(evutil_socket_t fd, short what, void *arg)
{
    struct dns_tcp_conn *conn = arg;

    if (what & EV_READ) {
        if (conn_read(conn) < 0) {
            conn_close(conn);
            return;
        }
        conn->tcp->events->batch(conn->tcp->arg);
    }
    conn_go_on(conn);
}

void dns_tcp_answer(struct dns_tcp_conn *conn, const void *data, size_t len)
{
    conn->pending--;
    if (!put_answer(conn, data, len)) {
        conn_close(conn);
        return;
    }
    conn_go_on(conn);
}

/* The last of the list that owes nothing, or just the last. */
static struct dns_tcp_conn *most_idle(const struct dns_tcp *tcp)
{
    struct dns_tcp_conn *oldest = NULL;

    for (struct dns_tcp_conn *conn = tcp->conns; conn; conn = conn->next) {
        if (!oldest || !conn->pending || oldest->pending) {
            oldest = conn;
        }
    }
    return oldest;
}

static void add_conn(struct dns_tcp *tcp, int take_fd)
{
    struct dns_tcp_conn *conn = xnew(struct dns_tcp_conn);

    if (tcp->count == DNS_TCP_CONNS_MAX) {
        conn_close(most_idle(tcp));
    }
    *conn = (struct dns_tcp_conn){.tcp = tcp,
                                  .next = tcp->conns,
                                  .link = &tcp->conns,
                                  .fd = take_fd,
                                  .in = BUF_INIT_CAP(IN_MAX),
                                  .out = BUF_INIT_CAP(OUT_MAX)};
    if (conn->next) {
        conn->next->link = &conn->next;
    }
    tcp->conns = conn;
    tcp->count++;
    conn->io = loop_io_new(tcp->loop, take_fd, EV_READ, on_conn_ready, conn);
    conn->idle = loop_timer_new(tcp->loop, on_conn_idle, conn);
    loop_timer_set(conn->idle, tcp->idle_ms);
}

static void on_tcp_acceptable(evutil_socket_t fd, short what, void *arg)
{
    struct dns_tcp *tcp = arg;
    int conn_fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (conn_fd >= 0) {
        add_conn(tcp, conn_fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        log_debug("a DNS connection cannot be accepted: %s, retrying", strerror(errno));
        loop_io_want(tcp->io, 0);
        loop_timer_set(tcp->accept_again, ACCEPT_WAIT_MS);
    }
}

static void on_accept_time(void *arg)
{
    struct dns_tcp *tcp = arg;

    loop_io_want(tcp->io, EV_READ);
}

int dns_tcp_new(struct loop *loop, int64_t idle_ms, const struct dns_tcp_events *events, void *arg,
                struct dns_tcp **ret, struct error *err)
{
    scoped(dns_tcp_free) struct dns_tcp *tcp = xnew(struct dns_tcp);
    int r;

    *tcp =
        (struct dns_tcp){.loop = loop, .events = events, .arg = arg, .idle_ms = idle_ms, .fd = -1};
    r = dns_bind_loopback(SOCK_STREAM, &tcp->fd, &tcp->port, err);
    if (r < 0) {
        return r;
    }
    if (listen(tcp->fd, BACKLOG) < 0) {
        return error_errno(err, errno, "listening for DNS on port %u", tcp->port);
    }
    tcp->accept_again = loop_timer_new(loop, on_accept_time, tcp);
    tcp->io = loop_io_new(loop, tcp->fd, EV_READ, on_tcp_acceptable, tcp);
    *ret = steal(tcp);
    return 0;
}

void dns_tcp_free(struct dns_tcp *tcp)
{
    if (!tcp) {
        return;
    }
    while (tcp->conns) {
        conn_close(tcp->conns);
    }
    loop_io_free(tcp->io);
    loop_timer_free(tcp->accept_again);
    fd_close(tcp->fd);
    buf_done(&tcp->answer);
    free(tcp);
}

uint16_t dns_tcp_port(const struct dns_tcp *tcp)
{
    return tcp->port;
}
