/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is a length of one byte, so many bytes from a guest, and the rest from a DNS server.
 * What must hold: an answer to the guest begins with its id, is within the bound and no query
 * itself; an answer of the server that matches a query is cut to the bound and still matches; none
 * of it depends on more than the bytes.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "dns/answer.h"
#include "dns/memo.h"
#include "fuzz.h"

static struct answer_source source_new(bool ipv6)
{
    struct answer_source source = {.ipv6 = ipv6};
    struct dns_names *names = dns_names_new();

    dns_names_add(names, "host.lima.internal", "192.168.5.2");
    dns_names_add(names, "a", "b.c");
    dns_names_add(names, "b.c", "fd00::1");
    dns_names_add(names, "w", "www.example.com");
    dns_names_add(names, "x", "x");
    source.names = names;
    source.hosts = dns_hosts_parse(xstrdup("127.0.0.1 localhost\n10.0.0.1 h h.i\nfd00::2 h\n"));
    return source;
}

static void check_answer(const uint8_t *query, const struct buf *out, size_t max)
{
    CHECK(out->len >= DNS_HEADER && out->len <= max);
    CHECK(memcmp(out->data, query, 2) == 0);
    CHECK(out->data[2] & 0x80);
}

/* Whatever the lookup says; more addresses than any message of UDP holds. */
static void check_lookup(const uint8_t *query, size_t len, const char *name)
{
    struct config_address addresses[300];
    scoped(buf_done) struct buf out = BUF_INIT;

    CHECK(strlen(name) <= DNS_NAME_MAX);
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        dns_address_parse(i % 2 ? "fd00::3" : "10.0.0.3", &addresses[i]);
    }
    answer_looked_up(query, len, 0, len % 4, addresses, ARRAY_LEN(addresses), &out);
    check_answer(query, &out, DNS_UDP_MAX);
    buf_truncate(&out, 0);
    answer_failed(query, len, DNS_MESSAGE_MAX, &out);
    check_answer(query, &out, DNS_MESSAGE_MAX);
}

static void check_memo(const uint8_t *query, size_t len, const struct buf *answer)
{
    scoped(memo_free) struct memo *memo = memo_new();
    scoped(buf_done) struct buf again = BUF_INIT;

    memo_keep(memo, query, len, (const uint8_t *)answer->data, answer->len);
    if (memo_answer(memo, query, len, &again)) {
        CHECK(again.len == answer->len && memcmp(again.data, answer->data, answer->len) == 0);
    }
    memo_clear(memo);
    CHECK(!memo_answer(memo, query, len, &again));
}

static void check_query(const struct answer_source *source, const uint8_t *query, size_t len)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    char name[DNS_NAME_MAX + 1] = "";
    enum answer answer = answer_query(source, query, len, 0, &out, name);

    CHECK((answer == ANSWER_READY) == (out.len > 0));
    if (answer == ANSWER_READY) {
        check_answer(query, &out, DNS_UDP_MAX);
        check_memo(query, len, &out);
    } else if (answer == ANSWER_LOOKUP) {
        check_lookup(query, len, name);
    } else if (answer == ANSWER_RELAY) {
        CHECK(dns_question_len(query, len));
        CHECK(answer_udp_size(query, len) >= DNS_UDP_MIN);
    }
}

static void check_response(const uint8_t *query, size_t query_len, const uint8_t *response,
                           size_t len)
{
    static const size_t bounds[] = {DNS_UDP_MIN, 1232, DNS_UDP_MAX, DNS_MESSAGE_MAX};

    if (!dns_question_len(query, query_len) ||
        !dns_response_matches(query, query_len, response, len)) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        scoped(buf_done) struct buf out = BUF_INIT;

        dns_fit(response, len, bounds[i], &out);
        check_answer(response, &out, bounds[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct answer_source sources[2];
    size_t len;

    if (!sources[0].names) {
        sources[0] = source_new(false);
        sources[1] = source_new(true);
    }
    if (!size) {
        return 0;
    }
    len = MIN((size_t)data[0], size - 1);
    check_query(&sources[0], data + 1, len);
    check_query(&sources[1], data + 1, len);
    check_response(data + 1, len, data + 1 + len, size - 1 - len);
    return 0;
}
