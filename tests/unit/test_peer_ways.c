/* SPDX-License-Identifier: Apache-2.0 */
/* Pure parts: how a connection by vsock begins, what Info may say of it, which way is the better.
 */
#include "test.h"
#include <pb_encode.h>
#include "guest.pb.h"
#include "peer/greeter.h"
#include "peer/ways.h"
#include "peer/wire.h"

static const uint8_t key[GREETING_KEY_LEN] = "0123456789abcdef";

static size_t beginning(const char *line, uint8_t *out)
{
    memcpy(out, line, strlen(line));
    greeting_make(out + strlen(line), key);
    return strlen(line) + GREETING_LEN;
}

static void test_a_beginning_may_come_in_pieces(void **state)
{
    static const char *const lines[] = {"", "OK 1\n", "OK 1073741824\n"};
    uint8_t data[64];

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        bool line = *lines[i];
        size_t len = beginning(lines[i], data);

        for (size_t n = 0; n < len; n++) {
            assert_int_equal(greeter_parse(line, data, n, key), 0);
        }
        assert_int_equal(greeter_parse(line, data, len, key), 1);
        assert_int_equal(greeter_parse(line, data, len + 1, key), -EBADMSG);
    }
}

static void test_a_beginning_broken_anywhere_is_refused(void **state)
{
    static const char line[] = "OK 1024\n";
    uint8_t data[64];
    size_t len = beginning(line, data);

    for (size_t i = 0; i < len; i++) {
        data[i] ^= 0x80;
        assert_true(greeter_parse(true, data, len, key) < 0);
        data[i] ^= 0x80;
    }
    for (size_t i = 0; i < len - strlen(line); i++) {
        data[strlen(line) + i] ^= 1;
        assert_int_equal(greeter_parse(true, data, len, key), -EACCES);
        data[strlen(line) + i] ^= 1;
    }
}

static void test_lines_that_are_none(void **state)
{
    static const char *const lines[] = {"OK \n", "OK x\n", "ok 1\n", "OK 12345678901234567890",
                                        "\n",    "OK 1 \n"};

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        assert_int_equal(greeter_parse(true, (const uint8_t *)lines[i], strlen(lines[i]), key),
                         -EBADMSG);
    }
}

static size_t encode(const lima_guest_v1_Info *info, uint8_t *out, size_t size)
{
    pb_ostream_t stream = pb_ostream_from_buffer(out, size);

    assert_true(pb_encode(&stream, lima_guest_v1_Info_fields, info));
    return stream.bytes_written;
}

static void test_info_tells_port_and_keys(void **state)
{
    lima_guest_v1_Info info = {.protocol = 1, .has_vsock = true, .vsock.port = 2222};
    struct wire_vsock got;
    uint8_t bytes[256];
    size_t len;

    memset(info.vsock.host_key, 'h', 16);
    memset(info.vsock.guest_key, 'g', 16);
    len = encode(&info, bytes, sizeof(bytes));
    assert_int_equal(wire_vsock_decode(bytes, len, &got), 1);
    assert_int_equal(got.port, 2222);
    assert_memory_equal(got.host_key, info.vsock.host_key, 16);
    assert_memory_equal(got.guest_key, info.vsock.guest_key, 16);
    assert_int_equal(wire_vsock_decode(bytes, len - 1, &got), -EBADMSG);
    info.vsock.port = 0;
    assert_int_equal(wire_vsock_decode(bytes, encode(&info, bytes, sizeof(bytes)), &got), -EBADMSG);
    info.has_vsock = false;
    assert_int_equal(wire_vsock_decode(bytes, encode(&info, bytes, sizeof(bytes)), &got), 0);
}

static void test_keys_of_another_length_are_refused(void **state)
{
    /* vsock {port: 1, host_key: 15 bytes, guest_key: 16 bytes} */
    static const uint8_t bytes[] = "\x5a\x25\x08\x01\x12\x0f"
                                   "123456789012345"
                                   "\x1a\x10"
                                   "1234567890123456";
    struct wire_vsock got;

    assert_int_equal(wire_vsock_decode(bytes, sizeof(bytes) - 1, &got), -EBADMSG);
}

static void test_the_better_way_is_taken_per_kind(void **state)
{
    struct way_figures session = {.open_us = 500, .round_trip_us = 500, .kib_per_s = 100000};
    struct way_figures fast = {.open_us = 300, .round_trip_us = 300, .kib_per_s = 200000};
    struct way_figures like = {.open_us = 450, .round_trip_us = 450, .kib_per_s = 110000};
    struct way_figures slow = {.open_us = 900, .round_trip_us = 900, .kib_per_s = 200000};

    assert_true(way_prefers_vsock(WAY_KIND_INTERACTIVE, &session, &fast));
    assert_true(way_prefers_vsock(WAY_KIND_BULK, &session, &fast));
    assert_false(way_prefers_vsock(WAY_KIND_INTERACTIVE, &session, &like));
    assert_false(way_prefers_vsock(WAY_KIND_BULK, &session, &like));
    assert_false(way_prefers_vsock(WAY_KIND_INTERACTIVE, &session, &slow));
    assert_true(way_prefers_vsock(WAY_KIND_BULK, &session, &slow));
    assert_false(way_prefers_vsock(WAY_KIND_CONTROL, &session, &fast));
}

static void test_policies_have_names(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    enum way_policy policy;

    assert_int_equal(way_policy_parse(NULL, &policy, &err), 0);
    assert_int_equal(policy, WAY_POLICY_AUTO);
    assert_int_equal(way_policy_parse("virtio", &policy, &err), 0);
    assert_int_equal(policy, WAY_POLICY_SESSION);
    assert_int_equal(way_policy_parse("vsock", &policy, &err), 0);
    assert_int_equal(policy, WAY_POLICY_VSOCK);
    assert_fails(way_policy_parse("ssh", &policy, &err), &err, EINVAL, "'ssh'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_beginning_may_come_in_pieces),
        cmocka_unit_test(test_a_beginning_broken_anywhere_is_refused),
        cmocka_unit_test(test_lines_that_are_none),
        cmocka_unit_test(test_info_tells_port_and_keys),
        cmocka_unit_test(test_keys_of_another_length_are_refused),
        cmocka_unit_test(test_the_better_way_is_taken_per_kind),
        cmocka_unit_test(test_policies_have_names),
    };

    return cmocka_run_group_tests_name("peer_ways", tests, NULL, NULL);
}
