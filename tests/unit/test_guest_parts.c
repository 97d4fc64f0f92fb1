/* SPDX-License-Identifier: Apache-2.0 */
/* The small pure parts: lists of variables, tails, interpreters, routes, growth, events of devices.
 */
#include "test.h"
#include <stdio.h>
#include "envlist.h"
#include "grow.h"
#include "health.h"
#include "info.h"
#include "install.h"
#include "provision.h"
#include "route.h"
#include "seed.h"
#include "sha256.h"
#include "tail.h"
#include "uevent.h"
#include "wire.h"

static void test_variables_are_taken_literally(void **state)
{
    scoped(envlist_done) struct envlist list = {0};
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(envlist_parse(&list, "# c\n\nA=1 \"2\"\nB_9=\nA=x=y\n", "f", &err), &err);
    assert_int_equal(list.count, 2);
    assert_string_equal(envlist_text(&list, "A"), "x=y");
    assert_string_equal(envlist_text(&list, "B_9"), "");
    assert_null(envlist_get(&list, "B"));
    assert_null(list.items[2]);
}

static void test_odd_variables_are_refused_with_their_line(void **state)
{
    static const char *const bad[] = {"A=1\nx", "A=1\n=x", "A=1\n9A=x", "A=1\nA B=x", "A=1\n A=x"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        scoped(envlist_done) struct envlist list = {0};
        struct error err = ERROR_INIT;

        assert_fails(envlist_parse(&list, bad[i], "f.env", &err), &err, EINVAL, "'f.env' line 2");
    }
}

static void test_environment_is_read_as_pam_does(void **state)
{
    scoped(envlist_done) struct envlist list = {0};

    envlist_parse_lenient(&list, "export A=\"1 2\"\n  B='x\nC=v # rest\nno line\n=1\nD=\"\"\nE=\n");
    assert_string_equal(envlist_text(&list, "A"), "1 2");
    assert_string_equal(envlist_text(&list, "B"), "x");
    assert_string_equal(envlist_text(&list, "C"), "v");
    assert_string_equal(envlist_text(&list, "D"), "");
    assert_int_equal(list.count, 5);
}

static void test_merge_takes_only_the_prefix(void **state)
{
    scoped(envlist_done) struct envlist from = {0}, to = {0};

    envlist_set(&from, "P_A", "1");
    envlist_set(&from, "Q", "2");
    envlist_merge(&to, &from, "P_");
    assert_int_equal(to.count, 1);
}

static void check_tail(const struct tail *tail, const char *want)
{
    scoped(free) char *text = tail_text(tail);

    assert_string_equal(text, want);
}

static void test_tail_is_the_last_lines(void **state)
{
    static struct tail tail;
    char line[16];

    check_tail(&tail, "");
    for (int i = 1; i <= 100; i++) {
        int n = snprintf(line, sizeof(line), "%d\n", i);

        tail_put(&tail, line, (size_t)n);
    }
    {
        scoped(free) char *text = tail_text(&tail);

        assert_memory_equal(text, "61\n62\n", 6);
        assert_string_equal(text + strlen(text) - 6, "99\n100");
    }
    tail_clear(&tail);
    tail_put(&tail, "one", 3);
    check_tail(&tail, "one");
}

static void test_tail_drops_a_line_cut_at_the_front(void **state)
{
    static struct tail tail;
    scoped(free) char *big = xmalloc(5000);

    memset(big, 'x', 5000);
    tail_clear(&tail);
    tail_put(&tail, big, 5000);
    tail_put(&tail, "\nlast\n", 6);
    check_tail(&tail, "last");
}

static void test_tail_is_clean_text(void **state)
{
    static struct tail tail;

    tail_clear(&tail);
    tail_put(&tail, "a\xff\x1b[0m\xc3\xa9\xed\xa0\x80\t\xc3", 14);
    check_tail(&tail, "a??[0m\xc3\xa9???\t?");
}

static void check_command(const char *head, const char *want)
{
    char *words[PROVISION_ARGS_MAX + 1];
    char got[256] = "";

    provision_command(head, "/s", words);
    for (size_t i = 0; words[i]; i++) {
        strcat(got, i ? "|" : "");
        strcat(got, words[i]);
        free(words[i]);
    }
    assert_string_equal(got, want);
}

static void test_interpreter_has_at_most_one_argument(void **state)
{
    check_command("#!/bin/bash\n", "/bin/bash|/s");
    check_command("#! /usr/bin/env  python3 -u \nx", "/usr/bin/env|python3 -u|/s");
    check_command("#!/bin/sh\r\n", "/bin/sh|/s");
    check_command("#!\n", "/bin/sh|/s");
    check_command("#!", "/bin/sh|/s");
    check_command("echo", "/bin/sh|/s");
    check_command("", "/bin/sh|/s");
    check_command("\177ELF\2", "/s");
}

static void test_default_route_is_found_among_others(void **state)
{
    static const char head[] =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
    scoped(free) char *with =
        xasprintf("%seth0\t00000000\t0205A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n", head);
    scoped(free) char *without =
        xasprintf("%seth0\t0005A8C0\t00000000\t0001\t0\t0\t200\t00FFFFFF\t0\t0\t0\n", head);

    assert_true(route_text_has_default(with));
    assert_false(route_text_has_default(without));
    assert_false(route_text_has_default(head));
    assert_false(route_text_has_default(""));
}

static void test_growing_needs_free_space_behind_the_last_partition(void **state)
{
    struct grow_layout layout = {
        .disk = 1 << 24, .start = 2048, .size = 1 << 20, .last_start = 2048};

    assert_true(grow_wanted(&layout));
    layout.last_start = 1 << 21;
    assert_false(grow_wanted(&layout));
    layout.last_start = layout.start;
    layout.disk = layout.start + layout.size + 34;
    assert_false(grow_wanted(&layout));
    layout.disk = 1000;
    assert_false(grow_wanted(&layout));
}

static void test_device_event_names_its_subsystem(void **state)
{
    static const char add[] = "add@/devices/x\0ACTION=add\0SUBSYSTEM=block\0SEQNUM=1";
    static const char gone[] = "remove@/devices/x\0ACTION=remove\0SUBSYSTEM=block";
    static const char udev[] = "libudev\0xx@SUBSYSTEM=block";

    assert_string_equal(uevent_subsystem(add, sizeof(add)), "block");
    assert_null(uevent_subsystem(gone, sizeof(gone)));
    assert_null(uevent_subsystem(udev, sizeof(udev)));
    assert_null(uevent_subsystem(add, sizeof(add) - 1)); /* no NUL at the end */
    assert_null(uevent_subsystem(add, 0));
}

static void test_volume_label_is_compared_whole(void **state)
{
    unsigned char sector[2048] = {1, 'C', 'D', '0', '0', '1'};

    memset(sector + 40, ' ', 32);
    memcpy(sector + 40, "CIDATA", 6);
    assert_true(seed_is_volume(sector, "cidata"));
    sector[46] = '2';
    assert_false(seed_is_volume(sector, "cidata"));
    sector[46] = ' ';
    sector[0] = 2;
    assert_false(seed_is_volume(sector, "cidata"));
}

static void test_os_release_value_is_unquoted(void **state)
{
    char value[16];

    assert_true(info_os_release("A=1\nPRETTY_NAME=\"De\\\"b 12\"\n", "PRETTY_NAME", value, 16));
    assert_string_equal(value, "De\"b 12");
    assert_true(info_os_release("N='very long name indeed'", "N", value, 5));
    assert_string_equal(value, "very");
    assert_false(info_os_release("NAME=x", "N", value, 16));
}

static void test_cut_text_keeps_whole_characters(void **state)
{
    char out[4];

    wire_text(out, sizeof(out), "abc");
    assert_string_equal(out, "abc");
    wire_text(out, sizeof(out), "ab\xc3\xa9");
    assert_string_equal(out, "ab");
}

static void test_services_name_the_program(void **state)
{
    scoped(free) char *unit = install_systemd_unit("/opt/bin/lima-guestagent");
    scoped(free) char *script = install_openrc_script("/opt/bin/lima-guestagent");

    assert_non_null(strstr(unit, "\nExecStart=/opt/bin/lima-guestagent run\n"));
    assert_non_null(strstr(unit, "\nRestart=always\n"));
    assert_non_null(strstr(unit, "\nBefore=shutdown.target user.slice\n"));
    assert_non_null(strstr(script, "\ncommand=\"/opt/bin/lima-guestagent\"\n"));
}

static void check_digest(const char *piece, size_t repeat, const char *want)
{
    struct sha256 sha;
    uint8_t digest[SHA256_SIZE];
    char text[2 * SHA256_SIZE + 1];

    sha256_init(&sha);
    for (size_t i = 0; i < repeat; i++) {
        sha256_put(&sha, piece, strlen(piece));
    }
    sha256_end(&sha, digest);
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    assert_string_equal(text, want);
}

/* The examples of FIPS 180-4, and lengths around the end of a block. */
static void test_sha256_is_that_of_the_standard(void **state)
{
    static const char eight[] = "abcdefgh";

    check_digest("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_digest("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
                 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    check_digest("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    check_digest(eight, 7, "8a261744ce595c50431d19c6d4f68ed24995ed11f7e1d88fe353608f0655ee53");
    check_digest(eight, 8, "606279ea3d1b4f964b5059cd7e96e6fb7c54a71919ed4380030d0a645d97edf7");
    check_digest("abcdefghijk", 5,
                 "5b169b331fdfdece77c3e2821878b7a2054dcef7655c4e6fab5e1963c12334d0");
}

static void test_memory_and_load_are_read_from_proc(void **state)
{
    lima_guest_v1_Health health = lima_guest_v1_Health_init_zero;

    health_read_memory("MemTotal:        2000 kB\nMemFree: 1 kB\nMemAvailable:    1500 kB\n"
                       "SwapTotal: 10 kB\nSwapFree:",
                       &health);
    assert_int_equal(health.memory_total, 2000 * 1024);
    assert_int_equal(health.memory_available, 1500 * 1024);
    assert_int_equal(health.swap_total, 10 * 1024);
    assert_int_equal(health.swap_free, 0);
    health_read_load("0.52 1.07 12.345 3/104 991\n", &health);
    assert_int_equal(health.load1_milli, 520);
    assert_int_equal(health.load5_milli, 1070);
    assert_int_equal(health.load15_milli, 12345);
    assert_int_equal(health.processes, 104);
    health_read_load("nonsense", &health);
    assert_int_equal(health.load1_milli, 0);
}

static size_t three_streams(void *arg)
{
    return 3;
}

static void test_health_of_this_machine_is_complete(void **state)
{
    lima_guest_v1_Health health = lima_guest_v1_Health_init_zero;

    health_fill(&health, &(struct health_options){.port_method = "poll", .streams = three_streams});
    assert_true(health.uptime_ms > 0);
    assert_true(health.memory_total >= health.memory_available && health.memory_available > 0);
    assert_true(health.disk_total > 0);
    assert_true(health.processes > 0);
    assert_true(health.agent_rss_kib > 0);
    assert_int_equal(health.agent_streams, 3);
    assert_string_equal(health.port_method, "poll");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variables_are_taken_literally),
        cmocka_unit_test(test_odd_variables_are_refused_with_their_line),
        cmocka_unit_test(test_environment_is_read_as_pam_does),
        cmocka_unit_test(test_merge_takes_only_the_prefix),
        cmocka_unit_test(test_tail_is_the_last_lines),
        cmocka_unit_test(test_tail_drops_a_line_cut_at_the_front),
        cmocka_unit_test(test_tail_is_clean_text),
        cmocka_unit_test(test_interpreter_has_at_most_one_argument),
        cmocka_unit_test(test_default_route_is_found_among_others),
        cmocka_unit_test(test_growing_needs_free_space_behind_the_last_partition),
        cmocka_unit_test(test_device_event_names_its_subsystem),
        cmocka_unit_test(test_volume_label_is_compared_whole),
        cmocka_unit_test(test_os_release_value_is_unquoted),
        cmocka_unit_test(test_cut_text_keeps_whole_characters),
        cmocka_unit_test(test_services_name_the_program),
        cmocka_unit_test(test_sha256_is_that_of_the_standard),
        cmocka_unit_test(test_memory_and_load_are_read_from_proc),
        cmocka_unit_test(test_health_of_this_machine_is_complete),
    };

    return cmocka_run_group_tests_name("guest_parts", tests, NULL, NULL);
}
