/* SPDX-License-Identifier: Apache-2.0 */
#include "config_fixture.h"

#include <arpa/inet.h>
#include "util/sys.h"

static void test_the_machine_is_sized_by_the_host(void **state)
{
    scoped(config_free) struct config *config = fixture_config(*state, IMAGE);

    assert_int_equal(config->cpus, MIN(4, sys_cpus()));
    assert_true(config->memory <= 4LL << 30);
    assert_true(config->memory <= sys_memory() / 2);
    assert_true(config->memory > MIN(4LL << 30, sys_memory() / 2) - (1 << 20));
    assert_int_equal(config->disk, 107374182400);
    assert_string_equal(config->arch, sys_arch());
    assert_string_equal(config->images[0].file.arch, sys_arch());
}

static void test_time_zone_is_the_hosts_or_as_said(void **state)
{
    scoped(free) char *zone = sys_timezone();
    scoped(config_free) struct config *config = fixture_config(*state, IMAGE);

    assert_string_equal(config->timezone, zone);
    config_free(config);
    config = fixture_config(*state, IMAGE "timezone: ''\n");
    assert_string_equal(config->timezone, "");
}

static void test_the_guests_user_is_never_root(void **state)
{
    scoped(config_free) struct config *config = fixture_config(*state, IMAGE);

    assert_string_not_equal(config->user.name, "root");
    assert_int_not_equal(config->user.uid, 0);
    assert_string_equal(config->user.shell, "/bin/bash");
    assert_true(config->user.passwordless_sudo);
    if (sys_uid() == 0) {
        assert_string_equal(config->user.name, "lima");
        assert_string_equal(config->user.comment, "");
        assert_string_equal(config->user.home, "/home/lima.guest");
        assert_int_equal(config->user.uid, 1000);
    } else {
        assert_int_equal(config->user.uid, sys_uid());
    }
}

static void test_homes_follow_the_users_name(void **state)
{
    static const struct {
        const char *created_by, *home;
    } cases[] = {
        {NULL, "/home/bob.guest"},
        {"2.1.0", "/home/bob.guest"},
        {"2.2.0-4-gabc", "/home/bob.guest"},
        {"2.0.3", "/home/bob.linux"},
        {"", "/home/bob.linux"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(config_free) struct config *config = NULL;

        assert_works(fixture_load_as(*state, IMAGE "user: {name: bob}\n", cases[i].created_by,
                                     &config, &err),
                     &err);
        assert_string_equal(config->user.home, cases[i].home);
    }
}

static void test_only_an_old_default_instance_has_a_fixed_port(void **state)
{
    static const struct {
        const char *instance, *created_by;
        int port;
    } cases[] = {
        {"default", NULL, 0},
        {"default", "2.0.0", 0},
        {"default", "1.2.3", 60022},
        {"box", "1.2.3", 0},
    };
    const struct fixture *fixture = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct config_load_options options = {
            .lima_home = fixture->home,
            .instance = cases[i].instance,
            .created_by = cases[i].created_by,
        };
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(config_free) struct config *config = NULL;

        assert_works(config_load_text("lima.yaml", IMAGE, &options, &config, &err), &err);
        assert_int_equal(config->ssh.local_port, cases[i].port);
    }
}

static void test_architectures_go_down_from_instance_to_kernel(void **state)
{
    scoped(config_free) struct config *config =
        fixture_config(*state, "arch: s390x\nimages:\n- location: /a\n  kernel: {location: /k}\n"
                               "- location: /b\n  arch: riscv64\n  initrd: {location: /i}\n");

    assert_string_equal(config->images[0].file.arch, "s390x");
    assert_string_equal(config->images[0].kernel.arch, "s390x");
    assert_false(config->images[0].has_initrd);
    assert_string_equal(config->images[1].file.arch, "riscv64");
    assert_string_equal(config->images[1].initrd.arch, "riscv64");
}

static void test_probes_are_numbered(void **state)
{
    scoped(config_free) struct config *config = fixture_config(
        *state, IMAGE "probes: [{script: '#!a'}, {script: '#!b', description: two}, {script: "
                      "'#!c', description: ''}]\n");

    assert_string_equal(config->probes[0].description, "user probe 1/3");
    assert_string_equal(config->probes[1].description, "two");
    assert_string_equal(config->probes[2].description, "user probe 3/3");
}

static void test_port_forwards_fill_their_gaps(void **state)
{
    static const struct {
        const char *text, *guest_ip, *host_ip;
        bool zero;
        int guest[2], host[2];
    } cases[] = {
        {"{}", "127.0.0.1", "127.0.0.1", false, {1, 65535}, {1, 65535}},
        {"{guestPort: 8080}", "127.0.0.1", "127.0.0.1", false, {8080, 8080}, {8080, 8080}},
        {"{guestPort: 8080, hostPort: 8888}",
         "127.0.0.1",
         "127.0.0.1",
         false,
         {8080, 8080},
         {8888, 8888}},
        {"{guestPortRange: [80, 81]}", "127.0.0.1", "127.0.0.1", false, {80, 81}, {80, 81}},
        {"{guestPortRange: [80, 81], hostPortRange: [90, 91]}",
         "127.0.0.1",
         "127.0.0.1",
         false,
         {80, 81},
         {90, 91}},
        {"{guestIP: 0.0.0.0}", "0.0.0.0", "127.0.0.1", true, {1, 65535}, {1, 65535}},
        {"{guestIPMustBeZero: true}", "0.0.0.0", "127.0.0.1", true, {1, 65535}, {1, 65535}},
        {"{guestIP: 0.0.0.0, guestIPMustBeZero: false}",
         "0.0.0.0",
         "127.0.0.1",
         false,
         {1, 65535},
         {1, 65535}},
        {"{guestIP: '::1', hostIP: '::'}", "::1", "::", false, {1, 65535}, {1, 65535}},
        {"{guestIP: '', hostIP: ''}", "127.0.0.1", "127.0.0.1", false, {1, 65535}, {1, 65535}},
        {"{guestPort: 0}", "127.0.0.1", "127.0.0.1", false, {1, 65535}, {1, 65535}},
        {"{guestPort: 80, hostSocket: /x}", "127.0.0.1", "127.0.0.1", false, {80, 80}, {0, 0}},
        {"{guestSocket: /x, hostPort: 80}", "127.0.0.1", "127.0.0.1", false, {0, 0}, {80, 80}},
        {"{guestSocket: /x, hostSocket: /y}", "127.0.0.1", "127.0.0.1", false, {0, 0}, {0, 0}},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *text = xasprintf(IMAGE "portForwards: [%s]\n", cases[i].text);
        scoped(config_free) struct config *config = fixture_config(*state, text);
        const struct config_port_forward *rule = &config->port_forwards[0];
        char ip[INET6_ADDRSTRLEN];

        assert_string_equal(inet_ntop(rule->guest_ip.family, &rule->guest_ip.v6, ip, sizeof(ip)),
                            cases[i].guest_ip);
        assert_string_equal(inet_ntop(rule->host_ip.family, &rule->host_ip.v6, ip, sizeof(ip)),
                            cases[i].host_ip);
        assert_int_equal(rule->guest_ip_must_be_zero, cases[i].zero);
        assert_int_equal(rule->guest_first, cases[i].guest[0]);
        assert_int_equal(rule->guest_last, cases[i].guest[1]);
        assert_int_equal(rule->host_first, cases[i].host[0]);
        assert_int_equal(rule->host_last, cases[i].host[1]);
        assert_int_equal(rule->proto, CONFIG_PROTO_ANY);
        assert_false(rule->reverse || rule->ignore || rule->is_static);
        assert_int_equal(rule->on_conflict, CONFIG_CONFLICT_SKIP);
    }
}

static void test_sockets_are_expanded_and_placed(void **state)
{
    const struct fixture *fixture = *state;
    scoped(free) char *beside = path_join(fixture->home, "box", "sock", "a.sock");
    scoped(free) char *inside = path_join(fixture->home, "box", "b.sock");
    scoped(config_free) struct config *config = fixture_config(
        *state, IMAGE "user: {uid: 77, name: bob}\nportForwards:\n"
                      "- {guestSocket: '/run/{{.UID}}/{{.User}}', hostSocket: a.sock}\n"
                      "- {guestSocket: '{{.Home}}/x', hostSocket: '{{.Dir}}/b.sock'}\n");

    assert_string_equal(config->port_forwards[0].guest_socket, "/run/77/bob");
    assert_string_equal(config->port_forwards[0].host_socket, beside);
    assert_string_equal(config->port_forwards[1].guest_socket, "/home/bob.guest/x");
    assert_string_equal(config->port_forwards[1].host_socket, inside);
}

static void test_scripts_that_are_no_templates_stay_and_warn(void **state)
{
    scoped(config_free) struct config *config = fixture_config(
        *state, IMAGE "provision:\n- script: 'echo {{'\n- script: 'docker ps {{.Names}}'\n"
                      "- script: 'echo {{\"{{\"}} }}'\n");

    assert_string_equal(config->provision[0].script, "echo {{");
    assert_string_equal(config->provision[1].script, "docker ps <no value>");
    assert_string_equal(config->provision[2].script, "echo {{ }}");
    assert_true(fixture_warned(*state, "lima.yaml:3:3: 'provision[0].script' is no template"));
    assert_true(fixture_warned(*state, "'provision[1].script' names a variable that does not"));
    assert_false(fixture_warned(*state, "provision[2]"));
}

static void test_plain_mode_keeps_static_forwards_and_no_zone(void **state)
{
    scoped(config_free) struct config *config = fixture_config(
        *state, IMAGE "plain: true\ntimezone: Asia/Tokyo\nportForwards:\n- {guestPort: 80}\n"
                      "- {guestPort: 81, static: true}\n- {guestPort: 82}\n");

    assert_int_equal(config->port_forward_count, 1);
    assert_int_equal(config->port_forwards[0].guest_first, 81);
    assert_string_equal(config->timezone, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_machine_is_sized_by_the_host),
        cmocka_unit_test(test_time_zone_is_the_hosts_or_as_said),
        cmocka_unit_test(test_the_guests_user_is_never_root),
        cmocka_unit_test(test_homes_follow_the_users_name),
        cmocka_unit_test(test_only_an_old_default_instance_has_a_fixed_port),
        cmocka_unit_test(test_architectures_go_down_from_instance_to_kernel),
        cmocka_unit_test(test_probes_are_numbered),
        cmocka_unit_test(test_port_forwards_fill_their_gaps),
        cmocka_unit_test(test_sockets_are_expanded_and_placed),
        cmocka_unit_test(test_scripts_that_are_no_templates_stay_and_warn),
        cmocka_unit_test(test_plain_mode_keeps_static_forwards_and_no_zone),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
