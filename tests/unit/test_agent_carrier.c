/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/carrier.h"

#include <stdlib.h>
#include "test.h"

static struct {
    struct loop *loop;
    struct peer *peer;
    struct carrier *carrier;
} f;

static const struct peer_events no_events;

static int setup(void **state)
{
    f.loop = loop_new();
    f.peer = peer_new(f.loop, &no_events, NULL);
    f.carrier = NULL;
    unsetenv("LIMA_SSH_PORT_FORWARDER");
    return 0;
}

static int teardown(void **state)
{
    carrier_free(f.carrier);
    peer_free(f.peer);
    loop_free(f.loop);
    return 0;
}

static void new_carrier(bool ssh, bool plain)
{
    struct carrier_options options = {.peer = f.peer,
                                      .ssh = ssh,
                                      .plain = plain,
                                      .lima_home = "/nonexistent",
                                      .ssh_port = 1,
                                      .user = "me"};

    f.carrier = carrier_new(f.loop, &options);
}

static void on_done(int r, struct mux_stream *stream, void *arg)
{
    fail_msg("nothing is there that could be connected to");
}

/* The carrier takes it, so it waits for ssh; the tunnels, without a session, take nothing. */
static bool waits_for_ssh(const struct peer_address *to)
{
    struct dialer *dialer = carrier_dialer(f.carrier);
    struct dialing *dialing = dialer_open(dialer, to, on_done, NULL);

    dialer_cancel(dialer, dialing);
    return dialing != NULL;
}

static const struct peer_address tcp = {
    .network = PEER_NETWORK_TCP, .address.family = AF_INET, .port = 80};
static const struct peer_address udp = {
    .network = PEER_NETWORK_UDP, .address.family = AF_INET, .port = 53};
static const struct peer_address of_user = {
    .network = PEER_NETWORK_UNIX, .path = "/run/s", .user = "me"};
static const struct peer_address of_root = {.network = PEER_NETWORK_UNIX, .path = "/run/s"};

static void test_the_variable_is_read_as_it_always_was(void **state)
{
    static const struct {
        const char *value;
        int wants; /* -1: an error */
    } cases[] = {{"1", 1},     {"t", 1},   {"T", 1},     {"true", 1},  {"TRUE", 1},
                 {"True", 1},  {"0", 0},   {"f", 0},     {"F", 0},     {"false", 0},
                 {"FALSE", 0}, {"", 0},    {"False", 0}, {"yes", -1},  {"tRUE", -1},
                 {"2", -1},    {" 1", -1}, {"on", -1},   {"true ", -1}};
    scoped(error_done) struct error err = ERROR_INIT;
    bool wants = true;

    assert_int_equal(carrier_wants_ssh(&wants, NULL), 0);
    assert_false(wants);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        setenv("LIMA_SSH_PORT_FORWARDER", cases[i].value, 1);
        if (cases[i].wants < 0) {
            assert_fails(carrier_wants_ssh(&wants, &err), &err, EINVAL, "LIMA_SSH_PORT_FORWARDER");
        } else {
            assert_int_equal(carrier_wants_ssh(&wants, &err), 0);
            assert_int_equal(wants, cases[i].wants);
        }
    }
}

static void test_without_ssh_the_agents_tunnels_carry_everything(void **state)
{
    new_carrier(false, false);
    assert_true(carrier_has_udp(f.carrier));
    assert_false(waits_for_ssh(&tcp));
    assert_false(waits_for_ssh(&of_user));
}

static void test_ssh_carries_what_the_user_may_reach(void **state)
{
    new_carrier(true, false);
    assert_true(carrier_has_udp(f.carrier));
    assert_true(waits_for_ssh(&tcp));
    assert_true(waits_for_ssh(&of_user));
    assert_false(waits_for_ssh(&of_root));
    assert_false(waits_for_ssh(&udp));
}

static void test_plain_mode_has_ssh_alone(void **state)
{
    new_carrier(false, true);
    assert_false(carrier_has_udp(f.carrier));
    assert_true(waits_for_ssh(&tcp));
    assert_true(waits_for_ssh(&of_root));
    assert_false(waits_for_ssh(&udp));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_variable_is_read_as_it_always_was, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_ssh_the_agents_tunnels_carry_everything, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_ssh_carries_what_the_user_may_reach, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plain_mode_has_ssh_alone, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
