/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of ports, answers of sock_diag, and on this machine listeners that come and go. */
#include "test.h"
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
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

    portset_add(&set, any6, 16, 80);
    portset_add(&set, any4, 4, 80);
    portset_add(&set, mapped, 16, 22);
    portset_add(&set, any4, 4, 80);
    portset_add(&set, any4, 4, 0);
    portset_seal(&set);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.sockets, 5);
    assert_int_equal(set.entries[0].port, 22);
    assert_int_equal(set.entries[0].address_len, 4);
    assert_memory_equal(set.entries[0].address, mapped + 12, 4);
    assert_int_equal(set.entries[1].address_len, 4);
    assert_int_equal(set.entries[2].address_len, 16);
    assert_true(portset_has_port(&set, 22));
    assert_false(portset_has_port(&set, 23));
}

static void test_advance_reaches_the_other_set_in_pieces(void **state)
{
    scoped(portset_done) struct portset known = {0}, now = {0};
    struct portset_entry added[2], removed[2];
    size_t added_count, removed_count, total_added = 0, total_removed = 0, rounds = 0;

    for (uint16_t i = 0; i < 10; i++) {
        portset_add(&known, any4, 4, (uint16_t)(100 + i));
        portset_add(&now, any4, 4, (uint16_t)(105 + i));
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
    struct sockdiag_reply reply;

    assert_int_equal(sockdiag_parse(dump, sizeof(dump), &set, &reply), 0);
    assert_true(reply.done);
    assert_int_equal(reply.code, 0);
    assert_int_equal(set.count, 2);
}

static void test_dump_cut_anywhere_reads_nothing_beyond(void **state)
{
    const struct message whole[] = {message(AF_INET, 10, 80), message(AF_INET6, 10, 81)};

    for (size_t len = 0; len < sizeof(whole); len++) {
        scoped(portset_done) struct portset set = {0};
        void *part = xmemdup(whole, MAX(len, 1)); /* of its own, for the sanitizer */
        struct sockdiag_reply reply;
        int r = sockdiag_parse(part, len, &set, &reply);

        free(part);
        assert_int_equal(r, len % sizeof(*whole) ? -EBADMSG : 0);
        assert_int_equal(set.count, len / sizeof(*whole));
    }
}

static void test_dump_with_a_wrong_length_is_refused(void **state)
{
    scoped(portset_done) struct portset set = {0};
    struct sockdiag_reply reply;
    struct message m = message(AF_INET, 10, 80);

    m.header.nlmsg_len = NLMSG_HDRLEN - 1;
    assert_int_equal(sockdiag_parse(&m, sizeof(m), &set, &reply), -EBADMSG);
    m.header.nlmsg_len = sizeof(m) + 1;
    assert_int_equal(sockdiag_parse(&m, sizeof(m), &set, &reply), -EBADMSG);
    m.header.nlmsg_len = NLMSG_HDRLEN + 4;
    assert_int_equal(sockdiag_parse(&m, sizeof(m), &set, &reply), -EBADMSG);
}

static void test_notice_counts_only_for_known_ports(void **state)
{
    scoped(portset_done) struct portset set = {0};
    struct message m = message(AF_INET, 7, 80);

    portset_add(&set, any4, 4, 81);
    portset_seal(&set);
    assert_false(sockdiag_notice_matches(&m, sizeof(m), &set));
    portset_add(&set, any4, 4, 80);
    portset_seal(&set);
    assert_true(sockdiag_notice_matches(&m, sizeof(m), &set));
    assert_false(sockdiag_notice_matches(&m, sizeof(m) - 1, &set));
}

/* A listener that comes and goes, seen by ports.c however this kernel allows. */

struct watcher {
    struct loop *loop;
    uint16_t port;
    bool want;
    bool met;
};

static void on_ports_changed(struct ports *ports, void *arg)
{
    struct watcher *watcher = arg;

    if (portset_has_port(ports_current(ports), watcher->port) == watcher->want) {
        watcher->met = true;
        loop_quit(watcher->loop);
    }
}

static void on_deadline(void *arg)
{
    loop_quit(arg);
}

/* A round of its own for each wish: a loop that has quit stays so. */
static bool sees(uint16_t port, bool want, void (*act)(int *fd), int *fd)
{
    struct watcher watcher = {.loop = loop_new(), .port = port, .want = want};
    scoped(error_done) struct error err = ERROR_INIT;
    struct loop_timer *deadline = loop_timer_new(watcher.loop, on_deadline, watcher.loop);
    struct ports *ports;

    assert_works(ports_open(watcher.loop, on_ports_changed, &watcher, &ports, &err), &err);
    act(fd);
    loop_timer_start(deadline, WAIT_MS);
    loop_run(watcher.loop);
    ports_close(ports);
    loop_timer_free(deadline);
    loop_free(watcher.loop);
    return watcher.met;
}

static void start_listening(int *fd)
{
    assert_int_equal(listen(*fd, 1), 0);
}

static void stop_listening(int *fd)
{
    close(*fd);
}

static void test_a_listener_is_seen_when_it_comes_and_goes(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    assert_true(sees(ntohs(addr.sin_port), true, start_listening, &fd));
    assert_true(sees(ntohs(addr.sin_port), false, stop_listening, &fd));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_is_sorted_unique_and_unmaps),
        cmocka_unit_test(test_advance_reaches_the_other_set_in_pieces),
        cmocka_unit_test(test_dump_keeps_listeners_of_both_families),
        cmocka_unit_test(test_dump_cut_anywhere_reads_nothing_beyond),
        cmocka_unit_test(test_dump_with_a_wrong_length_is_refused),
        cmocka_unit_test(test_notice_counts_only_for_known_ports),
        cmocka_unit_test(test_a_listener_is_seen_when_it_comes_and_goes),
    };

    return cmocka_run_group_tests_name("guest_ports", tests, NULL, NULL);
}
