/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of ports, answers of sock_diag, and on this machine listeners that come and go. */
#include "test.h"
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>
#include "loop.h"
#include "ports.h"
#include "portset.h"
#include "sockdiag.h"

#define WAIT_MS 5000

static const uint8_t any4[4];
static const uint8_t any6[16];
static const uint8_t mapped[16] = {[10] = 0xff, 0xff, 10, 1, 2, 3};

static void test_set_is_sorted_unique_and_unmaps(void **state)
{
    scoped(portset_done) struct portset set = {0};

    portset_add(&set, PORT_TCP, any6, 16, 80);
    portset_add(&set, PORT_TCP, any4, 4, 80);
    portset_add(&set, PORT_TCP, mapped, 16, 22);
    portset_add(&set, PORT_TCP, any4, 4, 80);
    portset_add(&set, PORT_TCP, any4, 4, 0);
    portset_seal(&set);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.sockets, 5);
    assert_int_equal(set.entries[0].port, 22);
    assert_int_equal(set.entries[0].address_len, 4);
    assert_memory_equal(set.entries[0].address, mapped + 12, 4);
    assert_int_equal(set.entries[1].address_len, 4);
    assert_int_equal(set.entries[2].address_len, 16);
    assert_true(portset_has_port(&set, PORT_TCP, 22));
    assert_false(portset_has_port(&set, PORT_TCP, 23));
}

static void test_advance_reaches_the_other_set_in_pieces(void **state)
{
    scoped(portset_done) struct portset known = {0}, now = {0};
    struct portset_entry added[2], removed[2];
    size_t added_count, removed_count, total_added = 0, total_removed = 0, rounds = 0;

    for (uint16_t i = 0; i < 10; i++) {
        portset_add(&known, PORT_TCP, any4, 4, (uint16_t)(100 + i));
        portset_add(&now, PORT_TCP, any4, 4, (uint16_t)(105 + i));
    }
    portset_seal(&known);
    portset_seal(&now);
    while (portset_advance(&known, &now, 2, added, &added_count, removed, &removed_count)) {
        total_added += added_count;
        total_removed += removed_count;
        assert_true(++rounds <= 10);
    }
    assert_int_equal(total_added, 5);
    assert_int_equal(total_removed, 5);
    assert_true(portset_equal(&known, &now));
}

struct message {
    struct nlmsghdr header;
    struct inet_diag_msg body;
};

static struct message message(uint8_t family, uint8_t tcp_state, uint16_t port)
{
    struct message m = {.header = {.nlmsg_len = sizeof(m), .nlmsg_type = SOCK_DIAG_BY_FAMILY},
                        .body = {.idiag_family = family, .idiag_state = tcp_state}};

    m.body.id.idiag_sport = htons(port);
    return m;
}

static void test_dump_keeps_listeners_of_both_families(void **state)
{
    struct message dump[] = {message(AF_INET, 10, 80),
                             message(AF_INET6, 10, 81),
                             message(AF_INET, 1, 82),
                             message(AF_UNIX, 10, 83),
                             {.header = {.nlmsg_len = NLMSG_HDRLEN, .nlmsg_type = NLMSG_DONE}}};
    scoped(portset_done) struct portset set = {0};

    assert_int_equal(sockdiag_parse(dump, sizeof(dump), PORT_TCP, &set), 1);
    assert_int_equal(set.count, 2);
    assert_true(portset_has_port(&set, PORT_TCP, 80));
}

static void test_dump_of_udp_keeps_sockets_without_a_peer(void **state)
{
    struct message dump[] = {message(AF_INET, 7, 53), message(AF_INET6, 7, 54),
                             message(AF_INET, 1, 55), message(AF_INET, 7, 56)};
    scoped(portset_done) struct portset set = {0};

    dump[3].body.id.idiag_dport = htons(9);
    assert_int_equal(sockdiag_parse(dump, sizeof(dump), PORT_UDP, &set), 0);
    assert_int_equal(set.count, 2);
    assert_true(portset_has_port(&set, PORT_UDP, 53));
    assert_true(portset_has_port(&set, PORT_UDP, 54));
    assert_false(portset_has_port(&set, PORT_TCP, 53));
}

static void test_dump_cut_anywhere_reads_nothing_beyond(void **state)
{
    const struct message whole[] = {message(AF_INET, 10, 80), message(AF_INET6, 10, 81)};

    for (size_t len = 0; len < sizeof(whole); len++) {
        scoped(portset_done) struct portset set = {0};
        void *part = xmemdup(whole, MAX(len, 1)); /* of its own, for the sanitizer */
        int r = sockdiag_parse(part, len, PORT_TCP, &set);

        free(part);
        assert_int_equal(r, len % sizeof(*whole) ? -EBADMSG : 0);
        assert_int_equal(set.count, len / sizeof(*whole));
    }
}

static void test_dump_with_a_wrong_length_is_refused(void **state)
{
    static const uint32_t wrong[] = {0, NLMSG_HDRLEN - 1, sizeof(struct message) + 1,
                                     NLMSG_HDRLEN + 4, UINT32_MAX};

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        scoped(portset_done) struct portset set = {0};
        struct message m = message(AF_INET, 10, 80);

        m.header.nlmsg_len = wrong[i];
        assert_int_equal(sockdiag_parse(&m, sizeof(m), PORT_TCP, &set), -EBADMSG);
    }
}

static void test_dump_gives_the_errors_of_the_kernel(void **state)
{
    struct {
        struct nlmsghdr header;
        int code;
    } m = {{.nlmsg_len = sizeof(m), .nlmsg_type = NLMSG_ERROR}, -ENOENT};
    scoped(portset_done) struct portset set = {0};

    assert_int_equal(sockdiag_parse(&m, sizeof(m), PORT_TCP, &set), -ENOENT);
    m.header.nlmsg_type = NLMSG_DONE;
    assert_int_equal(sockdiag_parse(&m, sizeof(m), PORT_TCP, &set), -ENOENT);
    m.code = 0;
    assert_int_equal(sockdiag_parse(&m, sizeof(m), PORT_TCP, &set), 1);
    m.code = 1;
    assert_int_equal(sockdiag_parse(&m, sizeof(m), PORT_TCP, &set), -EBADMSG);
    m.code = INT32_MIN;
    assert_int_equal(sockdiag_parse(&m, sizeof(m), PORT_TCP, &set), -EBADMSG);
}

static void test_notice_counts_only_for_known_ports(void **state)
{
    scoped(portset_done) struct portset tcp = {0}, udp = {0};
    struct sockdiag_gone gone = {0};
    struct message m = message(AF_INET, 7, 80);

    portset_add(&tcp, PORT_TCP, any4, 4, 81);
    portset_add(&udp, PORT_UDP, any4, 4, 82);
    sockdiag_notice_parse(&m, sizeof(m), &tcp, &udp, &gone);
    assert_false(gone.tcp || gone.udp);
    m.body.id.idiag_sport = htons(82);
    sockdiag_notice_parse(&m, sizeof(m), &tcp, &udp, &gone);
    assert_true(gone.udp && !gone.tcp);
    m.body.id.idiag_sport = htons(81);
    m.body.id.idiag_dport = htons(9); /* a connection of that listener */
    gone = (struct sockdiag_gone){0};
    sockdiag_notice_parse(&m, sizeof(m), &tcp, &udp, &gone);
    assert_false(gone.tcp || gone.udp);
    m.body.id.idiag_dport = 0;
    sockdiag_notice_parse(&m, sizeof(m), &tcp, &udp, &gone);
    assert_true(gone.tcp && !gone.udp);
}

static void test_malformed_notice_makes_us_look(void **state)
{
    scoped(portset_done) struct portset none = {0};
    struct sockdiag_gone gone = {0};
    struct message m = message(AF_INET, 7, 80);

    sockdiag_notice_parse(&m, sizeof(m) - 1, &none, &none, &gone);
    assert_true(gone.tcp && gone.udp);
}

static void test_origin_follows_where_it_is_the_same_port(void **state)
{
    scoped(portset_done) struct portset a = {0}, b = {0}, sum = {0}, known = {0};
    struct portset_entry added[4], removed[4];
    size_t added_count, removed_count;

    portset_add(&a, PORT_TCP, any4, 4, 80);
    portset_add(&a, PORT_UDP, any4, 4, 80);
    portset_add(&b, PORT_TCP, any4, 4, 80);
    portset_add_all(&sum, &a, PORT_KUBERNETES);
    portset_add_all(&sum, &b, PORT_CONTAINER);
    portset_seal(&sum);
    assert_int_equal(sum.count, 2);
    assert_int_equal(sum.entries[0].origin, PORT_CONTAINER); /* TCP: the lower one */
    assert_int_equal(sum.entries[1].origin, PORT_KUBERNETES);

    portset_add_all(&known, &a, PORT_SOCKET);
    portset_seal(&known);
    assert_true(portset_advance(&known, &sum, 4, added, &added_count, removed, &removed_count));
    assert_int_equal(added_count, 2);
    assert_int_equal(removed_count, 0);
    assert_int_equal(added[0].origin, PORT_CONTAINER);
    assert_true(portset_equal(&known, &sum));
    assert_false(portset_advance(&known, &sum, 4, added, &added_count, removed, &removed_count));
}

/* ---- which UDP sockets count ---- */

static struct portset_entry udp_entry(const char *address, uint16_t port)
{
    struct portset_entry entry = {.protocol = PORT_UDP, .address_len = 4, .port = port};

    assert_int_equal(inet_pton(AF_INET, address, entry.address), 1);
    return entry;
}

static void test_udp_of_clients_and_of_the_system_does_not_count(void **state)
{
    static const struct {
        const char *address;
        uint16_t port;
        bool counts, counts_wanted; /* wanted: 5353 and 40000-40010 */
    } cases[] = {
        {"0.0.0.0", 53, true, true},      {"127.0.0.1", 53, true, true},
        {"127.0.0.53", 53, false, false}, {"127.0.0.54", 53, false, false},
        {"0.0.0.0", 68, false, false},    {"0.0.0.0", 123, false, false},
        {"0.0.0.0", 5353, false, true},   {"0.0.0.0", 5355, false, false},
        {"0.0.0.0", 32767, true, true},   {"0.0.0.0", 32768, false, false},
        {"0.0.0.0", 60999, false, false}, {"0.0.0.0", 61000, true, true},
        {"0.0.0.0", 40000, false, true},  {"10.0.0.1", 40011, false, false},
    };
    struct udp_rules rules = {.ephemeral = {32768, 60999}};
    struct udp_rules wanting = {
        .ephemeral = {32768, 60999}, .wanted = {{5353, 5353}, {40000, 40010}}, .wanted_count = 2};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct portset_entry entry = udp_entry(cases[i].address, cases[i].port);

        assert_int_equal(udp_counts(&rules, &entry), cases[i].counts);
        assert_int_equal(udp_counts(&wanting, &entry), cases[i].counts_wanted);
    }
    assert_int_equal(udp_uninteresting(&rules).first, 32768);
    assert_true(udp_uninteresting(&wanting).first > udp_uninteresting(&wanting).last);
}

static void test_range_of_clients_is_read_or_there_is_none(void **state)
{
    struct udp_range range = udp_range_parse("32768\t60999\n");

    assert_int_equal(range.first, 32768);
    assert_int_equal(range.last, 60999);
    static const char *const wrong[] = {"", "x", "5", "60999 32768", "1 65536"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        range = udp_range_parse(wrong[i]);
        assert_true(range.first > range.last);
    }
}

static void test_udp_settles_before_it_counts(void **state)
{
    const uint64_t ms = 1000;
    struct udp_rules rules = {.ephemeral = {32768, 60999}};
    struct udp_settling settling = {0};
    scoped(portset_done) struct portset first = {0}, both = {0}, ret = {0};

    portset_add(&first, PORT_UDP, any4, 4, 2000);
    portset_add(&first, PORT_UDP, any4, 4, 40000); /* never waited for */
    portset_seal(&first);
    portset_add(&both, PORT_UDP, any4, 4, 1000);
    portset_add(&both, PORT_UDP, any4, 4, 2000);
    portset_seal(&both);

    assert_int_equal(udp_settle(&settling, &rules, &first, 0, &ret), UDP_SETTLE_MS);
    assert_int_equal(ret.count, 0);
    assert_int_equal(udp_settle(&settling, &rules, &both, 60 * ms, &ret), UDP_SETTLE_MS - 60);
    assert_int_equal(ret.count, 0);
    assert_int_equal(udp_settle(&settling, &rules, &both, 100 * ms, &ret), UDP_SETTLE_MS - 40);
    assert_int_equal(ret.count, 1);
    assert_int_equal(ret.entries[0].port, 2000);
    /* One that was away in between begins anew. */
    assert_int_equal(udp_settle(&settling, &rules, &first, 130 * ms, &ret), 0);
    assert_int_equal(udp_settle(&settling, &rules, &both, 160 * ms, &ret), UDP_SETTLE_MS);
    assert_int_equal(ret.count, 1);
    assert_int_equal(udp_settle(&settling, &rules, &both, 260 * ms, &ret), 0);
    assert_int_equal(ret.count, 2);
    udp_settling_done(&settling);
}

/* ---- sockets that come and go, seen however this kernel allows ---- */

struct watcher {
    struct loop *loop;
    enum port_protocol protocol;
    uint16_t port;
    int fd;
    bool came, went;
};

static void on_ports_changed(struct ports *ports, void *arg)
{
    struct watcher *watcher = arg;
    bool there = portset_has_port(ports_current(ports), watcher->protocol, watcher->port);

    if (there && !watcher->came) {
        watcher->came = true;
        close(watcher->fd);
    } else if (!there && watcher->came) {
        watcher->went = true;
        loop_quit(watcher->loop);
    }
}

static void on_deadline(void *arg)
{
    loop_quit(arg);
}

/* @begin makes it serve after we have begun to look. */
static void expect_come_and_go(struct watcher *watcher, bool no_bpf,
                               void (*begin)(struct watcher *))
{
    struct udp_range range = {watcher->port, watcher->port};
    struct loop *loop = watcher->loop = loop_new();
    struct ports_options options = {
        .loop = loop, .no_bpf = no_bpf, .changed = on_ports_changed, .arg = watcher};
    struct loop_timer *deadline = loop_timer_new(loop, on_deadline, loop);
    scoped(error_done) struct error err = ERROR_INIT;
    struct ports *ports;

    assert_works(ports_open(&options, &ports, &err), &err);
    assert_true(!no_bpf || strcmp(ports_method(ports), "polling") == 0);
    ports_want_udp(ports, &range, 1);
    begin(watcher);
    loop_timer_start(deadline, WAIT_MS);
    loop_run(loop);
    ports_close(ports);
    loop_timer_free(deadline);
    loop_free(loop);
    assert_true(watcher->came);
    assert_true(watcher->went);
}

static uint16_t bind_somewhere(int fd)
{
    struct sockaddr_in addr = {.sin_family = AF_INET}; /* there may be no loopback */
    socklen_t len = sizeof(addr);

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    return ntohs(addr.sin_port);
}

static void begin_listening(struct watcher *watcher)
{
    assert_int_equal(listen(watcher->fd, 1), 0);
}

static void test_a_listener_is_seen_when_it_comes_and_goes(void **state)
{
    for (int no_bpf = 0; no_bpf <= 1; no_bpf++) {
        struct watcher watcher = {.protocol = PORT_TCP};

        watcher.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        watcher.port = bind_somewhere(watcher.fd);
        expect_come_and_go(&watcher, no_bpf, begin_listening);
    }
}

static void begin_receiving(struct watcher *watcher)
{
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_port = htons(watcher->port)};

    watcher->fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(watcher->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
}

static void test_a_udp_socket_is_seen_when_it_comes_and_goes(void **state)
{
    for (int no_bpf = 0; no_bpf <= 1; no_bpf++) {
        struct watcher watcher = {.protocol = PORT_UDP};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        watcher.port = bind_somewhere(fd); /* which nothing else has then */
        close(fd);
        expect_come_and_go(&watcher, no_bpf, begin_receiving);
    }
}

/* Apart, where we may: an agent under test elsewhere on this machine forwards every port it sees.
 */
int main(void)
{
    bool apart = unshare(CLONE_NEWNET) == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_is_sorted_unique_and_unmaps),
        cmocka_unit_test(test_advance_reaches_the_other_set_in_pieces),
        cmocka_unit_test(test_origin_follows_where_it_is_the_same_port),
        cmocka_unit_test(test_dump_keeps_listeners_of_both_families),
        cmocka_unit_test(test_dump_of_udp_keeps_sockets_without_a_peer),
        cmocka_unit_test(test_dump_cut_anywhere_reads_nothing_beyond),
        cmocka_unit_test(test_dump_with_a_wrong_length_is_refused),
        cmocka_unit_test(test_dump_gives_the_errors_of_the_kernel),
        cmocka_unit_test(test_notice_counts_only_for_known_ports),
        cmocka_unit_test(test_malformed_notice_makes_us_look),
        cmocka_unit_test(test_udp_of_clients_and_of_the_system_does_not_count),
        cmocka_unit_test(test_range_of_clients_is_read_or_there_is_none),
        cmocka_unit_test(test_udp_settles_before_it_counts),
        cmocka_unit_test(test_a_listener_is_seen_when_it_comes_and_goes),
        cmocka_unit_test(test_a_udp_socket_is_seen_when_it_comes_and_goes),
    };

    print_message("# %s\n", apart ? "in a network of its own" : "in the network of the machine");
    return cmocka_run_group_tests_name("guest_ports", tests, NULL, NULL);
}
