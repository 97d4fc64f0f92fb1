/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/answer.h"

#include <stdio.h>
#include <string.h>

static size_t limit(const struct dns_query *query, size_t max)
{
    return max ? max : query->udp_size;
}

/* Whole transfers come in many messages, and are no business of a client of ours. */
static bool is_transfer(const struct dns_query *query)
{
    return query->type == LDNS_RR_TYPE_AXFR || query->type == LDNS_RR_TYPE_IXFR;
}

static bool is_reverse(const struct dns_query *query, struct config_address *ret)
{
    unsigned a, b, c, d;
    char text[20];
    int end = 0;

    if (query->type != LDNS_RR_TYPE_PTR ||
        sscanf(query->name, "%3u.%3u.%3u.%3u.in-addr.arpa%n", &d, &c, &b, &a, &end) != 4 || !end ||
        query->name[end]) {
        return false;
    }
    snprintf(text, sizeof(text), "%u.%u.%u.%u", a & 1023, b & 1023, c & 1023, d & 1023);
    return dns_address_parse(text, ret);
}

/* The rule for "localhost" (RFC 6761) holds whether or not a table has it. */
static bool is_localhost(const char *name)
{
    static const char suffix[] = ".localhost";
    size_t len = strlen(name), tail = strlen(suffix);

    return strcmp(name, suffix + 1) == 0 || (len > tail && strcmp(name + len - tail, suffix) == 0);
}

/* A decision: READY has the records. */
struct decision {
    enum answer answer;
    struct dns_records records;
    struct config_address addresses[2];
    const char *names[2];
    const char *lookup; /* name to look up */
};

static void decide_addresses(struct decision *d, size_t count, uint32_t ttl)
{
    d->answer = ANSWER_READY;
    d->records.addresses = d->addresses;
    d->records.count = count;
    d->records.ttl = ttl;
}

static bool wants_address(const struct dns_query *query)
{
    return query->type == LDNS_RR_TYPE_A || query->type == LDNS_RR_TYPE_AAAA;
}

/* One of our names: whatever is asked of it, the answer is here and is never "no such name". */
static bool decide_names(const struct answer_source *source, const struct dns_query *query,
                         struct decision *d)
{
    struct dns_names_found found = {0};
    enum dns_names_result r = dns_names_find(source->names, query->name, &found);

    if (r == DNS_NAMES_NONE) {
        return false;
    }
    d->answer = ANSWER_READY;
    d->records.ttl = ANSWER_TTL_NAMES;
    d->records.alias = found.alias;
    if (r == DNS_NAMES_ADDRESS) {
        d->addresses[0] = found.address;
        decide_addresses(d, 1, ANSWER_TTL_NAMES);
    } else if (r == DNS_NAMES_OUTSIDE && wants_address(query)) {
        d->answer = ANSWER_LOOKUP;
        d->lookup = found.target;
    }
    return true;
}

static bool decide_reverse(const struct answer_source *source, const struct dns_query *query,
                           struct decision *d)
{
    struct config_address address;

    if (!is_reverse(query, &address)) {
        return false;
    }
    d->names[0] = dns_names_of(source->names, &address);
    d->records.names = d->names;
    d->records.ttl = ANSWER_TTL_NAMES;
    d->answer = ANSWER_READY;
    return d->names[0];
}

/* A name of the host's table, for its addresses; other things of it the host asks its servers. */
static bool decide_hosts(const struct answer_source *source, const struct dns_query *query,
                         const char *name, struct decision *d)
{
    if (!source->hosts || !wants_address(query)) {
        return false;
    }
    d->records.count = dns_hosts_find(source->hosts, name, &d->records.addresses);
    d->records.ttl = ANSWER_TTL_HOSTS;
    d->answer = ANSWER_READY;
    return d->records.count;
}

static bool decide_localhost(const struct dns_query *query, const char *name, struct decision *d)
{
    if (!is_localhost(name)) {
        return false;
    }
    dns_address_parse("127.0.0.1", &d->addresses[0]);
    dns_address_parse("::1", &d->addresses[1]);
    decide_addresses(d, 2, ANSWER_TTL_NAMES);
    return true;
}

/* Addresses of @name, which is the question's or what an alias of ours leads to. */
static void decide_lookup(const struct answer_source *source, const struct dns_query *query,
                          const char *name, struct decision *d)
{
    if (decide_hosts(source, query, name, d) || decide_localhost(query, name, d)) {
        return;
    }
    d->records = (struct dns_records){0};
    d->answer = ANSWER_LOOKUP;
    d->lookup = name;
}

static void decide_plain(const struct answer_source *source, const struct dns_query *query,
                         struct decision *d)
{
    if (decide_names(source, query, d)) {
        if (d->answer == ANSWER_LOOKUP) {
            decide_lookup(source, query, d->lookup, d);
        }
    } else if (!decide_reverse(source, query, d) && !decide_hosts(source, query, query->name, d) &&
               !decide_localhost(query, query->name, d)) {
        bool native = wants_address(query) && !query->dnssec_ok;

        d->answer = native ? ANSWER_LOOKUP : ANSWER_RELAY;
        d->lookup = query->name;
    }
}

static void decide(const struct answer_source *source, const struct dns_query *query,
                   struct decision *d)
{
    d->answer = ANSWER_RELAY;
    if (query->class == LDNS_RR_CLASS_IN && query->plain) {
        decide_plain(source, query, d);
    }
    /* Without IPv6 no name has such addresses, and nobody needs to be asked. */
    if (query->class == LDNS_RR_CLASS_IN && query->type == LDNS_RR_TYPE_AAAA && !source->ipv6) {
        d->answer = ANSWER_READY;
        d->records = (struct dns_records){0};
    }
}

enum answer answer_query(const struct answer_source *source, const uint8_t *wire, size_t len,
                         size_t max, struct buf *out, char *ret_name)
{
    scoped(dns_query_done) struct dns_query query = {0};
    struct decision d = {0};
    int r = dns_query_parse(wire, len, &query);

    if (r < 0) {
        return ANSWER_NONE;
    }
    if (r > 0) {
        dns_refuse(wire, (unsigned)r, out);
        return ANSWER_READY;
    }
    if (query.bad_version || is_transfer(&query)) {
        dns_respond(&query, query.bad_version ? DNS_BAD_VERSION : LDNS_RCODE_REFUSED, NULL,
                    limit(&query, max), out);
        return ANSWER_READY;
    }
    decide(source, &query, &d);
    if (d.answer == ANSWER_READY) {
        dns_respond(&query, LDNS_RCODE_NOERROR, &d.records, limit(&query, max), out);
    } else if (d.answer == ANSWER_LOOKUP) {
        snprintf(ret_name, DNS_NAME_MAX + 1, "%s", d.lookup);
    }
    return d.answer;
}

static void respond(const uint8_t *wire, size_t len, size_t max, unsigned code,
                    const struct dns_records *records, struct buf *out)
{
    scoped(dns_query_done) struct dns_query query = {0};

    if (dns_query_parse(wire, len, &query) == 0) {
        dns_respond(&query, code, records, limit(&query, max), out);
    }
}

void answer_looked_up(const uint8_t *wire, size_t len, size_t max, unsigned code,
                      const struct config_address *addresses, size_t count, struct buf *out)
{
    struct dns_records records = {.addresses = addresses, .count = count, .ttl = ANSWER_TTL_LOOKUP};

    respond(wire, len, max, code, &records, out);
}

void answer_failed(const uint8_t *wire, size_t len, size_t max, struct buf *out)
{
    respond(wire, len, max, LDNS_RCODE_SERVFAIL, NULL, out);
}

size_t answer_udp_size(const uint8_t *wire, size_t len)
{
    scoped(dns_query_done) struct dns_query query = {0};

    return dns_query_parse(wire, len, &query) == 0 ? query.udp_size : DNS_UDP_MIN;
}
