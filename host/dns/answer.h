/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a query: an answer from what is known here, a lookup by the host's own means, or
 * a relay to its servers. Pure: no I/O, no waiting.
 */
#pragma once

#include "base/buf.h"
#include "dns/hosts.h"
#include "dns/message.h"
#include "dns/names.h"

#define ANSWER_TTL_NAMES  60 /* seconds; these change with the configuration */
#define ANSWER_TTL_HOSTS  5  /* these may change at any time, and are asked for here */
#define ANSWER_TTL_LOOKUP 10 /* the C library tells no real one */

struct answer_source {
    const struct dns_names *names;
    const struct dns_hosts *hosts; /* NULL: lookups see to the host's table */
    bool ipv6;                     /* answer AAAA with addresses */
};

enum answer {
    ANSWER_NONE,   /* to be dropped */
    ANSWER_READY,  /* appended to the buf */
    ANSWER_LOOKUP, /* addresses of ret_name; answer_looked_up() makes the answer */
    ANSWER_RELAY,  /* the query as it is; dns_fit() makes the answer */
};

/*
 * @max: bytes that the answer may have; 0: what the query itself allows, as by UDP. @ret_name has
 * DNS_NAME_MAX + 1 bytes.
 */
enum answer answer_query(const struct answer_source *source, const uint8_t *wire, size_t len,
                         size_t max, struct buf *out, char *ret_name);

/* The answer to a query that was ANSWER_LOOKUP. */
void answer_looked_up(const uint8_t *wire, size_t len, size_t max, unsigned code,
                      const struct config_address *addresses, size_t count, struct buf *out);
/* The answer to a query that got no other: SERVFAIL. */
void answer_failed(const uint8_t *wire, size_t len, size_t max, struct buf *out);
/* Bytes that a UDP client takes by its own word: DNS_UDP_MIN..DNS_UDP_MAX. */
size_t answer_udp_size(const uint8_t *wire, size_t len);
