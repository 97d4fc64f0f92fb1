/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "base/macros.h"
#include "mux/frame.h"

static const uint8_t host_nonce[FRAME_NONCE_LEN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const uint8_t guest_nonce[FRAME_NONCE_LEN] = {0xff, 0xfe, 0xfd, 0xfc, 0xfb};

/* CRC-32C of encode_sample()'s bytes, computed elsewhere. */
#define SAMPLE_CRC 0x583eef2e

static struct frame_session session_of(enum frame_role sender)
{
    struct frame_session session;

    frame_session_init(&session, sender, host_nonce, guest_nonce);
    return session;
}

static void test_header_survives_the_round_trip(void **state)
{
    static const struct frame_header cases[] = {
        {FRAME_TYPE_OPEN, 0, 1, 4},
        {FRAME_TYPE_DATA, 0, UINT32_MAX, FRAME_MAX_PAYLOAD},
        {FRAME_TYPE_DATA, FRAME_FLAG_FIN, 2, 0},
        {FRAME_TYPE_CREDIT, 0, 0x01020304, 4},
        {FRAME_TYPE_RESET, 0, 3, 4},
        {FRAME_TYPE_PING, 0, 0, 8},
        {FRAME_TYPE_PONG, 0, 0, 8},
    };
    struct frame_session session = session_of(FRAME_ROLE_HOST);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t bytes[FRAME_HEADER_LEN];
        struct frame_header got;

        frame_header_encode(&session, &cases[i], bytes);
        assert_int_equal(frame_header_decode(&session, bytes, &got), 0);
        assert_int_equal(got.type, cases[i].type);
        assert_int_equal(got.flags, cases[i].flags);
        assert_int_equal(got.stream, cases[i].stream);
        assert_int_equal(got.length, cases[i].length);
    }
}

static void test_header_refuses_what_its_type_does_not_have(void **state)
{
    static const struct frame_header cases[] = {
        {FRAME_TYPE_INVALID, 0, 1, 0},
        {(enum frame_type)7, 0, 1, 0},
        {(enum frame_type)255, 0, 1, 0},
        {FRAME_TYPE_OPEN, 0, 1, 3},
        {FRAME_TYPE_OPEN, FRAME_FLAG_FIN, 1, 4},
        {FRAME_TYPE_OPEN, 0, 0, 4},
        {FRAME_TYPE_DATA, 0, 1, FRAME_MAX_PAYLOAD + 1},
        {FRAME_TYPE_DATA, 0, 1, UINT32_MAX},
        {FRAME_TYPE_DATA, 2, 1, 0},
        {FRAME_TYPE_DATA, 0, 0, 1},
        {FRAME_TYPE_CREDIT, 0, 1, 5},
        {FRAME_TYPE_RESET, 0, 1, 0},
        {FRAME_TYPE_PING, 0, 1, 8},
        {FRAME_TYPE_PONG, 0, 0, 7},
    };
    struct frame_session session = session_of(FRAME_ROLE_GUEST);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t bytes[FRAME_HEADER_LEN];
        struct frame_header got;

        frame_header_encode(&session, &cases[i], bytes);
        assert_int_equal(frame_header_decode(&session, bytes, &got), -EBADMSG);
    }
}

static void test_reserved_bits_must_be_zero(void **state)
{
    struct frame_session session = session_of(FRAME_ROLE_HOST);
    struct frame_header header = {FRAME_TYPE_DATA, 0, 1, 10};
    uint8_t bytes[FRAME_HEADER_LEN];

    for (size_t at = 6; at < 8; at++) {
        frame_header_encode(&session, &header, bytes);
        bytes[at] = 0x80;
        assert_int_equal(frame_header_decode(&session, bytes, &header), -EBADMSG);
    }
}

static void test_directions_and_sessions_do_not_mix(void **state)
{
    struct frame_session host = session_of(FRAME_ROLE_HOST), guest = session_of(FRAME_ROLE_GUEST);
    struct frame_header header = {FRAME_TYPE_DATA, 0, 1, 10};
    uint8_t bytes[FRAME_HEADER_LEN], trailer[FRAME_TRAILER_LEN];
    uint8_t later_nonce[FRAME_NONCE_LEN] = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
    struct frame_session later;

    frame_session_init(&later, FRAME_ROLE_HOST, later_nonce, guest_nonce);
    frame_header_encode(&host, &header, bytes);
    frame_trailer_encode(&host, trailer);
    assert_int_equal(frame_header_decode(&guest, bytes, &header), -EBADMSG);
    assert_int_equal(frame_header_decode(&later, bytes, &header), -EBADMSG);
    assert_false(frame_trailer_ok(&guest, trailer));
    assert_false(frame_trailer_ok(&later, trailer));
    assert_true(frame_trailer_ok(&host, trailer));
}

static void test_zeros_never_parse_even_with_equal_nonces(void **state)
{
    static const uint8_t zeros[FRAME_SYNC_LEN];
    struct frame_session session;
    struct frame_header header;
    struct frame_sync sync;

    frame_session_init(&session, FRAME_ROLE_HOST, host_nonce, host_nonce);
    assert_int_equal(frame_header_decode(&session, zeros, &header), -EBADMSG);
    assert_false(frame_trailer_ok(&session, zeros));
    assert_int_equal(frame_sync_decode(zeros, &sync), -EBADMSG);
}

static void encode_sample(uint8_t out[FRAME_SYNC_LEN])
{
    struct frame_sync sync = {.version = 0x1234, .role = FRAME_ROLE_GUEST};

    memcpy(sync.nonce, guest_nonce, FRAME_NONCE_LEN);
    memcpy(sync.peer_nonce, host_nonce, FRAME_NONCE_LEN);
    frame_sync_encode(&sync, out);
}

static void test_sync_survives_the_round_trip(void **state)
{
    uint8_t bytes[FRAME_SYNC_LEN];
    struct frame_sync got;

    encode_sample(bytes);
    assert_int_equal(frame_sync_decode(bytes, &got), 0);
    assert_int_equal(got.version, 0x1234);
    assert_int_equal(got.role, FRAME_ROLE_GUEST);
    assert_memory_equal(got.nonce, guest_nonce, FRAME_NONCE_LEN);
    assert_memory_equal(got.peer_nonce, host_nonce, FRAME_NONCE_LEN);
}

static void test_sync_with_any_bit_flipped_is_refused(void **state)
{
    for (size_t bit = 0; bit < 8 * FRAME_SYNC_LEN; bit++) {
        uint8_t bytes[FRAME_SYNC_LEN];
        struct frame_sync got;

        encode_sample(bytes);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(frame_sync_decode(bytes, &got), -EBADMSG);
    }
}

static void test_sync_layout_is_the_documented_one(void **state)
{
    uint8_t bytes[FRAME_SYNC_LEN];

    encode_sample(bytes);
    assert_int_equal(bytes[FRAME_MAGIC_LEN], 0x34);
    assert_int_equal(bytes[FRAME_MAGIC_LEN + 1], 0x12);
    assert_int_equal(bytes[FRAME_MAGIC_LEN + 2], FRAME_ROLE_GUEST);
    assert_int_equal(bytes[FRAME_MAGIC_LEN + 3], 0);
    assert_memory_equal(bytes + FRAME_MAGIC_LEN + 4, guest_nonce, FRAME_NONCE_LEN);
    assert_memory_equal(bytes + FRAME_MAGIC_LEN + 20, host_nonce, FRAME_NONCE_LEN);
    assert_int_equal(frame_get_u32(bytes + FRAME_SYNC_LEN - 4), SAMPLE_CRC);
}

static void test_scan_finds_a_sync_at_every_offset_and_cut(void **state)
{
    uint8_t bytes[2 * FRAME_SYNC_LEN];

    for (size_t at = 0; at < FRAME_SYNC_LEN; at++) {
        memset(bytes, 0xf5,
               sizeof(bytes)); /* as the magic begins, so that each byte is a suspect */
        encode_sample(bytes + at);
        for (size_t len = 0; len <= at + FRAME_SYNC_LEN; len++) {
            size_t found = frame_sync_scan(bytes, len);

            if (len <= at) { /* the last byte may be the beginning of a magic */
                assert_true(found == len || found == len - 1);
            } else {
                assert_int_equal(found, at);
            }
        }
    }
}

static void test_scan_passes_over_bytes_without_a_magic(void **state)
{
    uint8_t bytes[100];

    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(frame_sync_scan(bytes, sizeof(bytes)), sizeof(bytes));
    assert_int_equal(frame_sync_scan(bytes, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_survives_the_round_trip),
        cmocka_unit_test(test_header_refuses_what_its_type_does_not_have),
        cmocka_unit_test(test_reserved_bits_must_be_zero),
        cmocka_unit_test(test_directions_and_sessions_do_not_mix),
        cmocka_unit_test(test_zeros_never_parse_even_with_equal_nonces),
        cmocka_unit_test(test_sync_survives_the_round_trip),
        cmocka_unit_test(test_sync_with_any_bit_flipped_is_refused),
        cmocka_unit_test(test_sync_layout_is_the_documented_one),
        cmocka_unit_test(test_scan_finds_a_sync_at_every_offset_and_cut),
        cmocka_unit_test(test_scan_passes_over_bytes_without_a_magic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
