/* SPDX-License-Identifier: Apache-2.0 */
/* The whole resolver over real sockets, with a server of ours in the place of the host's. */
#include "dns/server.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "dns/message.h"
#include "dns/tcp.h"
#include "dns_query.h"
#include "dns_upstream.h"
#include "util/file.h"
#include "util/path.h"

struct fixture {
    char dir[64];
    char *resolv_conf, *hosts, *nsswitch;
    struct loop *loop;
    struct dns_upstream *up;
    struct dns_server *server;
};

/* A client: what it has got, by the loop. */
struct client {
    struct loop_io *io;
    int fd;
    struct buf in;
    unsigned datagrams;
    bool ended;
};

/* --- lookups as the tests want them --- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held; /* lookups of "slow" names wait */
    unsigned count;
} looks = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void hold_lookups(bool held)
{
    pthread_mutex_lock(&looks.lock);
    looks.held = held;
    pthread_cond_broadcast(&looks.changed);
    pthread_mutex_unlock(&looks.lock);
}

static unsigned lookup_count(void)
{
    unsigned count;

    pthread_mutex_lock(&looks.lock);
    count = looks.count;
    pthread_mutex_unlock(&looks.lock);
    return count;
}

static void fake_lookup(const char *name, struct lookup_result *ret)
{
    pthread_mutex_lock(&looks.lock);
    looks.count++;
    while (looks.held && strncmp(name, "slow", 4) == 0) {
        pthread_cond_wait(&looks.changed, &looks.lock);
    }
    pthread_mutex_unlock(&looks.lock);
    if (strncmp(name, "none", 4) == 0) {
        ret->code = LDNS_RCODE_NXDOMAIN;
    } else if (strncmp(name, "broken", 6) == 0) {
        ret->code = LDNS_RCODE_SERVFAIL;
    } else if (strncmp(name, "empty", 5) != 0) {
        ret->addresses = xnew_n(struct config_address, 2);
        ret->count = 2;
        dns_address_parse("10.9.9.9", &ret->addresses[0]);
        dns_address_parse("fd00::9", &ret->addresses[1]);
    }
}

/* --- fixture --- */

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    struct dns_names *names = dns_names_new();
    struct dns_server_options options;

    strcpy(f->dir, "/tmp/test_dns_server.XXXXXX");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    f->resolv_conf = path_join(f->dir, "resolv.conf");
    f->hosts = path_join(f->dir, "hosts");
    f->nsswitch = path_join(f->dir, "nsswitch.conf");
    write_file(f->resolv_conf, "# the first one is not there\nnameserver 127.0.0.9\n"
                               "nameserver 127.0.0.1\n");
    write_file(f->hosts, "10.1.1.1 table\n");
    write_file(f->nsswitch, "hosts: files dns\n");
    f->loop = loop_new();
    f->up = dns_upstream_new(f->loop);
    dns_names_add(names, "host.lima.internal", "192.168.5.2");
    options = (struct dns_server_options){.ipv6 = true,
                                          .resolv_conf = f->resolv_conf,
                                          .hosts = f->hosts,
                                          .nsswitch = f->nsswitch,
                                          .server_port = dns_upstream_port(f->up),
                                          .lookup = fake_lookup,
                                          .idle_ms = 200};
    looks.count = 0;
    *state = f;
    return dns_server_new(f->loop, names, &options, &f->server, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    hold_lookups(false);
    dns_server_free(f->server);
    dns_upstream_free(f->up);
    loop_free(f->loop);
    file_remove_tree(f->dir, NULL);
    free(f->resolv_conf);
    free(f->hosts);
    free(f->nsswitch);
    free(f);
    return 0;
}

/* --- client --- */

static void on_client_readable(evutil_socket_t fd, short what, void *arg)
{
    struct client *c = arg;
    ssize_t n = recv(fd, buf_reserve(&c->in, 65536), 65536, 0);

    if (n <= 0) {
        c->ended = true;
        loop_io_want(c->io, 0);
        return;
    }
    buf_commit(&c->in, (size_t)n);
    c->datagrams++;
}

static void client_open(struct fixture *f, struct client *c, int type)
{
    uint16_t port =
        type == SOCK_DGRAM ? dns_server_udp_port(f->server) : dns_server_tcp_port(f->server);
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    *c = (struct client){.fd = socket(AF_INET, type | SOCK_CLOEXEC, 0)};
    assert_int_equal(connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    c->io = loop_io_new(f->loop, c->fd, EV_READ, on_client_readable, c);
}

static void client_close(struct client *c)
{
    loop_io_free(c->io);
    close(c->fd);
    buf_done(&c->in);
}

static void client_send(struct client *c, const char *name, ldns_rr_type type, unsigned flags,
                        uint16_t udp_size)
{
    scoped(buf_done) struct buf query = BUF_INIT;

    query_write(&query, name, type, flags, udp_size);
    assert_int_equal(send(c->fd, query.data, query.len, 0), query.len);
}

static void put_tcp_query(struct buf *out, const char *name, ldns_rr_type type)
{
    scoped(buf_done) struct buf query = BUF_INIT;

    query_write(&query, name, type, 0, 0);
    buf_putc(out, (char)(query.len >> 8));
    buf_putc(out, (char)query.len);
    buf_put(out, query.data, query.len);
}

static char *ask_udp(struct fixture *f, const char *name, ldns_rr_type type, unsigned flags,
                     uint16_t udp_size)
{
    struct client c;
    char *text;

    client_open(f, &c, SOCK_DGRAM);
    client_send(&c, name, type, flags, udp_size);
    while (!c.datagrams) {
        loop_once(f->loop);
    }
    assert_memory_equal(c.in.data, "\x12\x34", 2);
    text = answer_text(c.in.data, c.in.len);
    client_close(&c);
    return text;
}

/* The next answer of a TCP client; NULL at its end. The caller frees it. */
static char *next_tcp(struct fixture *f, struct client *c)
{
    char *text;
    size_t len;

    while (!c->ended &&
           (c->in.len < 2 || c->in.len - 2 < (len = (size_t)((uint8_t)c->in.data[0] << 8 |
                                                             (uint8_t)c->in.data[1])))) {
        loop_once(f->loop);
    }
    if (c->in.len < 2) {
        return NULL;
    }
    len = (size_t)((uint8_t)c->in.data[0] << 8 | (uint8_t)c->in.data[1]);
    text = answer_text(c->in.data + 2, len);
    buf_drop(&c->in, 2 + len);
    return text;
}

static char *ask_tcp(struct fixture *f, const char *name, ldns_rr_type type)
{
    scoped(buf_done) struct buf query = BUF_INIT;
    struct client c;
    char *text;

    client_open(f, &c, SOCK_STREAM);
    put_tcp_query(&query, name, type);
    assert_int_equal(send(c.fd, query.data, query.len, 0), query.len);
    text = next_tcp(f, &c);
    client_close(&c);
    return text;
}

#define assert_text(call, want)                                                                    \
    do {                                                                                           \
        char *assert_text_ = (call);                                                               \
        assert_string_equal(assert_text_, want);                                                   \
        free(assert_text_);                                                                        \
    } while (0)

#define assert_udp(f, name, type, want) assert_text(ask_udp(f, name, type, 0, 0), want)

/* --- tests --- */

static void test_own_names_and_the_table_are_answered_by_udp_and_tcp(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 2; i++) { /* the second time from memory */
        assert_udp(f, "host.lima.internal", LDNS_RR_TYPE_A, "NOERROR A 192.168.5.2");
        assert_udp(f, "table", LDNS_RR_TYPE_A, "NOERROR A 10.1.1.1");
        assert_text(ask_tcp(f, "host.lima.internal", LDNS_RR_TYPE_A), "NOERROR A 192.168.5.2");
        assert_text(ask_tcp(f, "table", LDNS_RR_TYPE_AAAA), "NOERROR");
    }
    assert_int_equal(lookup_count(), 0);
    assert_int_equal(dns_upstream_udp_count(f->up), 0);
}

static void test_a_lookup_tells_no_data_no_name_and_no_answer_apart(void **state)
{
    struct fixture *f = *state;

    assert_udp(f, "a.example", LDNS_RR_TYPE_A, "NOERROR A 10.9.9.9");
    assert_udp(f, "a.example", LDNS_RR_TYPE_AAAA, "NOERROR AAAA fd00::9");
    assert_text(ask_tcp(f, "a.example", LDNS_RR_TYPE_A), "NOERROR A 10.9.9.9");
    assert_udp(f, "none.example", LDNS_RR_TYPE_A, "NXDOMAIN");
    assert_udp(f, "empty.example", LDNS_RR_TYPE_A, "NOERROR");
    assert_udp(f, "broken.example", LDNS_RR_TYPE_A, "SERVFAIL");
    assert_int_equal(dns_upstream_udp_count(f->up), 0);
}

static void test_other_types_come_from_the_hosts_servers_as_they_are(void **state)
{
    struct fixture *f = *state;

    assert_udp(f, "x.example", LDNS_RR_TYPE_TXT, "NOERROR TXT \"some text\"");
    assert_udp(f, "x.example", LDNS_RR_TYPE_SRV, "NOERROR SRV 1 2 443 target.example.");
    assert_udp(f, "x.example", LDNS_RR_TYPE_MX, "NOERROR MX 10 mail.example.");
    assert_udp(f, "x.example", LDNS_RR_TYPE_CNAME, "NOERROR CNAME other.example.");
    assert_udp(f, "x.example", LDNS_RR_TYPE_HTTPS, "NOERROR HTTPS 1 . alpn=h2");
    assert_udp(f, "x.example", LDNS_RR_TYPE_NAPTR, "NOERROR");
    assert_text(ask_tcp(f, "x.example", LDNS_RR_TYPE_TXT), "NOERROR TXT \"some text\"");
    assert_text(ask_udp(f, "x.example", LDNS_RR_TYPE_A, QUERY_EDNS | QUERY_DO, 1232),
                "NOERROR A 10.20.30.40");
    assert_udp(f, "refused.example", LDNS_RR_TYPE_TXT, "REFUSED");
    assert_int_equal(lookup_count(), 0);
}

static void test_a_long_answer_is_whole_where_the_client_takes_it(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *by_tcp = ask_tcp(f, "long.example", LDNS_RR_TYPE_TXT);
    scoped(free) char *large = ask_udp(f, "long.example", LDNS_RR_TYPE_TXT, QUERY_EDNS, 4096);
    scoped(free) char *small = ask_udp(f, "long.example", LDNS_RR_TYPE_TXT, 0, 0);

    assert_in_range(strlen(by_tcp), 3000, 4000);
    assert_string_equal(large, by_tcp);
    assert_int_equal(strncmp(small, "NOERROR tc TXT ", 15), 0);
    assert_true(strlen(small) < 512);
    assert_int_equal(dns_upstream_tcp_count(f->up), 3);
}

static void test_forged_answers_are_passed_over(void **state)
{
    assert_udp(*state, "forged.example", LDNS_RR_TYPE_TXT, "NOERROR TXT \"some text\"");
}

static void test_tcp_is_tried_where_udp_gets_no_answer(void **state)
{
    struct fixture *f = *state;

    assert_udp(f, "silent.example", LDNS_RR_TYPE_TXT, "NOERROR TXT \"some text\"");
    assert_int_equal(dns_upstream_tcp_count(f->up), 1);
}

static void test_without_servers_the_answer_is_servfail_at_once(void **state)
{
    struct fixture *f = *state;

    write_file(f->resolv_conf, "search example.com\nnameserver\nnameserver nobody\n");
    assert_udp(f, "x.example", LDNS_RR_TYPE_TXT, "SERVFAIL");
    assert_udp(f, "host.lima.internal", LDNS_RR_TYPE_A, "NOERROR A 192.168.5.2");
    unlink(f->resolv_conf);
    assert_udp(f, "x.example", LDNS_RR_TYPE_TXT, "SERVFAIL");
    assert_int_equal(dns_upstream_udp_count(f->up), 0);
    write_file(f->resolv_conf, "nameserver 127.0.0.1\n");
    assert_udp(f, "x.example", LDNS_RR_TYPE_TXT, "NOERROR TXT \"some text\"");
}

static void test_a_server_that_refuses_all_is_answered_servfail(void **state)
{
    struct fixture *f = *state;

    write_file(f->resolv_conf, "nameserver 127.0.0.9\n");
    assert_udp(f, "x.example", LDNS_RR_TYPE_TXT, "SERVFAIL");
}

static void test_each_change_of_the_table_is_seen_by_the_next_query(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *other = path_join(f->dir, "other");

    for (int i = 0; i < 50; i++) { /* in place: far within one tick of the file system's clock */
        char text[32], want[32];

        snprintf(text, sizeof(text), "10.2.2.%d table\n", i + 100);
        snprintf(want, sizeof(want), "NOERROR A 10.2.2.%d", i + 100);
        write_file(f->hosts, text);
        assert_udp(f, "table", LDNS_RR_TYPE_A, want);
    }
    write_file(other, "10.3.3.3 table\n"); /* another file in its place */
    assert_int_equal(rename(other, f->hosts), 0);
    assert_udp(f, "table", LDNS_RR_TYPE_A, "NOERROR A 10.3.3.3");
    write_file(f->hosts, "10.3.3.4 table\n"); /* which is watched by now */
    assert_udp(f, "table", LDNS_RR_TYPE_A, "NOERROR A 10.3.3.4");
    unlink(f->hosts);
    assert_udp(f, "table", LDNS_RR_TYPE_A, "NOERROR A 10.9.9.9"); /* looked up */
    write_file(other, "10.4.4.4 table\n");                        /* behind a link */
    assert_int_equal(symlink("other", f->hosts), 0);
    assert_udp(f, "table", LDNS_RR_TYPE_A, "NOERROR A 10.4.4.4");
    write_file(other, "10.4.4.5 table\n");
    assert_udp(f, "table", LDNS_RR_TYPE_A, "NOERROR A 10.4.4.5");
}

static void test_a_table_that_comes_later_still_counts(void **state)
{
    struct fixture *f = *state;

    write_file(f->hosts, "10.1.1.1 none.host table\n");
    write_file(f->nsswitch, "hosts: resolve [!UNAVAIL=return] files\n");
    assert_udp(f, "table", LDNS_RR_TYPE_A, "NOERROR A 10.9.9.9");
    assert_udp(f, "none.host", LDNS_RR_TYPE_A, "NOERROR A 10.1.1.1");
    write_file(f->nsswitch, "hosts: dns\n");
    assert_udp(f, "none.host", LDNS_RR_TYPE_A, "NXDOMAIN");
}

static void test_equal_questions_at_one_time_are_one_lookup(void **state)
{
    struct fixture *f = *state;
    struct client c;

    hold_lookups(true);
    client_open(f, &c, SOCK_DGRAM);
    for (int i = 0; i < 3; i++) {
        client_send(&c, "slow.example", i == 2 ? LDNS_RR_TYPE_AAAA : LDNS_RR_TYPE_A, 0, 0);
    }
    client_send(&c, "fast.example", LDNS_RR_TYPE_A, 0, 0);
    while (c.datagrams < 1) { /* others are not held up */
        loop_once(f->loop);
    }
    hold_lookups(false);
    while (c.datagrams < 4) {
        loop_once(f->loop);
    }
    assert_int_equal(lookup_count(), 2);
    client_close(&c);
}

static void test_a_question_after_a_change_does_not_wait_for_one_before(void **state)
{
    struct fixture *f = *state;
    struct client c;

    hold_lookups(true);
    client_open(f, &c, SOCK_DGRAM);
    client_send(&c, "slow.example", LDNS_RR_TYPE_A, 0, 0);
    while (lookup_count() < 1) {
        event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
    }
    write_file(f->resolv_conf, "nameserver 127.0.0.1\n");
    client_send(&c, "slow.example", LDNS_RR_TYPE_A, 0, 0);
    while (lookup_count() < 2) {
        event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
    }
    hold_lookups(false);
    while (c.datagrams < 2) {
        loop_once(f->loop);
    }
    client_close(&c);
}

static void test_too_many_lookups_are_refused_and_the_rest_goes_on(void **state)
{
    struct fixture *f = *state;
    struct client c;

    hold_lookups(true);
    client_open(f, &c, SOCK_DGRAM);
    for (int i = 0; i < LOOKUP_NAMES_MAX; i++) {
        char name[32];

        snprintf(name, sizeof(name), "slow%d.example", i);
        client_send(&c, name, LDNS_RR_TYPE_A, 0, 0);
        event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
    }
    assert_udp(f, "fast.example", LDNS_RR_TYPE_A, "SERVFAIL");
    assert_udp(f, "table", LDNS_RR_TYPE_A, "NOERROR A 10.1.1.1");
    hold_lookups(false);
    while (!c.datagrams) {
        loop_once(f->loop);
    }
    assert_udp(f, "fast.example", LDNS_RR_TYPE_A, "NOERROR A 10.9.9.9");
    client_close(&c);
}

static void test_a_server_may_end_while_lookups_run(void **state)
{
    struct fixture *f = *state;
    struct client c, tcp;
    scoped(buf_done) struct buf query = BUF_INIT;

    hold_lookups(true);
    client_open(f, &c, SOCK_DGRAM);
    client_send(&c, "slow.example", LDNS_RR_TYPE_A, 0, 0);
    client_send(&c, "mute.example", LDNS_RR_TYPE_TXT, 0, 0);
    client_open(f, &tcp, SOCK_STREAM);
    put_tcp_query(&query, "slow.example", LDNS_RR_TYPE_A);
    assert_int_equal(send(tcp.fd, query.data, query.len, 0), query.len);
    while (lookup_count() < 1 || !dns_upstream_udp_count(f->up)) {
        loop_once(f->loop);
    }
    dns_server_free(f->server);
    f->server = NULL;
    client_close(&c);
    client_close(&tcp);
}

static void test_a_connection_carries_many_queries_and_may_be_half_closed(void **state)
{
    struct fixture *f = *state;
    scoped(buf_done) struct buf queries = BUF_INIT;
    struct client c;
    unsigned own = 0, looked_up = 0;

    client_open(f, &c, SOCK_STREAM);
    for (int i = 0; i < 150; i++) {
        put_tcp_query(&queries, "host.lima.internal", LDNS_RR_TYPE_A);
        put_tcp_query(&queries, "a.example", LDNS_RR_TYPE_A);
    }
    assert_int_equal(send(c.fd, queries.data, queries.len, 0), queries.len);
    shutdown(c.fd, SHUT_WR);
    for (int i = 0; i < 300; i++) {
        scoped(free) char *text = next_tcp(f, &c);

        assert_non_null(text);
        own += strcmp(text, "NOERROR A 192.168.5.2") == 0;
        looked_up += strcmp(text, "NOERROR A 10.9.9.9") == 0;
    }
    assert_int_equal(own, 150);
    assert_int_equal(looked_up, 150);
    assert_null(next_tcp(f, &c));
    client_close(&c);
}

static void test_silence_and_garbage_end_a_connection(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        {"", 0},
        {"\0", 1},
        {"\0\x05hello", 7},
        {"\xff\xff half a query", 15},
        {"\0\x13\x12\x34\x81\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", 21},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct client c;

        client_open(f, &c, SOCK_STREAM);
        assert_int_equal(send(c.fd, rows[i].bytes, rows[i].len, 0), rows[i].len);
        while (!c.ended) {
            loop_once(f->loop);
        }
        assert_int_equal(c.in.len, 0);
        client_close(&c);
    }
}

static void test_too_many_connections_cost_the_longest_idle_one(void **state)
{
    struct fixture *f = *state;
    struct client conns[DNS_TCP_CONNS_MAX + 1];

    for (size_t i = 0; i < ARRAY_LEN(conns); i++) {
        client_open(f, &conns[i], SOCK_STREAM);
        event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
    }
    assert_text(ask_tcp(f, "table", LDNS_RR_TYPE_A), "NOERROR A 10.1.1.1");
    assert_true(conns[0].ended);
    for (size_t i = 0; i < ARRAY_LEN(conns); i++) {
        client_close(&conns[i]);
    }
}

/* --- a server of connections alone, whose queries wait for what the test answers --- */

static struct {
    struct dns_tcp_conn *conn;
    unsigned count, closed;
} waiting;

static void on_batch(void *arg)
{
}

static void on_query(struct dns_tcp_conn *conn, const uint8_t *wire, size_t len, struct buf *out,
                     void *arg)
{
    waiting.conn = conn;
    waiting.count++;
}

static void on_closed(struct dns_tcp_conn *conn, void *arg)
{
    waiting.closed++;
}

static void test_a_client_that_reads_no_long_answers_is_closed(void **state)
{
    static const struct dns_tcp_events events = {on_batch, on_query, on_closed};
    static const uint8_t answer[DNS_MESSAGE_MAX];
    struct fixture *f = *state;
    scoped(buf_done) struct buf queries = BUF_INIT;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;
    struct dns_tcp *tcp;

    memset(&waiting, 0, sizeof(waiting));
    assert_int_equal(dns_tcp_new(f->loop, 60000, &events, NULL, &tcp, NULL), 0);
    addr.sin_port = htons(dns_tcp_port(tcp));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    for (int i = 0; i < DNS_TCP_PENDING_MAX; i++) {
        put_tcp_query(&queries, "a.example", LDNS_RR_TYPE_A);
    }
    assert_int_equal(send(fd, queries.data, queries.len, 0), queries.len);
    while (waiting.count < DNS_TCP_PENDING_MAX) {
        loop_once(f->loop);
    }
    for (int i = 0; i < DNS_TCP_PENDING_MAX && !waiting.closed; i++) {
        dns_tcp_answer(waiting.conn, answer, sizeof(answer));
    }
    assert_int_equal(waiting.closed, 1);
    dns_tcp_free(tcp);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_own_names_and_the_table_are_answered_by_udp_and_tcp,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_lookup_tells_no_data_no_name_and_no_answer_apart,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_types_come_from_the_hosts_servers_as_they_are,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_long_answer_is_whole_where_the_client_takes_it,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_forged_answers_are_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tcp_is_tried_where_udp_gets_no_answer, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_servers_the_answer_is_servfail_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_server_that_refuses_all_is_answered_servfail, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_each_change_of_the_table_is_seen_by_the_next_query,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_table_that_comes_later_still_counts, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_equal_questions_at_one_time_are_one_lookup, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_question_after_a_change_does_not_wait_for_one_before,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_lookups_are_refused_and_the_rest_goes_on,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_server_may_end_while_lookups_run, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_connection_carries_many_queries_and_may_be_half_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silence_and_garbage_end_a_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_connections_cost_the_longest_idle_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_client_that_reads_no_long_answers_is_closed, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
