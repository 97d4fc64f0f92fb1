/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/answer.h"
#include <arpa/inet.h>
#include "dns_query.h"

struct fixture {
    struct dns_names *names;
    struct dns_hosts *hosts;
    struct answer_source source;
};

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    f->names = dns_names_new();
    dns_names_add(f->names, "host.lima.internal", "192.168.5.2");
    dns_names_add(f->names, "Lima-A.Internal.", "192.168.5.15");
    dns_names_add(f->names, "six", "fd00::1");
    dns_names_add(f->names, "one", "TWO.");
    dns_names_add(f->names, "two", "three");
    dns_names_add(f->names, "three", "10.0.0.3");
    dns_names_add(f->names, "round", "about");
    dns_names_add(f->names, "about", "round");
    dns_names_add(f->names, "self", "self");
    dns_names_add(f->names, "web", "www.example.com");
    dns_names_add(f->names, "box", "db.host");
    f->hosts = dns_hosts_parse(xstrdup("127.0.0.1 localhost\n"
                                       "10.1.1.1\tDB.host db # comment with names\n"
                                       "fd00::5 db.host\n"
                                       "10.1.1.2 db.host\n"));
    f->source = (struct answer_source){f->names, f->hosts, .ipv6 = true};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    dns_names_free(f->names);
    dns_hosts_free(f->hosts);
    free(f);
    return 0;
}

static const char *const verdicts[] = {"none", "ready", "lookup", "relay"};

/* "verdict: what it says", as answer_text() has it; or the name to look up. The caller frees it. */
static char *ask_with(const struct answer_source *source, const struct buf *query, size_t max)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    char name[DNS_NAME_MAX + 1] = "";
    enum answer answer =
        answer_query(source, (const uint8_t *)query->data, query->len, max, &out, name);
    scoped(free) char *text = out.len ? answer_text(out.data, out.len) : xstrdup(name);

    if (out.len) {
        assert_memory_equal(out.data, query->data, 2);
    }
    return xasprintf("%s: %s", verdicts[answer], text);
}

static void check(const struct answer_source *source, const char *name, ldns_rr_type type,
                  unsigned flags, const char *want)
{
    scoped(buf_done) struct buf query = BUF_INIT;
    scoped(free) char *got = NULL;

    query_write(&query, name, type, flags, 4096);
    got = ask_with(source, &query, 0);
    if (strcmp(got, want) != 0) {
        fail_msg("%s: %s, not %s", name, got, want);
    }
}

struct row {
    const char *name;
    ldns_rr_type type;
    const char *want;
};

static void check_rows(const struct answer_source *source, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check(source, rows[i].name, rows[i].type, 0, rows[i].want);
    }
}

static void test_own_names_are_exact_and_whatever_the_case(void **state)
{
    static const struct row rows[] = {
        {"host.lima.internal", LDNS_RR_TYPE_A, "ready: NOERROR A 192.168.5.2"},
        {"HOST.lima.INTERNAL", LDNS_RR_TYPE_A, "ready: NOERROR A 192.168.5.2"},
        {"lima-a.internal", LDNS_RR_TYPE_A, "ready: NOERROR A 192.168.5.15"},
        {"six", LDNS_RR_TYPE_AAAA, "ready: NOERROR AAAA fd00::1"},
        {"x.host.lima.internal", LDNS_RR_TYPE_A, "lookup: x.host.lima.internal"},
        {"lima.internal", LDNS_RR_TYPE_A, "lookup: lima.internal"},
        {"host.lima.internal.example.com", LDNS_RR_TYPE_A,
         "lookup: host.lima.internal.example.com"},
    };

    check_rows(&((struct fixture *)*state)->source, rows, ARRAY_LEN(rows));
}

static void test_other_types_of_own_names_have_no_data_but_the_name_is_there(void **state)
{
    static const struct row rows[] = {
        {"host.lima.internal", LDNS_RR_TYPE_AAAA, "ready: NOERROR"},
        {"host.lima.internal", LDNS_RR_TYPE_TXT, "ready: NOERROR"},
        {"host.lima.internal", LDNS_RR_TYPE_HTTPS, "ready: NOERROR"},
        {"host.lima.internal", LDNS_RR_TYPE_ANY, "ready: NOERROR A 192.168.5.2"},
        {"six", LDNS_RR_TYPE_A, "ready: NOERROR"},
        {"2.5.168.192.in-addr.arpa", LDNS_RR_TYPE_PTR, "ready: NOERROR PTR host.lima.internal."},
        {"9.5.168.192.in-addr.arpa", LDNS_RR_TYPE_PTR, "relay: "},
    };

    check_rows(&((struct fixture *)*state)->source, rows, ARRAY_LEN(rows));
}

static void test_chains_are_followed_and_circles_cut(void **state)
{
    static const struct row rows[] = {
        {"one", LDNS_RR_TYPE_A, "ready: NOERROR A 10.0.0.3"},
        {"one", LDNS_RR_TYPE_CNAME, "ready: NOERROR CNAME two."},
        {"one", LDNS_RR_TYPE_AAAA, "ready: NOERROR"},
        {"round", LDNS_RR_TYPE_A, "ready: NOERROR"},
        {"self", LDNS_RR_TYPE_A, "ready: NOERROR"},
        {"web", LDNS_RR_TYPE_A, "lookup: www.example.com"},
        {"web", LDNS_RR_TYPE_AAAA, "lookup: www.example.com"},
        {"web", LDNS_RR_TYPE_CNAME, "ready: NOERROR CNAME www.example.com."},
        {"box", LDNS_RR_TYPE_A, "ready: NOERROR A 10.1.1.1 A 10.1.1.2"},
    };

    check_rows(&((struct fixture *)*state)->source, rows, ARRAY_LEN(rows));
}

static void test_names_of_the_hosts_table_need_nobody_else(void **state)
{
    static const struct row rows[] = {
        {"localhost", LDNS_RR_TYPE_A, "ready: NOERROR A 127.0.0.1"},
        {"localhost", LDNS_RR_TYPE_AAAA, "ready: NOERROR"},
        {"a.localhost", LDNS_RR_TYPE_A, "ready: NOERROR A 127.0.0.1"},
        {"a.localhost", LDNS_RR_TYPE_AAAA, "ready: NOERROR AAAA ::1"},
        {"db.HOST", LDNS_RR_TYPE_A, "ready: NOERROR A 10.1.1.1 A 10.1.1.2"},
        {"db.host", LDNS_RR_TYPE_AAAA, "ready: NOERROR AAAA fd00::5"},
        {"db", LDNS_RR_TYPE_A, "ready: NOERROR A 10.1.1.1"},
        {"comment", LDNS_RR_TYPE_A, "lookup: comment"},
        {"db.host", LDNS_RR_TYPE_MX, "relay: "},
    };

    check_rows(&((struct fixture *)*state)->source, rows, ARRAY_LEN(rows));
}

static void test_addresses_are_looked_up_and_all_else_is_relayed(void **state)
{
    static const struct row rows[] = {
        {"Example.com", LDNS_RR_TYPE_A, "lookup: example.com"},
        {"_dmarc.example.com", LDNS_RR_TYPE_AAAA, "lookup: _dmarc.example.com"},
        {"example.com", LDNS_RR_TYPE_TXT, "relay: "},
        {"example.com", LDNS_RR_TYPE_SRV, "relay: "},
        {"example.com", LDNS_RR_TYPE_HTTPS, "relay: "},
        {"example.com", LDNS_RR_TYPE_CNAME, "relay: "},
        {".", LDNS_RR_TYPE_NS, "relay: "},
        {"odd\\032name.example.com", LDNS_RR_TYPE_A, "relay: "},
        {"example.com", LDNS_RR_TYPE_AXFR, "ready: REFUSED"},
    };
    struct fixture *f = *state;

    check_rows(&f->source, rows, ARRAY_LEN(rows));
    check(&f->source, "example.com", LDNS_RR_TYPE_A, QUERY_EDNS, "lookup: example.com");
    check(&f->source, "example.com", LDNS_RR_TYPE_A, QUERY_EDNS | QUERY_DO, "relay: ");
    check(&f->source, "db.host", LDNS_RR_TYPE_AAAA, QUERY_EDNS | QUERY_DO,
          "ready: NOERROR AAAA fd00::5");
}

static void test_without_ipv6_no_name_has_such_addresses(void **state)
{
    static const struct row rows[] = {
        {"example.com", LDNS_RR_TYPE_AAAA, "ready: NOERROR"},
        {"six", LDNS_RR_TYPE_AAAA, "ready: NOERROR"},
        {"db.host", LDNS_RR_TYPE_AAAA, "ready: NOERROR"},
        {"example.com", LDNS_RR_TYPE_A, "lookup: example.com"},
    };
    struct fixture *f = *state;

    f->source.ipv6 = false;
    check_rows(&f->source, rows, ARRAY_LEN(rows));
}

static void test_without_the_table_its_names_are_looked_up(void **state)
{
    struct fixture *f = *state;

    f->source.hosts = NULL;
    check(&f->source, "db.host", LDNS_RR_TYPE_A, 0, "lookup: db.host");
    check(&f->source, "localhost", LDNS_RR_TYPE_A, 0, "ready: NOERROR A 127.0.0.1");
}

/* As many addresses as make an answer of more than 4096 bytes. */
#define MANY 300

static size_t answer_len(const struct buf *query, size_t max, char **ret_text)
{
    struct config_address addresses[MANY];
    scoped(buf_done) struct buf out = BUF_INIT;

    for (unsigned i = 0; i < MANY; i++) {
        addresses[i] = (struct config_address){.family = AF_INET, .v4 = {htonl(0x0a000000u + i)}};
    }
    answer_looked_up((const uint8_t *)query->data, query->len, max, LDNS_RCODE_NOERROR, addresses,
                     MANY, &out);
    *ret_text = answer_text(out.data, out.len);
    return out.len;
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;

    while ((text = strstr(text, part))) {
        count++;
        text += strlen(part);
    }
    return count;
}

static void test_answers_are_cut_by_whole_records_to_what_the_client_takes(void **state)
{
    static const struct {
        unsigned flags;
        uint16_t udp_size;
        size_t max, least, most;
        size_t records;
    } rows[] = {
        {0, 0, 0, 497, 512, 30},
        {QUERY_EDNS, 100, 0, 497, 512, 29},
        {QUERY_EDNS, 1232, 0, 1217, 1232, 74},
        {QUERY_EDNS, 4096, 0, 4081, 4096, 253},
        {QUERY_EDNS, 65535, 0, 4081, 4096, 253},
        {0, 0, DNS_MESSAGE_MAX, 4800, 5000, MANY},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        scoped(buf_done) struct buf query = BUF_INIT;
        scoped(free) char *text = NULL;
        size_t len;

        query_write(&query, "many.example", LDNS_RR_TYPE_A, rows[i].flags, rows[i].udp_size);
        len = answer_len(&query, rows[i].max, &text);
        assert_in_range(len, rows[i].least, rows[i].most);
        assert_int_equal(count_of(text, " A 10."), rows[i].records);
        assert_int_equal(strncmp(text, "NOERROR tc", 10) == 0, rows[i].records < MANY);
    }
}

static void test_edns_is_answered_with_edns_and_only_then(void **state)
{
    struct fixture *f = *state;

    for (unsigned flags = 0; flags <= QUERY_EDNS; flags++) {
        scoped(buf_done) struct buf query = BUF_INIT, out = BUF_INIT;
        char name[DNS_NAME_MAX + 1];
        ldns_pkt *packet = NULL;

        query_write(&query, "host.lima.internal", LDNS_RR_TYPE_A, flags, 1232);
        answer_query(&f->source, (const uint8_t *)query.data, query.len, 0, &out, name);
        assert_int_equal(ldns_wire2pkt(&packet, (uint8_t *)out.data, out.len), LDNS_STATUS_OK);
        assert_int_equal(ldns_pkt_edns(packet), flags == QUERY_EDNS);
        assert_int_equal(ldns_pkt_edns_udp_size(packet), flags ? DNS_UDP_MAX : 0);
        assert_true(ldns_pkt_qr(packet) && ldns_pkt_ra(packet) && ldns_pkt_rd(packet));
        ldns_pkt_free(packet);
    }
}

static void test_a_later_version_of_edns_is_told_so(void **state)
{
    struct fixture *f = *state;
    scoped(buf_done) struct buf query = BUF_INIT, out = BUF_INIT;
    char name[DNS_NAME_MAX + 1];
    ldns_pkt *packet = NULL;

    query_write(&query, "host.lima.internal", LDNS_RR_TYPE_A, QUERY_EDNS, 1232);
    query.data[query.len - 5] = 1; /* version, in what is the TTL of the OPT record */
    answer_query(&f->source, (const uint8_t *)query.data, query.len, 0, &out, name);
    assert_int_equal(ldns_wire2pkt(&packet, (uint8_t *)out.data, out.len), LDNS_STATUS_OK);
    assert_int_equal(ldns_pkt_get_rcode(packet), 0);
    assert_int_equal(ldns_pkt_edns_extended_rcode(packet), 1);
    assert_int_equal(ldns_pkt_ancount(packet), 0);
    ldns_pkt_free(packet);
}

static void test_what_is_no_query_gets_what_it_deserves(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        enum answer answer;
        unsigned code;
    } rows[] = {
        {"", 0, ANSWER_NONE, 0},
        {"\x12\x34\x01\0\0\1\0\0\0\0\0", 11, ANSWER_NONE, 0},
        {"\x12\x34\x81\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", 19, ANSWER_NONE, 0}, /* itself an answer */
        {"\x12\x34\x01\0\0\0\0\0\0\0\0\0", 12, ANSWER_READY, LDNS_RCODE_FORMERR},
        {"\x12\x34\x01\0\0\2\0\0\0\0\0\0\1a\0\0\1\0\1\1b\0\0\1\0\1", 26, ANSWER_READY,
         LDNS_RCODE_FORMERR},
        {"\x12\x34\x01\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", 18, ANSWER_READY, LDNS_RCODE_FORMERR},
        {"\x12\x34\x01\0\0\1\0\0\0\0\0\0\x40\0\0\1\0\1", 18, ANSWER_READY, LDNS_RCODE_FORMERR},
        {"\x12\x34\x01\0\0\1\0\1\0\0\0\0\1a\0\0\1\0\1\1a\0\0\1\0\1\0\0\0\0\0\4aaaa", 33,
         ANSWER_READY, LDNS_RCODE_FORMERR},
        {"\x12\x34\x28\0\0\1\0\0\0\0\0\0\1a\0\0\6\0\1", 19, ANSWER_READY, LDNS_RCODE_NOTIMPL},
        {"\x12\x34\x10\0\0\0\0\0\0\0\0\0", 12, ANSWER_READY, LDNS_RCODE_NOTIMPL},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        scoped(buf_done) struct buf out = BUF_INIT;
        char name[DNS_NAME_MAX + 1];

        assert_int_equal(
            answer_query(&f->source, (const uint8_t *)rows[i].bytes, rows[i].len, 0, &out, name),
            rows[i].answer);
        if (rows[i].answer == ANSWER_READY) {
            assert_int_equal(out.len, DNS_HEADER);
            assert_memory_equal(out.data, rows[i].bytes, 2);
            assert_int_equal(dns_response_code((uint8_t *)out.data), rows[i].code);
            assert_true(out.data[2] & 0x80);
        } else {
            assert_int_equal(out.len, 0);
        }
    }
}

static void test_a_query_longer_than_any_is_refused(void **state)
{
    static const char begin[] = "\x12\x34\x01\0\0\1\0\0\0\0\0\1\1a\0\0\1\0\1"
                                "\0\0\x29\x10\0\0\0\0\0"; /* EDNS; its data's length follows */
    struct fixture *f = *state;

    for (size_t len = DNS_UDP_MAX; len <= DNS_UDP_MAX + 1; len++) {
        size_t begin_len = sizeof(begin) - 1, left = len - begin_len - 2;
        scoped(free) uint8_t *query = xcalloc(1, len);
        scoped(buf_done) struct buf out = BUF_INIT;
        char name[DNS_NAME_MAX + 1];

        memcpy(query, begin, begin_len);
        query[begin_len] = (uint8_t)(left >> 8);
        query[begin_len + 1] = (uint8_t)left;
        query[begin_len + 3] = 1; /* one option, of a number that nobody knows */
        query[begin_len + 4] = (uint8_t)((left - 4) >> 8);
        query[begin_len + 5] = (uint8_t)(left - 4);
        assert_int_equal(answer_query(&f->source, query, len, DNS_MESSAGE_MAX, &out, name),
                         len > DNS_UDP_MAX ? ANSWER_READY : ANSWER_LOOKUP);
        if (len > DNS_UDP_MAX) {
            assert_int_equal(dns_response_code((uint8_t *)out.data), LDNS_RCODE_FORMERR);
        }
    }
}

/* Whatever is cut off or changed, there is an answer to it that can be read, or none is due. */
static void test_a_query_broken_at_any_byte_is_survived(void **state)
{
    struct fixture *f = *state;
    scoped(buf_done) struct buf query = BUF_INIT;
    char name[DNS_NAME_MAX + 1];

    query_write(&query, "host.lima.internal", LDNS_RR_TYPE_A, QUERY_EDNS | QUERY_DO, 1232);
    for (size_t at = 0; at < query.len; at++) {
        for (unsigned change = 0; change <= 0xff; change++) {
            scoped(buf_done) struct buf out = BUF_INIT;
            char kept = query.data[at];
            enum answer answer;

            query.data[at] = (char)(kept ^ (char)change);
            answer = answer_query(&f->source, (const uint8_t *)query.data, change ? query.len : at,
                                  0, &out, name);
            assert_int_equal(answer == ANSWER_READY, out.len >= DNS_HEADER);
            query.data[at] = kept;
        }
    }
}

/* A TXT answer of @strings strings of 255 characters. */
static void write_response(struct buf *out, size_t strings)
{
    ldns_rr *rr = NULL;
    ldns_pkt *packet = ldns_pkt_new();
    scoped(buf_done) struct buf text = BUF_INIT;
    uint8_t *wire = NULL;
    size_t len = 0;

    ldns_pkt_set_id(packet, QUERY_ID);
    ldns_pkt_set_qr(packet, true);
    ldns_pkt_push_rr(packet, LDNS_SECTION_QUESTION, ldns_rr_new_frm_type(LDNS_RR_TYPE_TXT));
    ldns_rr_set_question(ldns_rr_list_rr(ldns_pkt_question(packet), 0), true);
    ldns_rr_set_owner(ldns_rr_list_rr(ldns_pkt_question(packet), 0),
                      ldns_dname_new_frm_str("t.example"));
    for (size_t i = 0; i < strings; i++) {
        buf_truncate(&text, 0);
        buf_puts(&text, "t.example 60 IN TXT ");
        for (size_t j = 0; j < 255; j++) {
            buf_putc(&text, (char)('a' + i % 26));
        }
        assert_int_equal(ldns_rr_new_frm_str(&rr, text.data, 0, NULL, NULL), LDNS_STATUS_OK);
        ldns_pkt_push_rr(packet, LDNS_SECTION_ANSWER, rr);
    }
    assert_int_equal(ldns_pkt2wire(&wire, packet, &len), LDNS_STATUS_OK);
    buf_put(out, wire, len);
    free(wire);
    ldns_pkt_free(packet);
}

static void test_answers_of_others_are_cut_only_when_they_do_not_fit(void **state)
{
    scoped(buf_done) struct buf response = BUF_INIT, out = BUF_INIT;

    write_response(&response, 10);
    dns_fit((uint8_t *)response.data, response.len, 4096, &out);
    assert_int_equal(out.len, response.len);
    assert_memory_equal(out.data, response.data, response.len);
    for (size_t max = DNS_UDP_MIN; max < response.len; max += 100) {
        scoped(free) char *text = NULL;

        buf_truncate(&out, 0);
        dns_fit((uint8_t *)response.data, response.len, max, &out);
        text = answer_text(out.data, out.len);
        assert_in_range(out.len, DNS_HEADER, max);
        assert_true(dns_response_truncated((uint8_t *)out.data));
        assert_int_equal(count_of(text, " TXT "), (max - 27) / 268);
    }
}

static void test_an_answer_that_ldns_cannot_read_is_cut_to_its_question(void **state)
{
    scoped(buf_done) struct buf response = BUF_INIT, out = BUF_INIT;

    write_response(&response, 3);
    response.data[response.len - 256] = 1; /* a string shorter than its record */
    response.data[6] = 127;                /* many more records than there are */
    dns_fit((uint8_t *)response.data, response.len, DNS_UDP_MIN, &out);
    assert_int_equal(out.len, 27);
    assert_true(dns_response_truncated((uint8_t *)out.data));
    assert_int_equal(dns_question_len((uint8_t *)out.data, out.len), 27);
}

static void test_only_an_answer_to_this_very_question_matches(void **state)
{
    scoped(buf_done) struct buf query = BUF_INIT, response = BUF_INIT;
    const uint8_t *q, *r;
    size_t question = 27;

    query_write(&query, "T.example", LDNS_RR_TYPE_TXT, 0, 0);
    write_response(&response, 2);
    q = (uint8_t *)query.data;
    r = (uint8_t *)response.data;
    assert_true(dns_response_matches(q, query.len, r, response.len));
    for (size_t at = 0; at < question; at++) {
        bool matters = at < 2 || at == 4 || at == 5 || at >= DNS_HEADER;

        response.data[at] ^= 0x02;
        if (matters) {
            assert_false(dns_response_matches(q, query.len, r, response.len));
        }
        response.data[at] ^= 0x02;
    }
    for (size_t len = 0; len < question; len++) {
        assert_false(dns_response_matches(q, query.len, r, len));
    }
    response.data[2] &= 0x7f;
    assert_false(dns_response_matches(q, query.len, r, response.len));
}

static void test_a_refusal_may_come_without_the_question(void **state)
{
    scoped(buf_done) struct buf query = BUF_INIT, response = BUF_INIT;

    query_write(&query, "t.example", LDNS_RR_TYPE_TXT, QUERY_EDNS, 1232);
    dns_refuse((uint8_t *)query.data, LDNS_RCODE_FORMERR, &response);
    assert_true(dns_response_matches((uint8_t *)query.data, query.len, (uint8_t *)response.data,
                                     response.len));
    response.data[3] = LDNS_RCODE_NXDOMAIN;
    assert_false(dns_response_matches((uint8_t *)query.data, query.len, (uint8_t *)response.data,
                                      response.len));
}

static void test_nsswitch_says_when_the_table_is_looked_into(void **state)
{
    static const struct {
        const char *text;
        enum dns_hosts_place want;
    } rows[] = {
        {"hosts: files dns\n", DNS_HOSTS_FIRST},
        {"passwd: files\n  hosts:\tfiles mdns4_minimal [NOTFOUND=return] dns\n", DNS_HOSTS_FIRST},
        {"hosts: files\n", DNS_HOSTS_FIRST},
        {"hosts: files [SUCCESS=continue] dns\n", DNS_HOSTS_LATER},
        {"hosts: mymachines resolve [!UNAVAIL=return] files dns\n", DNS_HOSTS_LATER},
        {"hosts: dns\n", DNS_HOSTS_NEVER},
        {"hosts: dns # files\n", DNS_HOSTS_NEVER},
        {"hosts: filesystem dns\nnetworks: files\n", DNS_HOSTS_NEVER},
        {"#hosts: files\n", DNS_HOSTS_LATER},
        {"", DNS_HOSTS_LATER},
        {"hosts: [", DNS_HOSTS_NEVER},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(dns_hosts_place_parse(rows[i].text), rows[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_own_names_are_exact_and_whatever_the_case, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_other_types_of_own_names_have_no_data_but_the_name_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chains_are_followed_and_circles_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_of_the_hosts_table_need_nobody_else, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_addresses_are_looked_up_and_all_else_is_relayed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_ipv6_no_name_has_such_addresses, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_the_table_its_names_are_looked_up, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_answers_are_cut_by_whole_records_to_what_the_client_takes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_edns_is_answered_with_edns_and_only_then, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_later_version_of_edns_is_told_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_query_gets_what_it_deserves, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_query_longer_than_any_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_query_broken_at_any_byte_is_survived, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_answers_of_others_are_cut_only_when_they_do_not_fit,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_that_ldns_cannot_read_is_cut_to_its_question,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_an_answer_to_this_very_question_matches, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_refusal_may_come_without_the_question, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_nsswitch_says_when_the_table_is_looked_into, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
