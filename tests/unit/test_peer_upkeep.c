/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of Clock, Health and Upgrade: the guest's encoder against the host's decoder, what a
 * hostile guest may say, and what the guest reads of ours.
 */
#include "test.h"
#include <errno.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include "guest.pb.h"
#include "peer/wire_upkeep.h"

static struct {
    int calls;
    struct peer_clock_reply clock;
    struct peer_health health;
    int error;
    char text[300], more[300];
} seen;

static void on_clock(const struct peer_clock_reply *reply, void *arg)
{
    seen.calls++;
    seen.clock = *reply;
    strcpy(seen.text, reply->error);
}

static void on_health(const struct peer_health *health, void *arg)
{
    seen.calls++;
    seen.health = *health;
    strcpy(seen.text, health->port_method);
}

static void on_upgraded(int error, const char *text, const char *version, void *arg)
{
    seen.calls++;
    seen.error = error;
    strcpy(seen.text, text);
    strcpy(seen.more, version);
}

static int forget(void **state)
{
    memset(&seen, 0, sizeof(seen));
    return 0;
}

static size_t encode(const pb_msgdesc_t *fields, const void *message, uint8_t *out, size_t max)
{
    pb_ostream_t stream = pb_ostream_from_buffer(out, max);

    assert_true(pb_encode(&stream, fields, message));
    return stream.bytes_written;
}

static int give_clock(const lima_guest_v1_ClockReply *message)
{
    uint8_t bytes[512];
    size_t len = encode(lima_guest_v1_ClockReply_fields, message, bytes, sizeof(bytes));

    return wire_clock_decode(bytes, len, on_clock, NULL);
}

static int give_health(const lima_guest_v1_Health *message)
{
    uint8_t bytes[512];
    size_t len = encode(lima_guest_v1_Health_fields, message, bytes, sizeof(bytes));

    return wire_health_decode(bytes, len, on_health, NULL);
}

static void test_clock_reply_comes_through(void **state)
{
    lima_guest_v1_ClockReply message = {.probe = UINT64_MAX,
                                        .realtime_ns = PEER_CLOCK_MAX_NS,
                                        .action = lima_guest_v1_ClockReply_Action_STEPPED,
                                        .error = "a\nb\033",
                                        .was_set = true};

    assert_int_equal(give_clock(&message), 0);
    assert_true(seen.clock.probe == UINT64_MAX);
    assert_true(seen.clock.realtime_ns == PEER_CLOCK_MAX_NS);
    assert_int_equal(seen.clock.action, PEER_CLOCK_STEPPED);
    assert_true(seen.clock.was_set);
    assert_string_equal(seen.text, "a?b?");
}

static void test_time_that_cannot_be_is_refused(void **state)
{
    static const int64_t times[] = {-1, INT64_MIN, INT64_MAX, PEER_CLOCK_MAX_NS + 1};

    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        lima_guest_v1_ClockReply message = {.realtime_ns = times[i]};

        assert_int_equal(give_clock(&message), -EBADMSG);
    }
    assert_int_equal(seen.calls, 0);
}

static void test_action_that_we_do_not_know_is_none(void **state)
{
    static const int actions[] = {3, 1000, -1};

    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        lima_guest_v1_ClockReply message = {.action = (lima_guest_v1_ClockReply_Action)actions[i]};

        assert_int_equal(give_clock(&message), 0);
        assert_int_equal(seen.clock.action, PEER_CLOCK_NONE);
    }
}

static void test_health_comes_through(void **state)
{
    lima_guest_v1_Health message = {.uptime_ms = 5,
                                    .load1_milli = 1,
                                    .load5_milli = 2,
                                    .load15_milli = UINT32_MAX,
                                    .memory_total = PEER_HEALTH_MAX,
                                    .memory_available = 7,
                                    .disk_total = 10,
                                    .disk_available = 11,
                                    .swap_free = 1,
                                    .port_method = "bpf\r"};

    assert_int_equal(give_health(&message), 0);
    assert_true(seen.health.load_milli[2] == UINT32_MAX);
    assert_true(seen.health.memory_total == PEER_HEALTH_MAX);
    assert_int_equal(seen.health.memory_available, 7);
    assert_int_equal(seen.health.disk_available, 10); /* not more than there is */
    assert_int_equal(seen.health.swap_free, 0);
    assert_string_equal(seen.text, "bpf?");
}

static void test_amounts_beyond_reason_are_refused(void **state)
{
    lima_guest_v1_Health messages[] = {{.uptime_ms = UINT64_MAX},
                                       {.memory_total = PEER_HEALTH_MAX + 1},
                                       {.swap_total = UINT64_MAX},
                                       {.disk_total = 1ull << 63}};

    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        assert_int_equal(give_health(&messages[i]), -EBADMSG);
    }
    assert_int_equal(seen.calls, 0);
}

static void test_upgraded_comes_through(void **state)
{
    lima_guest_v1_Upgraded message = {.version = "1\t2", .error = 99999, .message = "no\nroom"};
    uint8_t bytes[512];
    size_t len = encode(lima_guest_v1_Upgraded_fields, &message, bytes, sizeof(bytes));

    assert_int_equal(wire_upgraded_decode(bytes, len, on_upgraded, NULL), 0);
    assert_int_equal(seen.error, EIO); /* not an errno */
    assert_string_equal(seen.text, "no?room");
    assert_string_equal(seen.more, "1\t2");
}

/* Field @number as a string of @len bytes. */
static size_t long_text(uint8_t *out, unsigned number, size_t len)
{
    out[0] = (uint8_t)(number << 3 | 2);
    out[1] = (uint8_t)(len & 0x7f) | 0x80;
    out[2] = (uint8_t)(len >> 7);
    memset(out + 3, 'x', len);
    return len + 3;
}

static void test_texts_above_their_bounds_are_refused(void **state)
{
    uint8_t bytes[1024];

    assert_int_equal(wire_clock_decode(bytes, long_text(bytes, 4, 128), on_clock, NULL), -EMSGSIZE);
    assert_int_equal(wire_clock_decode(bytes, long_text(bytes, 4, 127), on_clock, NULL), 0);
    assert_int_equal(wire_health_decode(bytes, long_text(bytes, 14, 200), on_health, NULL),
                     -EMSGSIZE);
    assert_int_equal(wire_upgraded_decode(bytes, long_text(bytes, 1, 150), on_upgraded, NULL),
                     -EMSGSIZE);
    assert_int_equal(wire_upgraded_decode(bytes, long_text(bytes, 3, 256), on_upgraded, NULL),
                     -EMSGSIZE);
    assert_int_equal(seen.calls, 1);
}

static void test_garbage_is_refused(void **state)
{
    const uint8_t bytes[] = {0x0a, 0xff, 0xff};

    assert_int_equal(wire_clock_decode(bytes, sizeof(bytes), on_clock, NULL), -EBADMSG);
    assert_int_equal(wire_health_decode(bytes, sizeof(bytes), on_health, NULL), -EBADMSG);
    assert_int_equal(wire_upgraded_decode(bytes, sizeof(bytes), on_upgraded, NULL), -EBADMSG);
    assert_int_equal(seen.calls, 0);
}

static void take(pb_istream_t *in, const pb_msgdesc_t *fields, void *ret)
{
    assert_true(pb_decode_ex(in, fields, ret, PB_DECODE_DELIMITED));
}

static void test_requests_are_what_the_guest_reads(void **state)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    struct peer_upgrade_source source = {.version = "v", .size = 1ull << 40, .sha256 = {1, 2, 3}};
    lima_guest_v1_ClockRequest clock = lima_guest_v1_ClockRequest_init_zero;
    lima_guest_v1_UpgradeRequest upgrade = lima_guest_v1_UpgradeRequest_init_zero;
    pb_istream_t in;

    wire_put_clock_probe(&out, 7);
    wire_put_clock_adjust(&out, INT64_MIN, true);
    wire_put_upgrade_request(&out, &source);
    wire_put_rollback_request(&out);
    in = pb_istream_from_buffer((uint8_t *)out.data, out.len);
    take(&in, lima_guest_v1_ClockRequest_fields, &clock);
    assert_int_equal(clock.which_kind, lima_guest_v1_ClockRequest_probe_tag);
    assert_int_equal(clock.kind.probe, 7);
    take(&in, lima_guest_v1_ClockRequest_fields, &clock);
    assert_int_equal(clock.which_kind, lima_guest_v1_ClockRequest_adjust_tag);
    assert_true(clock.kind.adjust.offset_ns == INT64_MIN && clock.kind.adjust.resumed);
    take(&in, lima_guest_v1_UpgradeRequest_fields, &upgrade);
    assert_true(upgrade.size == 1ull << 40 && !upgrade.rollback);
    assert_string_equal(upgrade.version, "v");
    assert_int_equal(upgrade.sha256.size, PEER_DIGEST_SIZE);
    assert_memory_equal(upgrade.sha256.bytes, source.sha256, PEER_DIGEST_SIZE);
    take(&in, lima_guest_v1_UpgradeRequest_fields, &upgrade);
    assert_true(upgrade.rollback);
    assert_int_equal(in.bytes_left, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_clock_reply_comes_through, forget),
        cmocka_unit_test_setup(test_time_that_cannot_be_is_refused, forget),
        cmocka_unit_test_setup(test_action_that_we_do_not_know_is_none, forget),
        cmocka_unit_test_setup(test_health_comes_through, forget),
        cmocka_unit_test_setup(test_amounts_beyond_reason_are_refused, forget),
        cmocka_unit_test_setup(test_upgraded_comes_through, forget),
        cmocka_unit_test_setup(test_texts_above_their_bounds_are_refused, forget),
        cmocka_unit_test_setup(test_garbage_is_refused, forget),
        cmocka_unit_test_setup(test_requests_are_what_the_guest_reads, forget),
    };

    return cmocka_run_group_tests_name("peer_upkeep", tests, NULL, NULL);
}
