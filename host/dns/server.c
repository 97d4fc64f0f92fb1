/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A query that cannot be answered at once is pending: it belongs to a client (a UDP address or a
 * TCP connection) and to a lookup or a relay, and ends with the answer of that, with the end of the
 * patience, or with its connection. Pending queries are in the order in which they came, so one
 * timer does.
 */
#include "dns/server.h"

#include <netinet/in.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "dns/answer.h"
#include "dns/memo.h"
#include "dns/relay.h"
#include "dns/servers.h"
#include "dns/tcp.h"
#include "dns/udp.h"
#include "dns/watch.h"

#define PENDING_MAX 4096
#define PATIENCE_MS RELAY_PATIENCE_MS
#define IDLE_MS     30000
#define DNS_PORT    53

enum { FILE_HOSTS, FILE_NSSWITCH, FILE_RESOLV_CONF, FILE_COUNT };

struct pending {
    struct dns_server *server;
    struct pending *next, **link; /* oldest first */
    int64_t until_ms;
    struct sockaddr_in peer;
    struct dns_tcp_conn *conn; /* NULL: by UDP */
    uint8_t *query;
    size_t len;
    struct lookup_request *lookup;
    char *name; /* that is looked up */
    struct relay_request *relay;
};

struct dns_server {
    struct loop *loop;
    const char *paths[FILE_COUNT];
    uint16_t server_port;
    struct dns_watch *watch;
    struct dns_names *names;
    struct dns_hosts *hosts;
    enum dns_hosts_place place;
    struct answer_source source;
    struct memo *memo;
    struct lookup *lookup;
    struct relay *relay;
    struct dns_udp *udp;
    struct dns_tcp *tcp;
    struct pending *pending, **pending_end;
    size_t pending_count;
    struct loop_timer *patience;
};

/* --- the host's files --- */

static void load_files(struct dns_server *server, unsigned changed)
{
    struct dns_servers servers;

    if (changed & 1u << FILE_HOSTS) {
        dns_hosts_free(server->hosts);
        server->hosts = dns_hosts_load(server->paths[FILE_HOSTS]);
    }
    if (changed & 1u << FILE_NSSWITCH) {
        server->place = dns_hosts_place_load(server->paths[FILE_NSSWITCH]);
    }
    if (changed & 1u << FILE_RESOLV_CONF) {
        dns_servers_load(server->paths[FILE_RESOLV_CONF], server->server_port, &servers);
        relay_set_servers(server->relay, &servers);
    }
    server->source.names = server->names;
    server->source.hosts = server->place == DNS_HOSTS_FIRST ? server->hosts : NULL;
    lookup_renew(server->lookup);
    memo_clear(server->memo);
}

static void on_batch(void *arg)
{
    struct dns_server *server = arg;
    unsigned changed = dns_watch_changed(server->watch);

    if (changed) {
        load_files(server, changed);
    }
}

/* --- pending queries --- */

static void watch_oldest(struct dns_server *server)
{
    int64_t left = server->pending ? server->pending->until_ms - loop_now_ms() : -1;

    loop_timer_set(server->patience, server->pending ? MAX(left, 0) : -1);
}

static void pending_free(struct pending *p)
{
    struct dns_server *server = p->server;
    bool oldest = server->pending == p;

    if (p->lookup) {
        lookup_cancel(p->lookup);
    }
    if (p->relay) {
        relay_cancel(p->relay);
    }
    *p->link = p->next;
    if (p->next) {
        p->next->link = p->link;
    } else {
        server->pending_end = p->link;
    }
    server->pending_count--;
    free(p->query);
    free(p->name);
    free(p);
    if (oldest) {
        watch_oldest(server);
    }
}

/* Bytes that its answer may have, as answer_query() takes it. */
static size_t limit_of(const struct dns_tcp_conn *conn)
{
    return conn ? DNS_MESSAGE_MAX : 0;
}

/* Sends the answer and ends the query. */
static void pending_answer(struct pending *p, struct buf *answer)
{
    struct dns_server *server = p->server;
    struct dns_tcp_conn *conn = p->conn;
    struct sockaddr_in peer = p->peer;

    pending_free(p);
    if (conn) {
        dns_tcp_answer(conn, answer->data, answer->len);
    } else {
        dns_udp_answer(server->udp, &peer, answer->data, answer->len);
    }
}

static void pending_fail(struct pending *p)
{
    scoped(buf_done) struct buf answer = BUF_INIT;

    answer_failed(p->query, p->len, limit_of(p->conn), &answer);
    pending_answer(p, &answer);
}

static void on_patience_end(void *arg)
{
    struct dns_server *server = arg;
    int64_t now = loop_now_ms();

    while (server->pending && server->pending->until_ms <= now) {
        pending_fail(server->pending);
    }
    watch_oldest(server);
}

/* Where the table is not asked first, a name that is in it alone was asked for as none it knows. */
static size_t table_addresses(const struct pending *p, const struct config_address **ret)
{
    const struct dns_server *server = p->server;

    return server->place == DNS_HOSTS_LATER ? dns_hosts_find(server->hosts, p->name, ret) : 0;
}

static void on_looked_up(const struct lookup_result *result, void *arg)
{
    scoped(buf_done) struct buf answer = BUF_INIT;
    struct pending *p = arg;
    const struct config_address *addresses = result->addresses;
    size_t count = result->count ? result->count : table_addresses(p, &addresses);

    p->lookup = NULL;
    answer_looked_up(p->query, p->len, limit_of(p->conn), count ? LDNS_RCODE_NOERROR : result->code,
                     addresses, count, &answer);
    pending_answer(p, &answer);
}

static void on_relayed(const uint8_t *response, size_t len, void *arg)
{
    scoped(buf_done) struct buf answer = BUF_INIT;
    struct pending *p = arg;

    p->relay = NULL;
    if (!response) {
        pending_fail(p);
        return;
    }
    dns_fit(response, len, p->conn ? DNS_MESSAGE_MAX : answer_udp_size(p->query, p->len), &answer);
    pending_answer(p, &answer);
}

static struct pending *pending_new(struct dns_server *server, const uint8_t *wire, size_t len)
{
    struct pending *p = xnew(struct pending);

    p->server = server;
    p->query = xmemdup(wire, len);
    p->len = len;
    p->until_ms = loop_now_ms() + PATIENCE_MS;
    p->link = server->pending_end;
    *server->pending_end = p;
    server->pending_end = &p->next;
    server->pending_count++;
    if (server->pending == p) {
        watch_oldest(server);
    }
    return p;
}

/* NULL: too much is under way, or there is nobody to ask. */
static struct pending *begin(struct dns_server *server, enum answer answer, const char *name,
                             const uint8_t *wire, size_t len)
{
    struct pending *p;

    if (server->pending_count >= PENDING_MAX) {
        return NULL;
    }
    p = pending_new(server, wire, len);
    if (answer == ANSWER_LOOKUP) {
        p->name = xstrdup(name);
        p->lookup = lookup_start(server->lookup, name, on_looked_up, p);
    } else {
        p->relay = relay_start(server->relay, wire, len, on_relayed, p);
    }
    if (!p->lookup && !p->relay) {
        pending_free(p);
        return NULL;
    }
    return p;
}

/* --- queries --- */

/* A pending one whose client is to be set, or NULL: @out has the answer, or nothing is due. */
static struct pending *take_query(struct dns_server *server, const uint8_t *wire, size_t len,
                                  size_t max, struct buf *out)
{
    char name[DNS_NAME_MAX + 1];
    size_t before = out->len;
    struct pending *p;
    enum answer answer = answer_query(&server->source, wire, len, max, out, name);

    if (answer == ANSWER_NONE) {
        return NULL;
    }
    if (answer == ANSWER_READY) {
        if (!max) {
            memo_keep(server->memo, wire, len, (const uint8_t *)out->data + before,
                      out->len - before);
        }
        return NULL;
    }
    p = begin(server, answer, name, wire, len);
    if (!p) {
        answer_failed(wire, len, max, out);
    }
    return p;
}

static void on_udp_query(const struct sockaddr_in *peer, const uint8_t *wire, size_t len,
                         struct buf *out, void *arg)
{
    struct dns_server *server = arg;
    struct pending *p;

    if (memo_answer(server->memo, wire, len, out)) {
        return;
    }
    p = take_query(server, wire, len, limit_of(NULL), out);
    if (p) {
        p->peer = *peer;
    }
}

static void on_tcp_query(struct dns_tcp_conn *conn, const uint8_t *wire, size_t len,
                         struct buf *out, void *arg)
{
    struct pending *p = take_query(arg, wire, len, limit_of(conn), out);

    if (p) {
        p->conn = conn;
    }
}

static void on_tcp_closed(struct dns_tcp_conn *conn, void *arg)
{
    struct dns_server *server = arg;
    struct pending *next;

    for (struct pending *p = server->pending; p; p = next) {
        next = p->next;
        if (p->conn == conn) {
            pending_free(p);
        }
    }
}

static const struct dns_udp_events udp_events = {.batch = on_batch, .query = on_udp_query};
static const struct dns_tcp_events tcp_events = {
    .batch = on_batch, .query = on_tcp_query, .closed = on_tcp_closed};

static void set_options(struct dns_server *server, const struct dns_server_options *options)
{
    server->paths[FILE_HOSTS] = options->hosts ? options->hosts : "/etc/hosts";
    server->paths[FILE_NSSWITCH] = options->nsswitch ? options->nsswitch : "/etc/nsswitch.conf";
    server->paths[FILE_RESOLV_CONF] =
        options->resolv_conf ? options->resolv_conf : "/etc/resolv.conf";
    server->server_port = options->server_port ? options->server_port : DNS_PORT;
    server->source.ipv6 = options->ipv6;
}

int dns_server_new(struct loop *loop, struct dns_names *take_names,
                   const struct dns_server_options *options, struct dns_server **ret,
                   struct error *err)
{
    scoped(dns_server_free) struct dns_server *server = xnew(struct dns_server);
    int64_t idle_ms = options->idle_ms ? options->idle_ms : IDLE_MS;
    int r;

    server->loop = loop;
    server->names = take_names;
    server->pending_end = &server->pending;
    set_options(server, options);
    server->memo = memo_new();
    server->relay = relay_new(loop);
    server->patience = loop_timer_new(loop, on_patience_end, server);
    server->watch = dns_watch_new(server->paths, FILE_COUNT);
    r = lookup_new(loop, options->lookup ? options->lookup : lookup_by_getaddrinfo, &server->lookup,
                   err);
    if (r == 0) {
        load_files(server, ~0u);
        r = dns_udp_new(loop, &udp_events, server, &server->udp, err);
    }
    if (r == 0) {
        r = dns_tcp_new(loop, idle_ms, &tcp_events, server, &server->tcp, err);
    }
    if (r == 0) {
        *ret = steal(server);
    }
    return r;
}

void dns_server_free(struct dns_server *server)
{
    if (!server) {
        return;
    }
    dns_tcp_free(server->tcp);
    while (server->pending) {
        pending_free(server->pending);
    }
    dns_udp_free(server->udp);
    lookup_free(server->lookup);
    relay_free(server->relay);
    dns_watch_free(server->watch);
    dns_hosts_free(server->hosts);
    dns_names_free(server->names);
    memo_free(server->memo);
    loop_timer_free(server->patience);
    free(server);
}

uint16_t dns_server_udp_port(const struct dns_server *server)
{
    return dns_udp_port(server->udp);
}

uint16_t dns_server_tcp_port(const struct dns_server *server)
{
    return dns_tcp_port(server->tcp);
}
