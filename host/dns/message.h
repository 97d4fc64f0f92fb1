/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages by ldns: a query is read once, answers are made from it, answers of others are
 * checked against it and cut to what a client takes. No I/O. Everything that comes in is foreign.
 */
#pragma once

#include <ldns/ldns.h>
#include <stdbool.h>
#include "base/buf.h"
#include "config/config.h"

#define DNS_HEADER      12
#define DNS_NAME_MAX    253 /* characters of a name, without the last dot */
#define DNS_UDP_MIN     512
#define DNS_UDP_MAX     4096
#define DNS_MESSAGE_MAX 65535
#define DNS_BAD_VERSION 16 /* a response code that needs EDNS */

struct dns_query {
    ldns_pkt *packet;     /* owned */
    uint16_t type, class; /* of the one question */
    bool edns, dnssec_ok;
    bool bad_version;            /* of EDNS, deserves DNS_BAD_VERSION */
    size_t udp_size;             /* DNS_UDP_MIN..DNS_UDP_MAX: what a UDP answer may have */
    bool plain;                  /* the name is of letters, digits, '-', '_' and dots alone: */
    char name[DNS_NAME_MAX + 1]; /* lower case, without the last dot; else "" */
};

/*
 * Reads a query. 0, or what it deserves: >0 is the response code for dns_refuse(); <0: nothing at
 * all, since answers to answers never end. Only for 0 there is something for dns_query_done().
 */
int dns_query_parse(const uint8_t *wire, size_t len, struct dns_query *ret);
void dns_query_done(struct dns_query *query);
SCOPED_VAL(struct dns_query, dns_query_done)

/* What is known of a name. */
struct dns_records {
    const struct config_address *addresses; /* of either family; those that were asked for go out */
    size_t count;
    const char *alias;        /* the name that it stands for, or NULL */
    const char *const *names; /* for PTR; ends with NULL; or NULL */
    uint32_t ttl;
};

/*
 * Appends the answer to @query: @code (of RFC 1035, or DNS_BAD_VERSION) and those of @records that
 * were asked for, which may be none of them (NODATA). At most @max bytes: whole records are left
 * out at the end and TC is set.
 * @records may be NULL.
 */
void dns_respond(const struct dns_query *query, unsigned code, const struct dns_records *records,
                 size_t max, struct buf *out);
/* Appends an answer of nothing but a header to the message @wire, of DNS_HEADER bytes or more. */
void dns_refuse(const uint8_t *wire, unsigned code, struct buf *out);

/*
 * Bytes of the header and the one question, or 0 when the message has another number of them or is
 * broken there. A name in it is not compressed.
 */
size_t dns_question_len(const uint8_t *wire, size_t len);
/*
 * @response answers @query (whose question is sound): same id, operation and question. An answer
 * without any question passes only as a refusal (FORMERR, NOTIMP), which old servers send so.
 */
bool dns_response_matches(const uint8_t *query, size_t query_len, const uint8_t *response,
                          size_t response_len);
bool dns_response_truncated(const uint8_t *response);
unsigned dns_response_code(const uint8_t *response);

/*
 * Appends @response, which dns_response_matches() let pass, in at most @max (DNS_UDP_MIN or more)
 * bytes: unchanged when it fits, else with whole records left out at the end and TC set.
 */
void dns_fit(const uint8_t *response, size_t len, size_t max, struct buf *out);

uint16_t dns_id(const uint8_t *wire);
void dns_set_id(uint8_t *wire, uint16_t id);
