/* SPDX-License-Identifier: Apache-2.0 */
#include "config_fixture.h"

#include "config/forward.h"

static int parse(struct fixture *fixture, const char *json, struct config_port_forward *ret,
                 struct error *err)
{
    scoped(config_free) struct config *config =
        fixture_config(fixture, IMAGE "user: {name: bob, uid: 77, home: /home/b}\n");

    return config_forward_parse(jv_parse(json), fixture->home, config, ret, err);
}

static void test_a_rule_is_filled_as_in_a_file(void **state)
{
    struct fixture *fixture = *state;
    scoped(free) char *beside = path_join(fixture->home, "box", "sock", "a.sock");
    scoped(config_forward_done) struct config_port_forward rule = {0};
    scoped(config_forward_done) struct config_port_forward sockets = {0};
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(
        parse(fixture, "{\"guestPort\":80,\"hostPort\":8080,\"onConflict\":\"fail\"}", &rule, &err),
        &err);
    assert_int_equal(rule.guest_first, 80);
    assert_int_equal(rule.guest_last, 80);
    assert_int_equal(rule.host_first, 8080);
    assert_int_equal(rule.host_ip.family, AF_INET);
    assert_int_equal(rule.on_conflict, CONFIG_CONFLICT_FAIL);
    assert_string_equal(rule.host_socket, "");

    assert_works(parse(fixture, "{\"guestSocket\":\"/run/{{.UID}}\",\"hostSocket\":\"a.sock\"}",
                       &sockets, &err),
                 &err);
    assert_string_equal(sockets.guest_socket, "/run/77");
    assert_string_equal(sockets.host_socket, beside);
}

static void test_what_makes_no_rule_is_refused(void **state)
{
    static const struct {
        const char *json, *part;
    } cases[] = {
        {"[1]", "must be a map"},
        {"\"x\"", "must be a map"},
        {"null", "must be a map"},
        {"{\"guestPort\":70000}", "must be a port"},
        {"{\"guestPort\":\"x\"}", "must be an integer"},
        {"{\"guestPort\":22}", "must be a port"},
        {"{\"guestport\":80}", "unknown key"},
        {"{\"guestPortRange\":[80,82],\"hostPortRange\":[80,81]}", "must be as wide"},
        {"{\"guestSocket\":\"x\",\"hostSocket\":\"/y\"}", "must be an absolute path"},
        {"{\"guestPort\":80,\"hostIP\":\"localhost\"}", "IPv4 or"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config_port_forward rule;
        scoped(error_done) struct error err = ERROR_INIT;

        assert_fails(parse(*state, cases[i].json, &rule, &err), &err, EINVAL, cases[i].part);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rule_is_filled_as_in_a_file),
        cmocka_unit_test(test_what_makes_no_rule_is_refused),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
