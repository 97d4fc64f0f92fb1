/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of address translation: what kernels have answered for the rules that engines write (kept
 * beside the fuzz target), the same broken everywhere, and, where we may have a network namespace
 * and nft, rules that come and go.
 */
#include "test.h"
#include <arpa/inet.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>
#include "base/buf.h"
#include "nat.h"

#define WAIT_MS 10000

static uint8_t *read_answer(const char *name, size_t *ret_len)
{
    scoped(free) char *path = xasprintf("%s/tests/fuzz/corpus/nat/%s", getenv("SOURCE_ROOT"), name);
    FILE *file = fopen(path, "rb");
    uint8_t *data = xmalloc(65536);

    assert_non_null(file);
    *ret_len = fread(data, 1, 65536, file);
    assert_true(*ret_len > 0 && *ret_len < 65536);
    fclose(file);
    return data;
}

static char *list_ports(const struct portset *set)
{
    struct buf text = BUF_INIT;

    for (size_t i = 0; i < set->count; i++) {
        const struct portset_entry *entry = &set->entries[i];
        char address[INET6_ADDRSTRLEN];

        inet_ntop(entry->address_len == 4 ? AF_INET : AF_INET6, entry->address, address,
                  sizeof(address));
        buf_printf(&text, "%s%s%s:%u", i ? " " : "", entry->protocol == PORT_UDP ? "udp " : "",
                   address, entry->port);
    }
    return buf_steal(&text);
}

static void test_rules_of_engines_are_understood(void **state)
{
    static const struct {
        const char *name, *tables, *ports;
    } cases[] = {
        {"docker-iptables", "2:nat 10:nat",
         "udp 0.0.0.0:5300 0.0.0.0:7000 0.0.0.0:7001 0.0.0.0:7002 0.0.0.0:7003 0.0.0.0:7010 "
         "0.0.0.0:7020 0.0.0.0:7030 0.0.0.0:7031 0.0.0.0:8080 :::8080 fd00::1:8081 "
         "127.0.0.1:8443"},
        {"cni-portmap", "2:nat", "0.0.0.0:8080 127.0.0.1:8443"},
        {"nft-native", "2:docker-bridges 1:netavark 2:lima",
         "udp 192.168.5.3:53 udp 0.0.0.0:5300 0.0.0.0:7000 0.0.0.0:7001 0.0.0.0:7002 0.0.0.0:7003 "
         "0.0.0.0:7005 0.0.0.0:7010 0.0.0.0:7011 0.0.0.0:8080 0.0.0.0:8090 udp :::8091 "
         "fd00::1:8092 127.0.0.1:8443"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(portset_done) struct portset set = {0};
        scoped(buf_done) struct buf text = BUF_INIT;
        struct nat_tables tables = {0};
        size_t len;
        scoped(free) uint8_t *answer = read_answer(cases[i].name, &len);
        scoped(free) char *ports = NULL;

        assert_int_equal(netlink_parse(answer, len, nat_on_chain, &tables), 0);
        assert_int_equal(netlink_parse(answer, len, nat_on_rule, &set), 0);
        portset_seal(&set);
        for (size_t t = 0; t < tables.count; t++) {
            buf_printf(&text, "%s%d:%s", t ? " " : "", tables.list[t].family, tables.list[t].name);
        }
        ports = list_ports(&set);
        assert_string_equal(buf_str(&text), cases[i].tables);
        assert_string_equal(ports, cases[i].ports);
    }
}

static void parse_copy(const uint8_t *data, size_t len)
{
    scoped(free) uint8_t *copy = xmemdup(data, MAX(len, 1)); /* its own, for the sanitizer */
    scoped(portset_done) struct portset set = {0};
    struct nat_tables tables = {0};

    netlink_parse(copy, len, nat_on_chain, &tables);
    netlink_parse(copy, len, nat_on_rule, &set);
    portset_seal(&set);
}

static void test_rules_cut_or_changed_anywhere_read_nothing_beyond(void **state)
{
    size_t len;
    scoped(free) uint8_t *answer = read_answer("cni-portmap", &len);

    for (size_t i = 0; i < len; i++) {
        uint8_t kept = answer[i];

        parse_copy(answer, i);
        for (unsigned bit = 0; bit < 8; bit++) {
            answer[i] = kept ^ (uint8_t)(1u << bit);
            parse_copy(answer, len);
        }
        answer[i] = kept;
    }
}

/* ---- rules that come and go ---- */

static const char *const begin_rules[] = {
    "nft add table ip t", "nft add chain ip t pre '{ type nat hook prerouting priority -100; }'",
    "nft add rule ip t pre tcp dport 8080 dnat to 10.4.0.2:80",
    /* Of another machine's address, as of a resolver that connections are led away from. */
    "nft add rule ip t pre ip daddr 192.0.2.1 tcp dport 8081 dnat to 10.4.0.2:80"};

struct watcher {
    struct loop *loop;
    struct nat *nat;
    bool came, went;
};

static void on_nat_changed(void *arg)
{
    struct watcher *watcher = arg;
    const struct portset *set = nat_current(watcher->nat);
    bool there = portset_has_port(set, PORT_TCP, 8080);

    assert_false(portset_has_port(set, PORT_TCP, 8081));
    if (there && !watcher->came) {
        watcher->came = true;
        assert_int_equal(system("nft delete table ip t"), 0);
    } else if (!there && watcher->came) {
        watcher->went = true;
        loop_quit(watcher->loop);
    }
}

static void on_deadline(void *arg)
{
    loop_quit(arg);
}

static void test_rules_are_seen_when_they_come_and_go(void **state)
{
    struct watcher watcher = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    struct loop_timer *deadline;

    if (system("nft --version >/dev/null 2>&1") != 0 || unshare(CLONE_NEWNET) < 0 ||
        system("nft list ruleset >/dev/null 2>&1") != 0) {
        skip();
    }
    watcher.loop = loop_new();
    deadline = loop_timer_new(watcher.loop, on_deadline, watcher.loop);
    assert_works(nat_open(watcher.loop, on_nat_changed, &watcher, &watcher.nat, &err), &err);
    for (size_t i = 0; i < ARRAY_LEN(begin_rules); i++) {
        assert_int_equal(system(begin_rules[i]), 0);
    }
    loop_timer_start(deadline, WAIT_MS);
    loop_run(watcher.loop);
    nat_close(watcher.nat);
    loop_timer_free(deadline);
    loop_free(watcher.loop);
    assert_true(watcher.came);
    assert_true(watcher.went);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_of_engines_are_understood),
        cmocka_unit_test(test_rules_cut_or_changed_anywhere_read_nothing_beyond),
        cmocka_unit_test(test_rules_are_seen_when_they_come_and_go), /* the last: leaves us apart */
    };

    return cmocka_run_group_tests_name("guest_nat", tests, NULL, NULL);
}
