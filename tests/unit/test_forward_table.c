/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table with real host sockets and a peer that has no session: what listens when, and what is
 * said. Ports are picked by the kernel first, so that the tests can run beside each other.
 */
#include "test.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include "forward/internal.h"
#include "util/strv.h"

struct fixture {
    struct loop *loop;
    struct peer *peer;
    struct peer_dialer dialer;
    struct forward_env env;
    struct forward_table *table;
    struct strv said;
    uint16_t port; /* free on 127.0.0.1 when the test began */
};

static void on_changed(const struct forward_news *news, void *arg)
{
    static const char *const names[] = {"forwarding", "ignored", "stopping", "failed"};
    struct fixture *f = arg;

    strv_addf(&f->said, "%s %s%s%s", names[news->event], news->guest, news->host ? " > " : "",
              news->host ? news->host : "");
}

static const struct forward_events events = {.changed = on_changed};
static const struct peer_events no_events;

/*
 * Bound, so that nobody else can be, but not listening: host agents of other tests would see it as
 * a listener of their guest, which is this host, and want the port too.
 */
static int bind_port(uint16_t port, uint16_t *ret_port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(fd, (struct sockaddr *)&a, len) < 0) {
        close(fd);
        return -errno;
    }
    getsockname(fd, (struct sockaddr *)&a, &len);
    if (ret_port) {
        *ret_port = ntohs(a.sin_port);
    }
    return fd;
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    close(bind_port(0, &f->port));
    f->loop = loop_new();
    f->peer = peer_new(f->loop, &no_events, NULL);
    peer_dialer_init(&f->dialer, f->peer);
    f->env = (struct forward_env){.loop = f->loop, .dialer = &f->dialer.dialer};
    f->table = forward_table_new(&f->env, NULL, 0, 60022, &events, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    forward_table_free(f->table);
    peer_free(f->peer);
    loop_free(f->loop);
    strv_done(&f->said);
    free(f);
    return 0;
}

static struct peer_port port_on(const char *ip, uint16_t port)
{
    struct peer_port p = {.proto = CONFIG_PROTO_TCP, .port = port};

    p.address.family = strchr(ip, ':') ? AF_INET6 : AF_INET;
    assert_int_equal(inet_pton(p.address.family, ip, &p.address.v4), 1);
    return p;
}

/* A change from the guest, and what follows from it. */
static void update(struct fixture *f, bool snapshot, const struct peer_port *added,
                   size_t added_count, const struct peer_port *removed, size_t removed_count)
{
    forward_table_update(f->table, snapshot, added, added_count, removed, removed_count);
    while (loop_timer_pending(f->table->due)) { /* notices of other sockets come between */
        loop_once(f->loop);
    }
}

static bool host_listens(uint16_t port)
{
    int fd = bind_port(port, NULL);

    if (fd >= 0) {
        close(fd);
    }
    return fd < 0;
}

/* What was said since the last look, joined by '; '. */
static void assert_said(struct fixture *f, const char *format, ...)
{
    scoped(free) char *got = strv_join(&f->said, "; ");
    scoped(free) char *want = NULL;
    va_list ap;

    va_start(ap, format);
    want = xvasprintf(format, ap);
    va_end(ap);
    strv_done(&f->said);
    assert_string_equal(got, want);
}

static void test_listener_appears_and_goes_with_the_guests(void **state)
{
    struct fixture *f = *state;
    struct peer_port p = port_on("127.0.0.1", f->port);

    update(f, true, &p, 1, NULL, 0);
    assert_true(host_listens(f->port));
    assert_said(f, "forwarding 127.0.0.1:%u > 127.0.0.1:%u", f->port, f->port);
    update(f, false, NULL, 0, &p, 1);
    assert_false(host_listens(f->port));
    assert_said(f, "stopping 127.0.0.1:%u > 127.0.0.1:%u", f->port, f->port);
}

static void test_move_from_loopback_to_all_addresses_keeps_the_forward(void **state)
{
    struct fixture *f = *state;
    struct peer_port before = port_on("127.0.0.1", f->port), after = port_on("0.0.0.0", f->port);

    update(f, true, &before, 1, NULL, 0);
    assert_said(f, "forwarding 127.0.0.1:%u > 127.0.0.1:%u", f->port, f->port);
    update(f, false, &after, 1, &before, 1);
    assert_true(host_listens(f->port));
    assert_said(f, "");
    update(f, false, NULL, 0, &after, 1);
    assert_false(host_listens(f->port));
}

static void test_second_listener_of_one_host_port_takes_over(void **state)
{
    struct fixture *f = *state;
    struct peer_port both[] = {port_on("127.0.0.1", f->port), port_on("::1", f->port)};

    update(f, true, both, 2, NULL, 0);
    assert_said(f, "forwarding 127.0.0.1:%u > 127.0.0.1:%u", f->port, f->port);
    update(f, false, NULL, 0, &both[0], 1);
    assert_true(host_listens(f->port));
    assert_said(f, "");
}

static void test_snapshot_replaces_what_was_known(void **state)
{
    struct fixture *f = *state;
    struct peer_port p = port_on("::", f->port);

    update(f, true, &p, 1, NULL, 0);
    assert_said(f, "forwarding [::]:%u > 127.0.0.1:%u", f->port, f->port);
    update(f, true, &p, 1, NULL, 0);
    assert_said(f, "");
    update(f, true, NULL, 0, NULL, 0);
    assert_said(f, "stopping [::]:%u > 127.0.0.1:%u", f->port, f->port);
}

static void test_taken_port_fails_once_and_is_tried_again(void **state)
{
    struct fixture *f = *state;
    struct peer_port p = port_on("127.0.0.1", f->port), other = port_on("10.0.0.1", 9);
    int taken = bind_port(f->port, NULL);

    assert_true(taken >= 0);
    update(f, true, &p, 1, NULL, 0);
    assert_said(f, "failed 127.0.0.1:%u > 127.0.0.1:%u", f->port, f->port);
    update(f, false, &other, 1, NULL, 0);
    assert_said(f, "ignored 10.0.0.1:9");
    close(taken);
    update(f, false, NULL, 0, &other, 1);
    assert_said(f, "forwarding 127.0.0.1:%u > 127.0.0.1:%u", f->port, f->port);
}

static void test_snapshot_in_pieces_keeps_the_forwards_of_all(void **state)
{
    struct fixture *f = *state;
    struct peer_port p = port_on("127.0.0.1", f->port), other = port_on("10.0.0.1", 9);

    update(f, true, &p, 1, NULL, 0);
    assert_said(f, "forwarding 127.0.0.1:%u > 127.0.0.1:%u", f->port, f->port);
    forward_table_update(f->table, true, &other, 1, NULL, 0);
    update(f, false, &p, 1, NULL, 0);
    assert_said(f, "ignored 10.0.0.1:9");
}

static void test_ssh_is_not_forwarded(void **state)
{
    struct fixture *f = *state;
    struct peer_port ports[] = {port_on("0.0.0.0", 22), port_on("127.0.0.1", 60022)};

    update(f, true, ports, 2, NULL, 0);
    assert_said(f, "ignored 0.0.0.0:22; ignored 127.0.0.1:60022");
}

static void test_hostile_number_of_listeners_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct peer_port *many = xnew_n(struct peer_port, 10000);

    for (unsigned i = 0; i < 10000; i++) {
        many[i] = port_on("10.0.0.1", (uint16_t)(i + 1));
    }
    update(f, true, many, 10000, NULL, 0);
    assert_true(f->said.len <= 2048);
    free(many);
}

static void test_forwards_beyond_the_limit_are_reported_once(void **state)
{
    struct config_port_forward rules[] = {{.guest_first = 1001,
                                           .guest_last = 3000,
                                           .host_first = 1,
                                           .host_last = 2000,
                                           .proto = CONFIG_PROTO_ANY,
                                           .guest_socket = "",
                                           .host_socket = "",
                                           .is_static = true}};
    struct fixture *f = *state;
    size_t before;

    /* an address that is nobody's: each listener fails */
    inet_pton(AF_INET, "203.0.113.1", &rules[0].host_ip.v4);
    rules[0].host_ip.family = rules[0].guest_ip.family = AF_INET;
    forward_table_free(f->table);
    f->table = forward_table_new(&f->env, rules, 1, 60022, &events, f);
    update(f, true, NULL, 0, NULL, 0);
    assert_int_equal(f->said.len, 1024 + 1);
    before = f->said.len;
    update(f, true, NULL, 0, NULL, 0);
    assert_int_equal(f->said.len, before);
}

/* A table with one rule or more. */
static void use_rules(struct fixture *f, const struct config_port_forward *rules, size_t count)
{
    forward_table_free(f->table);
    f->table = forward_table_new(&f->env, rules, count, 60022, &events, f);
}

static struct config_address ip(const char *text)
{
    return port_on(text, 1).address;
}

static struct config_port_forward rule_to(uint16_t guest, uint16_t host)
{
    return (struct config_port_forward){.guest_ip = ip("127.0.0.1"),
                                        .guest_first = guest,
                                        .guest_last = guest,
                                        .host_ip = ip("127.0.0.1"),
                                        .host_first = host,
                                        .host_last = host,
                                        .guest_socket = "",
                                        .host_socket = ""};
}

static void collect_line(const struct forward_status *s, void *arg)
{
    strv_addf(arg, "%s %s%s%s%s%s%s", forward_state_names[s->state], s->guest, s->host ? " > " : "",
              s->host ? s->host : "", s->remapped ? " remapped" : "", s->trouble ? " trouble" : "",
              s->temporary ? " temporary" : "");
}

static void assert_listed(struct fixture *f, const char *format, ...)
{
    scoped(strv_done) struct strv lines = STRV_INIT;
    scoped(free) char *got = NULL;
    scoped(free) char *want = NULL;
    va_list ap;

    forward_table_list(f->table, false, collect_line, &lines);
    got = strv_join(&lines, "; ");
    va_start(ap, format);
    want = xvasprintf(format, ap);
    va_end(ap);
    assert_string_equal(got, want);
}

/* Rounds of the loop until @port is free or listened on, whatever it was before. */
static void run_until_listens(struct fixture *f, uint16_t port)
{
    while (!host_listens(port)) {
        loop_once(f->loop);
    }
}

static void test_a_taken_port_is_forwarded_as_soon_as_its_owner_lets_go(void **state)
{
    struct fixture *f = *state;
    struct peer_port p = port_on("127.0.0.1", f->port);
    int taken = bind_port(f->port, NULL);

    update(f, true, &p, 1, NULL, 0);
    assert_listed(f, "conflict 127.0.0.1:%u > 127.0.0.1:%u trouble", f->port, f->port);
    close(taken);
    run_until_listens(f, f->port);
    assert_listed(f, "forwarding 127.0.0.1:%u > 127.0.0.1:%u", f->port, f->port);
}

static void test_remap_takes_another_port_and_keeps_it(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rule = rule_to(8081, f->port);
    struct peer_port p = port_on("127.0.0.1", 8081), other = port_on("10.0.0.1", 9);
    int taken = bind_port(f->port, NULL);
    scoped(free) char *first = NULL;

    rule.on_conflict = CONFIG_CONFLICT_REMAP;
    use_rules(f, &rule, 1);
    update(f, true, &p, 1, NULL, 0);
    assert_int_equal(f->said.len, 1);
    first = xstrdup(f->said.items[0]);
    assert_true(str_starts(first, "forwarding 127.0.0.1:8081 > 127.0.0.1:"));
    close(taken);
    update(f, false, &other, 1, NULL, 0);
    assert_false(host_listens(f->port));
    update(f, false, NULL, 0, &p, 1);
    assert_int_equal(f->said.len, 3);
    assert_string_equal(strchr(f->said.items[2], ' '), strchr(first, ' '));
}

static void test_two_services_for_one_host_port_are_told_apart(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rules[] = {rule_to(8081, f->port), rule_to(8082, f->port)};
    struct peer_port both[] = {port_on("127.0.0.1", 8081), port_on("127.0.0.1", 8082)};

    use_rules(f, rules, 2);
    update(f, true, both, 2, NULL, 0);
    assert_said(f, "forwarding 127.0.0.1:8081 > 127.0.0.1:%u; failed 127.0.0.1:8082 > 127.0.0.1:%u",
                f->port, f->port);
    assert_listed(f,
                  "forwarding 127.0.0.1:8081 > 127.0.0.1:%u; "
                  "standby 127.0.0.1:8082 > 127.0.0.1:%u trouble",
                  f->port, f->port);
    update(f, false, NULL, 0, &both[0], 1);
    assert_said(f,
                "stopping 127.0.0.1:8081 > 127.0.0.1:%u; forwarding 127.0.0.1:8082 > 127.0.0.1:%u",
                f->port, f->port);
}

static void test_second_service_of_a_host_port_is_remapped_if_its_rule_says_so(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rules[] = {rule_to(8081, f->port), rule_to(8082, f->port)};
    struct peer_port both[] = {port_on("127.0.0.1", 8081), port_on("127.0.0.1", 8082)};

    rules[1].on_conflict = CONFIG_CONFLICT_REMAP;
    use_rules(f, rules, 2);
    update(f, true, both, 2, NULL, 0);
    assert_int_equal(f->said.len, 2);
    assert_true(str_starts(f->said.items[1], "forwarding 127.0.0.1:8082 > 127.0.0.1:"));
    strv_done(&f->said);
    update(f, true, both, 2, NULL, 0);
    assert_said(f, "");
}

static void test_a_users_rule_takes_the_host_port_from_the_fallback(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rule = rule_to(80, f->port);
    struct peer_port p = port_on("127.0.0.1", f->port);

    update(f, true, &p, 1, NULL, 0);
    assert_said(f, "forwarding 127.0.0.1:%u > 127.0.0.1:%u", f->port, f->port);
    rule.is_static = true;
    rule.on_conflict = CONFIG_CONFLICT_FAIL;
    rule.proto = CONFIG_PROTO_TCP;
    assert_int_equal(forward_table_add(f->table, &rule, true, NULL), 0);
    assert_said(f,
                "stopping 127.0.0.1:%u > 127.0.0.1:%u; forwarding 127.0.0.1:80 > 127.0.0.1:%u; "
                "failed 127.0.0.1:%u > 127.0.0.1:%u",
                f->port, f->port, f->port, f->port, f->port);
    assert_listed(f,
                  "forwarding 127.0.0.1:80 > 127.0.0.1:%u temporary; "
                  "standby 127.0.0.1:%u > 127.0.0.1:%u",
                  f->port, f->port, f->port);
    assert_int_equal(forward_table_remove(f->table, &rule, NULL), 0);
    assert_said(f, "stopping 127.0.0.1:80 > 127.0.0.1:%u; forwarding 127.0.0.1:%u > 127.0.0.1:%u",
                f->port, f->port, f->port);
}

static void test_static_ranges_listen_without_a_guest_and_only_once_started(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rule = rule_to(8081, 0);
    uint16_t first = (uint16_t)(f->port & 0xfffc); /* four ports, likely free as one was */

    rule.is_static = true;
    rule.guest_last = 8082;
    rule.host_first = first;
    rule.host_last = first + 1;
    rule.host_ip = ip("127.0.0.9");
    use_rules(f, &rule, 1);
    assert_listed(f, "");
    forward_table_start(f->table);
    assert_listed(f,
                  "forwarding 127.0.0.1:8081 > 127.0.0.9:%u; forwarding 127.0.0.1:8082 > "
                  "127.0.0.9:%u",
                  first, first + 1);
}

static void test_static_tcp_leaves_the_udp_of_its_port_alone(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rule = rule_to(f->port, f->port);
    struct peer_port udp = port_on("127.0.0.1", f->port);

    udp.proto = CONFIG_PROTO_UDP;
    rule.is_static = true;
    rule.proto = CONFIG_PROTO_TCP;
    use_rules(f, &rule, 1);
    update(f, true, &udp, 1, NULL, 0);
    assert_listed(f,
                  "forwarding 127.0.0.1:%u > 127.0.0.1:%u; unmatched 127.0.0.1:%u > 127.0.0.1:%u",
                  f->port, f->port, f->port, f->port);
}

static void test_a_static_rule_and_its_listener_are_one(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rule = rule_to(8081, f->port);
    struct peer_port both[] = {port_on("127.0.0.1", 8081), port_on("::", 8081)};

    rule.is_static = true;
    rule.proto = CONFIG_PROTO_TCP;
    use_rules(f, &rule, 1);
    update(f, true, both, 2, NULL, 0);
    assert_said(f, "forwarding 127.0.0.1:8081 > 127.0.0.1:%u", f->port);
    assert_listed(f, "forwarding 127.0.0.1:8081 > 127.0.0.1:%u", f->port);
    update(f, true, both, 1, NULL, 0);
    assert_listed(f, "forwarding 127.0.0.1:8081 > 127.0.0.1:%u", f->port);
}

static void test_a_static_rule_for_any_protocol_is_for_both(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rules[] = {rule_to(f->port, f->port), rule_to(53, f->port)};
    struct peer_port udp = port_on("0.0.0.0", f->port);

    f->env.udp = true;
    rules[0].is_static = rules[1].is_static = true;
    rules[1].proto = CONFIG_PROTO_UDP;
    rules[1].host_ip = ip("127.0.0.9");
    use_rules(f, rules, 2);
    forward_table_start(f->table);
    assert_said(f,
                "forwarding 127.0.0.1:%u > 127.0.0.1:%u; forwarding 127.0.0.1:%u > 127.0.0.1:%u; "
                "forwarding 127.0.0.1:53 > 127.0.0.9:%u",
                f->port, f->port, f->port, f->port, f->port);
    udp.proto = CONFIG_PROTO_UDP;
    update(f, true, &udp, 1, NULL, 0); /* the rule serves it already */
    assert_said(f, "");
}

static void test_an_ignore_rule_before_a_static_one_wins_and_is_told(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rules[] = {rule_to(8081, 8081), rule_to(8081, f->port)};

    rules[0].ignore = true;
    rules[1].is_static = true;
    use_rules(f, rules, 2);
    forward_table_start(f->table);
    assert_listed(f, "ignored 127.0.0.1:8081 trouble");
    assert_said(f, "ignored 127.0.0.1:8081");
}

static void test_what_must_work_is_not_added_when_it_does_not(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rule = rule_to(80, f->port);
    scoped(error_done) struct error err = ERROR_INIT;
    int taken = bind_port(f->port, NULL);

    rule.is_static = true;
    rule.on_conflict = CONFIG_CONFLICT_FAIL;
    rule.proto = CONFIG_PROTO_TCP;
    update(f, true, NULL, 0, NULL, 0);
    assert_fails(forward_table_add(f->table, &rule, false, &err), &err, EADDRINUSE, "in use");
    assert_listed(f, "");
    assert_said(f, ""); /* but to who asked */
    close(taken);
    assert_int_equal(forward_table_add(f->table, &rule, false, NULL), 0);
    assert_fails(forward_table_add(f->table, &rule, false, &err), &err, EEXIST, "such a rule");
    rule.proto = CONFIG_PROTO_ANY; /* of whichever protocol */
    assert_int_equal(forward_table_remove(f->table, &rule, NULL), 0);
    assert_fails(forward_table_remove(f->table, &rule, &err), &err, ENOENT, "no such rule");
}

static void test_failures_of_rules_that_must_not_fail_are_told_apart(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rules[] = {rule_to(81, f->port), rule_to(82, f->port)};
    scoped(strv_done) struct strv failures = STRV_INIT;
    int taken = bind_port(f->port, NULL);

    rules[0].is_static = rules[1].is_static = true;
    rules[1].host_ip = ip("203.0.113.1");
    rules[1].on_conflict = CONFIG_CONFLICT_FAIL;
    use_rules(f, rules, 2);
    forward_table_start(f->table);
    forward_table_failures(f->table, &failures);
    assert_int_equal(failures.len, 1);
    assert_non_null(strstr(failures.items[0], "127.0.0.1:82 of the guest is not forwarded to"));
    close(taken);
}

static void test_a_socket_of_the_guest_needs_no_listener(void **state)
{
    struct fixture *f = *state;
    struct config_port_forward rule = rule_to(0, f->port);

    rule.guest_socket = "/run/tool.sock";
    use_rules(f, &rule, 1);
    forward_table_start(f->table);
    assert_listed(f, "forwarding /run/tool.sock > 127.0.0.1:%u", f->port);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_listener_appears_and_goes_with_the_guests, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_move_from_loopback_to_all_addresses_keeps_the_forward,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_listener_of_one_host_port_takes_over, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_snapshot_replaces_what_was_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_port_fails_once_and_is_tried_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_snapshot_in_pieces_keeps_the_forwards_of_all, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_forwards_beyond_the_limit_are_reported_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_ssh_is_not_forwarded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_number_of_listeners_is_bounded, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_taken_port_is_forwarded_as_soon_as_its_owner_lets_go,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_remap_takes_another_port_and_keeps_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_two_services_for_one_host_port_are_told_apart, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_second_service_of_a_host_port_is_remapped_if_its_rule_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_users_rule_takes_the_host_port_from_the_fallback,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_static_ranges_listen_without_a_guest_and_only_once_started, setup, teardown),
        cmocka_unit_test_setup_teardown(test_static_tcp_leaves_the_udp_of_its_port_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_static_rule_and_its_listener_are_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_static_rule_for_any_protocol_is_for_both, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_an_ignore_rule_before_a_static_one_wins_and_is_told,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_must_work_is_not_added_when_it_does_not, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_failures_of_rules_that_must_not_fail_are_told_apart,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_socket_of_the_guest_needs_no_listener, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
