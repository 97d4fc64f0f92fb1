/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/message.h"

#include <ctype.h>
#include <string.h>
#include "base/alloc.h"

#define FLAG_QR     0x80 /* third byte of a header */
#define FLAG_OPCODE 0x78
#define FLAG_TC     0x02
#define FLAG_RD     0x01
#define MASK_RCODE  0x0f /* fourth byte */
#define LABEL_MAX   63

uint16_t dns_id(const uint8_t *wire)
{
    return (uint16_t)(wire[0] << 8 | wire[1]);
}

void dns_set_id(uint8_t *wire, uint16_t id)
{
    wire[0] = (uint8_t)(id >> 8);
    wire[1] = (uint8_t)id;
}

bool dns_response_truncated(const uint8_t *response)
{
    return response[2] & FLAG_TC;
}

unsigned dns_response_code(const uint8_t *response)
{
    return response[3] & MASK_RCODE;
}

static unsigned question_count(const uint8_t *wire)
{
    return (unsigned)(wire[4] << 8 | wire[5]);
}

size_t dns_question_len(const uint8_t *wire, size_t len)
{
    size_t at = DNS_HEADER;

    if (len < DNS_HEADER || question_count(wire) != 1) {
        return 0;
    }
    while (at < len && wire[at]) {
        if (wire[at] > LABEL_MAX) {
            return 0;
        }
        at += 1u + wire[at];
    }
    at += 1 + 2 * sizeof(uint16_t);
    return at <= len && at <= DNS_HEADER + DNS_NAME_MAX + 2 + 4 ? at : 0;
}

/* The name of a sound question, when text can stand for it: see struct dns_query. */
static void read_name(const uint8_t *wire, struct dns_query *query)
{
    const uint8_t *label = wire + DNS_HEADER;
    size_t len = 0;

    query->plain = *label != 0;
    for (; *label && query->plain; label += 1 + *label) {
        if (len) {
            query->name[len++] = '.';
        }
        for (unsigned i = 1; i <= *label; i++) {
            query->plain =
                query->plain && (isalnum(label[i]) || label[i] == '-' || label[i] == '_');
            query->name[len++] = (char)tolower(label[i]);
        }
    }
    query->name[query->plain ? len : 0] = '\0';
}

static void take_edns(struct dns_query *query)
{
    query->edns = ldns_pkt_edns(query->packet);
    query->udp_size = DNS_UDP_MIN;
    if (query->edns) {
        size_t size = ldns_pkt_edns_udp_size(query->packet);

        query->udp_size = MIN(MAX(size, (size_t)DNS_UDP_MIN), (size_t)DNS_UDP_MAX);
        query->dnssec_ok = ldns_pkt_edns_do(query->packet);
        query->bad_version = ldns_pkt_edns_version(query->packet) != 0;
    }
}

int dns_query_parse(const uint8_t *wire, size_t len, struct dns_query *ret)
{
    struct dns_query query = {0};

    if (len < DNS_HEADER || (wire[2] & FLAG_QR)) {
        return -EBADMSG;
    }
    if (wire[2] & FLAG_OPCODE) {
        return LDNS_RCODE_NOTIMPL;
    }
    /* As long as by UDP: it is kept while its answer is under way, and there may be many. */
    if (len > DNS_UDP_MAX || !dns_question_len(wire, len) ||
        ldns_wire2pkt(&query.packet, wire, len) != LDNS_STATUS_OK) {
        return LDNS_RCODE_FORMERR;
    }
    if (ldns_pkt_ancount(query.packet) || ldns_pkt_nscount(query.packet)) {
        ldns_pkt_free(query.packet);
        return LDNS_RCODE_FORMERR;
    }
    query.type = ldns_rr_get_type(ldns_rr_list_rr(ldns_pkt_question(query.packet), 0));
    query.class = ldns_rr_get_class(ldns_rr_list_rr(ldns_pkt_question(query.packet), 0));
    read_name(wire, &query);
    take_edns(&query);
    *ret = query;
    return 0;
}

void dns_query_done(struct dns_query *query)
{
    if (query->packet) {
        ldns_pkt_free(query->packet);
    }
    *query = (struct dns_query){0};
}

void dns_refuse(const uint8_t *wire, unsigned code, struct buf *out)
{
    uint8_t header[DNS_HEADER] = {
        wire[0], wire[1], (uint8_t)(FLAG_QR | (wire[2] & FLAG_OPCODE) | (wire[2] & FLAG_RD)),
        (uint8_t)(code & MASK_RCODE)};

    buf_put(out, header, sizeof(header));
}

/* --- answers of our own --- */

static const ldns_rr *question_of(const struct dns_query *query)
{
    return ldns_rr_list_rr(ldns_pkt_question(query->packet), 0);
}

static ldns_pkt *begin_answer(const struct dns_query *query, unsigned code)
{
    ldns_pkt *packet = ldns_pkt_new();

    ldns_pkt_set_id(packet, ldns_pkt_id(query->packet));
    ldns_pkt_set_qr(packet, true);
    ldns_pkt_set_ra(packet, true);
    ldns_pkt_set_rd(packet, ldns_pkt_rd(query->packet));
    ldns_pkt_set_cd(packet, ldns_pkt_cd(query->packet));
    ldns_pkt_set_rcode(packet, code & MASK_RCODE);
    if (query->edns) {
        ldns_pkt_set_edns_udp_size(packet, DNS_UDP_MAX);
        ldns_pkt_set_edns_extended_rcode(packet, (uint8_t)(code >> 4));
        ldns_pkt_set_edns_do(packet, query->dnssec_ok);
    }
    ldns_pkt_push_rr(packet, LDNS_SECTION_QUESTION, ldns_rr_clone(question_of(query)));
    return packet;
}

static void add_record(ldns_pkt *packet, const struct dns_query *query, ldns_rr_type type,
                       uint32_t ttl, ldns_rdf *take_data)
{
    ldns_rr *rr = ldns_rr_new();

    ldns_rr_set_owner(rr, ldns_rdf_clone(ldns_rr_owner(question_of(query))));
    ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
    ldns_rr_set_type(rr, type);
    ldns_rr_set_ttl(rr, ttl);
    ldns_rr_push_rdf(rr, take_data);
    ldns_pkt_push_rr(packet, LDNS_SECTION_ANSWER, rr);
}

static bool asked(const struct dns_query *query, ldns_rr_type type)
{
    return query->type == type || query->type == LDNS_RR_TYPE_ANY;
}

static void add_addresses(ldns_pkt *packet, const struct dns_query *query,
                          const struct dns_records *records)
{
    for (size_t i = 0; i < records->count; i++) {
        const struct config_address *address = &records->addresses[i];
        bool v6 = address->family == AF_INET6;
        ldns_rr_type type = v6 ? LDNS_RR_TYPE_AAAA : LDNS_RR_TYPE_A;

        if (asked(query, type)) {
            add_record(packet, query, type, records->ttl,
                       ldns_rdf_new_frm_data(v6 ? LDNS_RDF_TYPE_AAAA : LDNS_RDF_TYPE_A, v6 ? 16 : 4,
                                             &address->v6));
        }
    }
}

static void add_name(ldns_pkt *packet, const struct dns_query *query, ldns_rr_type type,
                     uint32_t ttl, const char *name)
{
    ldns_rdf *data = ldns_dname_new_frm_str(name);

    if (data) {
        add_record(packet, query, type, ttl, data);
    }
}

static void add_records(ldns_pkt *packet, const struct dns_query *query,
                        const struct dns_records *records)
{
    add_addresses(packet, query, records);
    if (records->alias && asked(query, LDNS_RR_TYPE_CNAME)) {
        add_name(packet, query, LDNS_RR_TYPE_CNAME, records->ttl, records->alias);
    }
    for (size_t i = 0; records->names && records->names[i] && asked(query, LDNS_RR_TYPE_PTR); i++) {
        add_name(packet, query, LDNS_RR_TYPE_PTR, records->ttl, records->names[i]);
    }
}

/* --- to the length that a client takes --- */

/* Records behind the question, in the order in which they are sent. */
static size_t record_count(const ldns_pkt *packet)
{
    return (size_t)ldns_pkt_ancount(packet) + ldns_pkt_nscount(packet) + ldns_pkt_arcount(packet);
}

/* The first @keep of the records of @counts; both the lists and the header have a count. */
static void keep_records(ldns_pkt *packet, const uint16_t counts[3], size_t keep)
{
    uint16_t kept[3];

    for (size_t i = 0; i < 3; i++) {
        kept[i] = (uint16_t)MIN(keep, (size_t)counts[i]);
        keep -= kept[i];
    }
    ldns_rr_list_set_rr_count(ldns_pkt_answer(packet), kept[0]);
    ldns_rr_list_set_rr_count(ldns_pkt_authority(packet), kept[1]);
    ldns_rr_list_set_rr_count(ldns_pkt_additional(packet), kept[2]);
    ldns_pkt_set_ancount(packet, kept[0]);
    ldns_pkt_set_nscount(packet, kept[1]);
    ldns_pkt_set_arcount(packet, kept[2]);
}

/* Bytes in @buffer, or 0 when it did not work out. */
static size_t encode(const ldns_pkt *packet, ldns_buffer *buffer)
{
    ldns_buffer_clear(buffer);
    if (ldns_pkt2buffer_wire(buffer, packet) != LDNS_STATUS_OK) {
        return 0;
    }
    return ldns_buffer_position(buffer);
}

/*
 * As many records as fit @max, by halving: a message of 64 KiB has thousands of them. Returns the
 * bytes in @buffer; 0 when not even the question fits.
 */
static size_t encode_within(ldns_pkt *packet, size_t max, ldns_buffer *buffer)
{
    uint16_t counts[3] = {ldns_pkt_ancount(packet), ldns_pkt_nscount(packet),
                          ldns_pkt_arcount(packet)};
    size_t fits = 0, beyond = record_count(packet);
    size_t len;

    while (fits + 1 < beyond) {
        size_t middle = fits + (beyond - fits) / 2;

        keep_records(packet, counts, middle);
        len = encode(packet, buffer);
        if (len && len <= max) {
            fits = middle;
        } else {
            beyond = middle;
        }
    }
    keep_records(packet, counts, fits);
    ldns_pkt_set_tc(packet, ldns_pkt_tc(packet) || fits < (size_t)counts[0] + counts[1]);
    len = encode(packet, buffer);
    keep_records(packet, counts, SIZE_MAX); /* so that all are freed */
    return len <= max ? len : 0;
}

static void put_buffer(ldns_buffer *buffer, size_t len, struct buf *out)
{
    buf_put(out, ldns_buffer_begin(buffer), len);
}

/* A question that ldns reads and cannot write. */
static void put_failure(const struct dns_query *query, struct buf *out)
{
    uint8_t header[DNS_HEADER] = {0};

    dns_set_id(header, ldns_pkt_id(query->packet));
    dns_refuse(header, LDNS_RCODE_SERVFAIL, out);
}

void dns_respond(const struct dns_query *query, unsigned code, const struct dns_records *records,
                 size_t max, struct buf *out)
{
    ldns_pkt *packet = begin_answer(query, code);
    ldns_buffer *buffer = ldns_buffer_new(DNS_MESSAGE_MAX);
    size_t len;

    if (records) {
        add_records(packet, query, records);
    }
    len = encode(packet, buffer);
    if (len > max) {
        len = encode_within(packet, max, buffer);
    }
    if (len) {
        put_buffer(buffer, len, out);
    } else {
        put_failure(query, out);
    }
    ldns_buffer_free(buffer);
    ldns_pkt_free(packet);
}

/* --- answers of others --- */

static bool same_question(const uint8_t *a, const uint8_t *b, size_t len)
{
    size_t name_end = len - 2 * sizeof(uint16_t);

    /* Lengths of labels are below 'A', so all of the name may be compared without regard to case.
     */
    for (size_t i = DNS_HEADER; i < name_end; i++) {
        if (tolower(a[i]) != tolower(b[i])) {
            return false;
        }
    }
    return memcmp(a + name_end, b + name_end, len - name_end) == 0;
}

bool dns_response_matches(const uint8_t *query, size_t query_len, const uint8_t *response,
                          size_t response_len)
{
    size_t len = dns_question_len(query, query_len);
    unsigned code;

    if (response_len < DNS_HEADER || dns_id(query) != dns_id(response) ||
        !(response[2] & FLAG_QR) || ((query[2] ^ response[2]) & FLAG_OPCODE)) {
        return false;
    }
    if (question_count(response) == 0) {
        code = dns_response_code(response);
        return response_len == DNS_HEADER &&
               (code == LDNS_RCODE_FORMERR || code == LDNS_RCODE_NOTIMPL);
    }
    return len && dns_question_len(response, response_len) == len &&
           same_question(query, response, len);
}

/* For what ldns does not understand: the question alone, so that the client asks again by TCP. */
static void put_question(const uint8_t *response, size_t len, struct buf *out)
{
    size_t question = dns_question_len(response, len);
    uint8_t *at;

    buf_put(out, response, question ? question : DNS_HEADER);
    at = (uint8_t *)out->data + out->len - (question ? question : DNS_HEADER);
    at[2] |= FLAG_TC;
    memset(at + 4, 0, DNS_HEADER - 4);
    at[5] = question ? 1 : 0;
}

void dns_fit(const uint8_t *response, size_t len, size_t max, struct buf *out)
{
    ldns_pkt *packet = NULL;
    ldns_buffer *buffer;
    size_t fitted = 0;

    if (len <= max) {
        buf_put(out, response, len);
        return;
    }
    if (ldns_wire2pkt(&packet, response, len) == LDNS_STATUS_OK) {
        buffer = ldns_buffer_new(DNS_MESSAGE_MAX);
        fitted = encode_within(packet, max, buffer);
        put_buffer(buffer, fitted, out);
        ldns_buffer_free(buffer);
        ldns_pkt_free(packet);
    }
    if (!fitted) {
        put_question(response, len, out);
    }
}
