/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_upstream.h"

#include <arpa/inet.h>
#include <ldns/ldns.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"

#define LONG_STRINGS 12
#define CONNS_MAX    64

struct conn {
    struct dns_upstream *up;
    int fd; /* -1: free */
    struct loop_io *io;
};

struct dns_upstream {
    struct loop *loop;
    int udp, tcp;
    uint16_t port;
    struct loop_io *udp_io, *tcp_io;
    struct conn conns[CONNS_MAX];
    unsigned udp_count, tcp_count;
};

static const struct {
    ldns_rr_type type;
    const char *data;
} records[] = {
    {LDNS_RR_TYPE_A, "A 10.20.30.40"},
    {LDNS_RR_TYPE_AAAA, "AAAA fd00::99"},
    {LDNS_RR_TYPE_TXT, "TXT \"some text\""},
    {LDNS_RR_TYPE_SRV, "SRV 1 2 443 target.example."},
    {LDNS_RR_TYPE_MX, "MX 10 mail.example."},
    {LDNS_RR_TYPE_HTTPS, "HTTPS 1 . alpn=h2"},
    {LDNS_RR_TYPE_CNAME, "CNAME other.example."},
};

static bool starts(const char *name, const char *label)
{
    return strncmp(name, label, strlen(label)) == 0;
}

static void add(ldns_pkt *packet, const char *name, const char *data)
{
    scoped(free) char *text = xasprintf("%s 77 IN %s", name, data);
    ldns_rr *rr = NULL;

    if (ldns_rr_new_frm_str(&rr, text, 0, NULL, NULL) == LDNS_STATUS_OK) {
        ldns_pkt_push_rr(packet, LDNS_SECTION_ANSWER, rr);
    }
}

static void add_long(ldns_pkt *packet, const char *name)
{
    char data[8 + 255] = "TXT ";

    for (int i = 0; i < LONG_STRINGS; i++) {
        memset(data + 4, 'a' + i, 250);
        data[254] = '\0';
        add(packet, name, data);
    }
}

static void fill(ldns_pkt *packet, const char *name, ldns_rr_type type, bool by_tcp)
{
    if (starts(name, "refused")) {
        ldns_pkt_set_rcode(packet, LDNS_RCODE_REFUSED);
    } else if (starts(name, "long") && !by_tcp) {
        ldns_pkt_set_tc(packet, true);
    } else if (starts(name, "long")) {
        add_long(packet, name);
    } else {
        for (size_t i = 0; i < ARRAY_LEN(records); i++) {
            if (records[i].type == type) {
                add(packet, name, records[i].data);
            }
        }
    }
}

/* Appends the answer; false: none is given. */
static bool answer(const uint8_t *wire, size_t len, bool by_tcp, struct buf *out)
{
    scoped(free) char *name = NULL;
    ldns_pkt *packet = NULL;
    const ldns_rr *question;
    uint8_t *answer_wire = NULL;
    size_t answer_len = 0;

    if (ldns_wire2pkt(&packet, wire, len) != LDNS_STATUS_OK) {
        return false;
    }
    question = ldns_rr_list_rr(ldns_pkt_question(packet), 0);
    name = ldns_rdf2str(ldns_rr_owner(question));
    if (!starts(name, "mute") && !(starts(name, "silent") && !by_tcp)) {
        ldns_pkt_set_qr(packet, true);
        fill(packet, name, ldns_rr_get_type(question), by_tcp);
        ldns_pkt2wire(&answer_wire, packet, &answer_len);
        buf_put(out, answer_wire, answer_len);
    }
    ldns_pkt_free(packet);
    free(answer_wire);
    return answer_len;
}

/* Once with another id, once with another name, once cut short. */
static void send_forgeries(int fd, const struct buf *good, const struct sockaddr_in *peer)
{
    const struct sockaddr *to = (const struct sockaddr *)peer;
    scoped(buf_done) struct buf bad = BUF_INIT;

    buf_put(&bad, good->data, good->len);
    bad.data[1] ^= 1;
    sendto(fd, bad.data, bad.len, 0, to, sizeof(*peer));
    bad.data[1] ^= 1;
    bad.data[13] ^= 1;
    sendto(fd, bad.data, bad.len, 0, to, sizeof(*peer));
    sendto(fd, good->data, 20, 0, to, sizeof(*peer));
}

static void on_udp(evutil_socket_t fd, short what, void *arg)
{
    struct dns_upstream *up = arg;
    scoped(buf_done) struct buf out = BUF_INIT;
    struct sockaddr_in peer;
    socklen_t peer_len = sizeof(peer);
    uint8_t query[4096];
    ssize_t n = recvfrom(fd, query, sizeof(query), 0, (struct sockaddr *)&peer, &peer_len);

    up->udp_count++;
    if (n > 0 && answer(query, (size_t)n, false, &out)) {
        if (starts((char *)query + 13, "forged")) {
            send_forgeries(fd, &out, &peer);
        }
        sendto(fd, out.data, out.len, 0, (struct sockaddr *)&peer, peer_len);
    }
}

static void close_conn(struct conn *conn)
{
    if (conn->io) {
        loop_io_free(steal(conn->io));
        close(conn->fd);
    }
}

/* One query a connection, which comes in one piece on the loopback. */
static void on_conn(evutil_socket_t fd, short what, void *arg)
{
    struct conn *conn = arg;
    scoped(buf_done) struct buf out = BUF_INIT;
    uint8_t query[4096];
    ssize_t n = recv(fd, query, sizeof(query), 0);
    uint8_t prefix[2];

    if (n > 2 && answer(query + 2, (size_t)n - 2, true, &out)) {
        conn->up->tcp_count++;
        prefix[0] = (uint8_t)(out.len >> 8);
        prefix[1] = (uint8_t)out.len;
        send(fd, prefix, 1, MSG_NOSIGNAL); /* cut where it hurts */
        send(fd, prefix + 1, 1, MSG_NOSIGNAL);
        send(fd, out.data, out.len, MSG_NOSIGNAL);
    }
    close_conn(conn);
}

static void on_tcp(evutil_socket_t fd, short what, void *arg)
{
    struct dns_upstream *up = arg;
    int conn_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    for (size_t i = 0; i < CONNS_MAX; i++) {
        struct conn *conn = &up->conns[i];

        if (!conn->io) {
            conn->up = up;
            conn->fd = conn_fd;
            conn->io = loop_io_new(up->loop, conn_fd, EV_READ, on_conn, conn);
            return;
        }
    }
    close(conn_fd);
}

struct dns_upstream *dns_upstream_new(struct loop *loop)
{
    struct dns_upstream *up = xnew(struct dns_upstream);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);

    up->loop = loop;
    up->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    up->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(up->tcp, (struct sockaddr *)&addr, len) < 0 || listen(up->tcp, CONNS_MAX) < 0 ||
        getsockname(up->tcp, (struct sockaddr *)&addr, &len) < 0 ||
        bind(up->udp, (struct sockaddr *)&addr, len) < 0) {
        abort();
    }
    up->port = ntohs(addr.sin_port);
    up->udp_io = loop_io_new(loop, up->udp, EV_READ, on_udp, up);
    up->tcp_io = loop_io_new(loop, up->tcp, EV_READ, on_tcp, up);
    return up;
}

void dns_upstream_free(struct dns_upstream *up)
{
    for (size_t i = 0; i < CONNS_MAX; i++) {
        close_conn(&up->conns[i]);
    }
    loop_io_free(up->udp_io);
    loop_io_free(up->tcp_io);
    close(up->udp);
    close(up->tcp);
    free(up);
}

uint16_t dns_upstream_port(const struct dns_upstream *up)
{
    return up->port;
}

unsigned dns_upstream_udp_count(const struct dns_upstream *up)
{
    return up->udp_count;
}

unsigned dns_upstream_tcp_count(const struct dns_upstream *up)
{
    return up->tcp_count;
}
