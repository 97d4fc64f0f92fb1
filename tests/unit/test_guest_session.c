/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole agent, in a process of its own that leaves the machine alone, spoken to as the host
 * does.
 */
#include "test.h"
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guest_fixture.h"

static void test_info_tells_the_protocol(void **state)
{
    lima_guest_v1_Info info = lima_guest_v1_Info_init_zero;
    struct guest_side side;

    guest_call_info(&side);
    assert_int_equal(side.code, 0);
    assert_int_equal(guest_take_reply(&side), 0);
    assert_true(guest_take_message(&side, lima_guest_v1_Info_fields, &info));
    assert_int_equal(info.protocol, 1);
    assert_int_equal(strlen(info.boot_id), 36);
    guest_end_call(&side);
}

static void test_unknown_service_and_garbage_are_refused(void **state)
{
    struct guest_side side;

    guest_call(&side, "Nothing");
    assert_int_equal(guest_take_reply(&side), EOPNOTSUPP);
    guest_wait_for(side.fin);
    guest_end_call(&side);

    side = (struct guest_side){.stream = mux_open(guest_host.mux, &guest_side_ops, &side)};
    mux_stream_write(side.stream, "\xff\xff\xff\xff\xff\xff", 6);
    assert_int_equal(guest_take_reply(&side), EBADMSG);
    guest_wait_for(side.fin);
    guest_end_call(&side);

    guest_call(&side, "Tunnel");
    mux_stream_finish(side.stream);
    assert_int_equal(guest_take_reply(&side), EBADMSG);
    guest_wait_for(side.closed);
    guest_end_call(&side);

    guest_call_info(&side);
    assert_int_equal(guest_take_reply(&side), 0);
    guest_end_call(&side);
}

static bool names_port(const lima_guest_v1_Port *ports, size_t count, uint16_t port)
{
    for (size_t i = 0; i < count; i++) {
        if (ports[i].port == port) {
            return true;
        }
    }
    return false;
}

static void test_events_begin_with_stages_and_a_snapshot(void **state)
{
    lima_guest_v1_EventsRequest request = lima_guest_v1_EventsRequest_init_zero;
    lima_guest_v1_Event event = lima_guest_v1_Event_init_zero;
    uint16_t port;
    struct guest_side side;
    int fd;

    guest_call(&side, "Events");
    guest_send_message(&side, lima_guest_v1_EventsRequest_fields, &request);
    assert_int_equal(guest_take_reply(&side), 0);
    for (int stage = 1; stage <= lima_guest_v1_Stage_Name_READY; stage++) {
        guest_wait_for(guest_take_message(&side, lima_guest_v1_Event_fields, &event));
        assert_int_equal(event.which_kind, lima_guest_v1_Event_stage_tag);
        assert_int_equal(event.kind.stage.name, stage);
    }
    guest_wait_for(guest_take_message(&side, lima_guest_v1_Event_fields, &event));
    assert_int_equal(event.which_kind, lima_guest_v1_Event_ports_tag);
    assert_true(event.kind.ports.snapshot);

    fd = guest_listener(&port);
    do {
        guest_wait_for(guest_take_message(&side, lima_guest_v1_Event_fields, &event));
        assert_false(event.kind.ports.snapshot);
    } while (!names_port(event.kind.ports.added, event.kind.ports.added_count, port));
    close(fd);
    do {
        guest_wait_for(guest_take_message(&side, lima_guest_v1_Event_fields, &event));
    } while (!names_port(event.kind.ports.removed, event.kind.ports.removed_count, port));
    guest_end_call(&side);
}

static void call_events(struct guest_side *side, uint32_t wanted_udp)
{
    lima_guest_v1_EventsRequest request = lima_guest_v1_EventsRequest_init_zero;

    if (wanted_udp) {
        request.udp_wanted_count = 1;
        request.udp_wanted[0] = (lima_guest_v1_PortRange){wanted_udp, wanted_udp};
    }
    guest_call(side, "Events");
    guest_send_message(side, lima_guest_v1_EventsRequest_fields, &request);
}

/* Skips all events but of ports. */
static void take_ports(struct guest_side *side, lima_guest_v1_Ports *ret)
{
    lima_guest_v1_Event event = lima_guest_v1_Event_init_zero;

    do {
        guest_wait_for(guest_take_message(side, lima_guest_v1_Event_fields, &event));
    } while (event.which_kind != lima_guest_v1_Event_ports_tag);
    *ret = event.kind.ports;
}

static void test_wanted_udp_port_is_in_the_snapshot_of_the_next_stream(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    lima_guest_v1_Ports ports;
    struct guest_side first, second;
    uint16_t port;

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    port = ntohs(addr.sin_port);
    call_events(&first, port);
    assert_int_equal(guest_take_reply(&first), 0);
    do {
        take_ports(&first, &ports);
    } while (!names_port(ports.added, ports.added_count, port));

    call_events(&second, 0);
    assert_int_equal(guest_take_reply(&second), 0);
    take_ports(&second, &ports);
    assert_true(ports.snapshot);
    while (!names_port(ports.added, ports.added_count, port)) { /* many do not fit into one */
        take_ports(&second, &ports);
    }
    close(fd);
    do {
        take_ports(&second, &ports);
    } while (!names_port(ports.removed, ports.removed_count, port));
    guest_end_call(&first);
    guest_end_call(&second);
}

static void test_events_of_impossible_ports_are_refused(void **state)
{
    struct guest_side side;

    call_events(&side, 65536);
    assert_int_equal(guest_take_reply(&side), EBADMSG);
    mux_stream_finish(side.stream);
    guest_wait_for(side.closed);
    guest_end_call(&side);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_info_tells_the_protocol, guest_start, guest_stop),
        cmocka_unit_test_setup_teardown(test_unknown_service_and_garbage_are_refused, guest_start,
                                        guest_stop),
        cmocka_unit_test_setup_teardown(test_events_begin_with_stages_and_a_snapshot, guest_start,
                                        guest_stop),
        cmocka_unit_test_setup_teardown(test_wanted_udp_port_is_in_the_snapshot_of_the_next_stream,
                                        guest_start, guest_stop),
        cmocka_unit_test_setup_teardown(test_events_of_impossible_ports_are_refused, guest_start,
                                        guest_stop),
    };

    return cmocka_run_group_tests_name("guest_session", tests, NULL, NULL);
}
