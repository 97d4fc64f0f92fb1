/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <arpa/inet.h>
#include "config/load.h"
#include "forward/rule.h"

static struct config_address address(const char *text)
{
    struct config_address a = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};

    assert_int_equal(inet_pton(a.family, text, &a.v4), 1);
    return a;
}

static struct config_port_forward rule(const char *guest_ip, bool zero, int first, int last,
                                       const char *host_ip, int host_first, bool ignore)
{
    return (struct config_port_forward){.guest_ip = address(guest_ip),
                                        .guest_ip_must_be_zero = zero,
                                        .guest_first = first,
                                        .guest_last = last,
                                        .guest_socket = "",
                                        .host_ip = address(host_ip),
                                        .host_first = host_first,
                                        .host_last = host_first + last - first,
                                        .host_socket = "",
                                        .ignore = ignore};
}

/* The rules that the cases below are looked up in, in this order. */
static struct config_port_forward rules[10];

static int setup(void **state)
{
    size_t n = 0;

    rules[n++] = rule("127.0.0.2", false, 3000, 3009, "127.0.0.1", 3000, true);
    rules[n++] = rule("0.0.0.0", false, 3010, 3019, "127.0.0.1", 3010, true);
    rules[n++] = rule("0.0.0.0", false, 3000, 3029, "127.0.0.1", 2000, false);
    rules[n++] = rule("127.0.0.1", false, 3030, 3039, "10.9.8.7", 3030, false);
    rules[n++] = rule("127.0.0.1", false, 300, 304, "127.0.0.1", 300, false);
    rules[n++] = rule("::", false, 4020, 4029, "10.9.8.7", 4020, false);
    rules[n++] = rule("0.0.0.0", true, 4040, 4049, "127.0.0.1", 4040, false);
    rules[n++] = rule("0.0.0.0", false, 4040, 4049, "127.0.0.1", 4040, true);
    rules[n++] = rule("127.0.0.1", false, 5000, 5000, "127.0.0.1", 0, false);
    rules[n - 1].host_socket = "/i/sock/x.sock";
    rules[n++] = rule("127.0.0.1", false, 80, 80, "127.0.0.1", 8080, false);
    assert_int_equal(n, ARRAY_LEN(rules));
    return 0;
}

static void test_first_fitting_rule_decides(void **state)
{
    static const struct {
        const char *ip;
        int port;
        const char *want; /* NULL: no rule; "-": ignored */
    } cases[] = {
        {"127.0.0.2", 3000, "-"},
        {"0.0.0.0", 3002, "127.0.0.1:2002"},
        {"::1", 3024, "127.0.0.1:2024"},
        {"127.0.0.1", 3011, "-"},
        {"::", 3032, "10.9.8.7:3032"},
        {"192.168.5.15", 304, NULL},
        {"192.168.5.15", 4020, "10.9.8.7:4020"},
        {"0.0.0.0", 4040, "127.0.0.1:4040"},
        {"127.0.0.1", 4043, "-"},
        {"127.0.0.1", 5000, "/i/sock/x.sock"},
        {"0.0.0.0", 80, "127.0.0.1:8080"},
        {"127.0.0.1", 22, "-"},
        {"0.0.0.0", 22, "-"},
        {"127.0.0.1", 60022, "-"},
        {"::1", 9999, "127.0.0.1:9999"},
        {"10.0.0.1", 9999, NULL},
        {"127.0.0.1", 65535, "127.0.0.1:65535"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct forward_endpoint guest = {.proto = CONFIG_PROTO_TCP,
                                         .address = address(cases[i].ip),
                                         .port = (uint16_t)cases[i].port};
        struct forward_match found;
        scoped(free) char *got = NULL;

        switch (forward_rule_match(rules, ARRAY_LEN(rules), 60022, &guest, &found)) {
        case FORWARD_VERDICT_NONE:
            break;
        case FORWARD_VERDICT_IGNORED:
            got = xstrdup("-");
            break;
        case FORWARD_VERDICT_FORWARD:
            got = forward_endpoint_format(&found.host);
            break;
        }
        if ((got == NULL) != (cases[i].want == NULL) || (got && strcmp(got, cases[i].want) != 0)) {
            fail_msg("%s port %d: got %s, want %s", cases[i].ip, cases[i].port, got, cases[i].want);
        }
    }
}

/* The examples of the rules' documentation, each with a configuration of its own. */
static void test_the_documented_examples_hold(void **state)
{
    static const char seed[] = "{guestIP: 127.0.0.2, guestPortRange: [3000, 3009], ignore: true},"
                               "{guestIP: 0.0.0.0, guestIPMustBeZero: false, guestPortRange: [3000,"
                               " 3029], hostPortRange: [2000, 2029]}";
    static const struct {
        const char *rules, *listens;
        int port;
        const char *want; /* NULL: no rule; "-": ignored */
    } cases[] = {
        {seed, "127.0.0.2", 3000, "-"},
        {seed, "0.0.0.0", 3002, "127.0.0.1:2002"},
        {seed, "::1", 3024, "127.0.0.1:2024"},
        {"{guestIP: 0.0.0.0, guestIPMustBeZero: false, guestPortRange: [3010, 3019], ignore: true}",
         "127.0.0.1", 3011, "-"},
        {"{guestPortRange: [3030, 3039], hostIP: 10.9.8.7}", "::", 3032, "10.9.8.7:3032"},
        {"{guestPortRange: [300, 304]}", "192.168.5.15", 304, NULL},
        {"{guestIP: '::', guestPortRange: [4020, 4029], hostIP: 10.9.8.7}", "192.168.5.15", 4020,
         "10.9.8.7:4020"},
        {"{guestIP: '::', guestPortRange: [4020, 4029], hostIP: 10.9.8.7}", "127.0.0.1", 4029,
         "10.9.8.7:4029"},
        {"{guestIP: '::', guestPortRange: [4020, 4029], hostIP: 10.9.8.7}", "::1", 4021,
         "10.9.8.7:4021"},
        {"{guestIPMustBeZero: true, guestPortRange: [4040, 4049]},"
         "{guestIP: 0.0.0.0, guestIPMustBeZero: false, guestPortRange: [4040, 4049], ignore: true}",
         "0.0.0.0", 4040, "127.0.0.1:4040"},
        {"{guestIPMustBeZero: true, guestPortRange: [4040, 4049]},"
         "{guestIP: 0.0.0.0, guestIPMustBeZero: false, guestPortRange: [4040, 4049], ignore: true}",
         "127.0.0.1", 4043, "-"},
        {"{guestPort: 5000, hostSocket: x.sock}", "127.0.0.1", 5000, "/l/box/sock/x.sock"},
        {"{guestPort: 80, hostPort: 8080}", "0.0.0.0", 80, "127.0.0.1:8080"},
        /* The often quoted recipe: what is bound to 127.0.0.1 goes on to be forwarded. */
        {"{guestIP: 0.0.0.0, ignore: true}", "0.0.0.0", 80, "-"},
        {"{guestIP: 0.0.0.0, ignore: true}", "127.0.0.1", 80, "127.0.0.1:80"},
        {"{guestIP: 0.0.0.0, guestIPMustBeZero: false, ignore: true}", "127.0.0.1", 80, "-"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct config_load_options options = {.lima_home = "/l", .instance = "box"};
        scoped(free) char *text =
            xasprintf("images: [{location: /i}]\nportForwards: [%s]\n", cases[i].rules);
        struct forward_endpoint guest = {.proto = CONFIG_PROTO_TCP,
                                         .address = address(cases[i].listens),
                                         .port = (uint16_t)cases[i].port};
        scoped(config_free) struct config *config = NULL;
        scoped(error_done) struct error err = ERROR_INIT;
        struct forward_match found;
        scoped(free) char *got = NULL;
        enum forward_verdict verdict;

        assert_works(config_load_text("lima.yaml", text, &options, &config, &err), &err);
        verdict = forward_rule_match(config->port_forwards, config->port_forward_count, 60022,
                                     &guest, &found);
        got = verdict == FORWARD_VERDICT_FORWARD   ? forward_endpoint_format(&found.host)
              : verdict == FORWARD_VERDICT_IGNORED ? xstrdup("-")
                                                   : NULL;
        if (!str_eq(got, cases[i].want)) {
            fail_msg("%s port %d: got %s, want %s", cases[i].listens, cases[i].port, got,
                     cases[i].want);
        }
    }
}

static void test_rules_are_the_same_by_their_ends(void **state)
{
    struct config_port_forward a = rule("127.0.0.1", false, 80, 81, "127.0.0.1", 8080, false);
    struct config_port_forward b = a;

    b.is_static = true;
    b.on_conflict = CONFIG_CONFLICT_REMAP;
    assert_true(forward_rule_same(&a, &b));
    a.proto = CONFIG_PROTO_UDP;
    assert_true(forward_rule_same(&a, &b)); /* b is any */
    assert_false(forward_rule_same(&b, &a));
    b.proto = CONFIG_PROTO_TCP;
    assert_false(forward_rule_same(&a, &b));
    b = a;
    b.host_first++;
    assert_false(forward_rule_same(&a, &b));
    b = a;
    b.guest_ip = address("127.0.0.2");
    assert_false(forward_rule_same(&a, &b));
    b = a;
    b.host_socket = "/x";
    assert_false(forward_rule_same(&a, &b));
    a.host_socket = "/x";
    b.host_first = 5; /* means nothing beside a socket */
    assert_true(forward_rule_same(&a, &b));
    b.reverse = true;
    assert_false(forward_rule_same(&a, &b));
}

static void test_rule_of_another_protocol_is_passed_over(void **state)
{
    struct config_port_forward udp = rule("127.0.0.1", false, 53, 53, "127.0.0.1", 5353, false);
    struct forward_endpoint guest = {
        .proto = CONFIG_PROTO_TCP, .address = address("127.0.0.1"), .port = 53};
    struct forward_match found;

    udp.proto = CONFIG_PROTO_UDP;
    assert_int_equal(forward_rule_match(&udp, 1, 0, &guest, &found), FORWARD_VERDICT_FORWARD);
    assert_int_equal(found.host.port, 53);
}

static void test_silence_needs_every_port_ignored_first(void **state)
{
    struct config_port_forward two[] = {
        rule("127.0.0.1", false, 1, 1000, "127.0.0.1", 1, true),
        rule("127.0.0.1", false, 1001, 65535, "127.0.0.1", 1001, true),
    };

    assert_true(forward_rules_silent(two, 2, CONFIG_PROTO_TCP));
    assert_false(forward_rules_silent(two, 1, CONFIG_PROTO_TCP));
    two[1].guest_first = 1002;
    assert_false(forward_rules_silent(two, 2, CONFIG_PROTO_TCP));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_fitting_rule_decides),
        cmocka_unit_test(test_the_documented_examples_hold),
        cmocka_unit_test(test_rules_are_the_same_by_their_ends),
        cmocka_unit_test(test_rule_of_another_protocol_is_passed_over),
        cmocka_unit_test(test_silence_needs_every_port_ignored_first),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
