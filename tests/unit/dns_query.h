/* SPDX-License-Identifier: Apache-2.0 */
/* Queries and answers as the tests of DNS write and read them, by ldns. */
#pragma once

#include "test.h"

#include <ldns/ldns.h>
#include <stdio.h>
#include "base/buf.h"

#define QUERY_EDNS 1
#define QUERY_DO   2 /* needs QUERY_EDNS */
#define QUERY_ID   0x1234

/* A query of class IN; @udp_size counts with QUERY_EDNS. */
static inline void query_write(struct buf *out, const char *name, ldns_rr_type type, unsigned flags,
                               uint16_t udp_size)
{
    ldns_rdf *owner = ldns_dname_new_frm_str(name);
    ldns_pkt *packet = ldns_pkt_query_new(owner, type, LDNS_RR_CLASS_IN, LDNS_RD);
    uint8_t *wire = NULL;
    size_t len = 0;

    ldns_pkt_set_id(packet, QUERY_ID);
    if (flags & QUERY_EDNS) {
        ldns_pkt_set_edns_udp_size(packet, udp_size);
        ldns_pkt_set_edns_do(packet, flags & QUERY_DO);
    }
    assert_int_equal(ldns_pkt2wire(&wire, packet, &len), LDNS_STATUS_OK);
    buf_put(out, wire, len);
    free(wire);
    ldns_pkt_free(packet);
}

/*
 * What an answer says, in one line: code, "tc" if cut, then each record of the answer section as
 * "TYPE data". The caller frees it.
 */
static inline char *answer_text(const void *wire, size_t len)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    ldns_pkt *packet = NULL;
    char *code;

    if (ldns_wire2pkt(&packet, wire, len) != LDNS_STATUS_OK) {
        return xstrdup("broken");
    }
    code = ldns_pkt_rcode2str(ldns_pkt_get_rcode(packet));
    buf_printf(&text, "%s%s", code, ldns_pkt_tc(packet) ? " tc" : "");
    free(code);
    for (size_t i = 0; i < ldns_rr_list_rr_count(ldns_pkt_answer(packet)); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(ldns_pkt_answer(packet), i);
        char *type = ldns_rr_type2str(ldns_rr_get_type(rr));

        buf_printf(&text, " %s", type);
        free(type);
        for (size_t j = 0; j < ldns_rr_rd_count(rr); j++) {
            char *data = ldns_rdf2str(ldns_rr_rdf(rr, j));

            buf_printf(&text, " %s", data);
            free(data);
        }
    }
    ldns_pkt_free(packet);
    return buf_steal(&text);
}
