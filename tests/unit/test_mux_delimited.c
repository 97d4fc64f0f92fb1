/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "base/buf.h"
#include "mux/delimited.h"

#define LIMIT 5000

static const size_t lengths[] = {0, 1, 127, 128, 129, 300, 0, 4999, 5000, 0};

static void put_messages(struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        uint8_t prefix[DELIMITED_PREFIX_MAX];

        buf_put(out, prefix, delimited_prefix(prefix, lengths[i]));
        for (size_t j = 0; j < lengths[i]; j++) {
            buf_putc(out, (char)(i + j));
        }
    }
}

/* Feeds @data in pieces; returns how many messages came, each checked. */
static size_t take_all(struct delimited *splitter, const struct buf *data, size_t piece)
{
    size_t count = 0;

    for (size_t at = 0; at < data->len; at += piece) {
        size_t len = MIN(piece, data->len - at), off = 0;
        scoped(free) uint8_t *copy = xmemdup(data->data + at, len);

        while (off < len) {
            const uint8_t *message;
            size_t used, message_len;
            int r = delimited_next(splitter, copy + off, len - off, &used, &message, &message_len);

            off += used;
            if (r == 0) {
                assert_int_equal(off, len);
                break;
            }
            assert_int_equal(r, 1);
            assert_int_equal(message_len, lengths[count]);
            for (size_t j = 0; j < message_len; j++) {
                assert_int_equal(message[j], (uint8_t)(count + j));
            }
            count++;
        }
    }
    return count;
}

static void test_messages_come_whole_whatever_the_cut(void **state)
{
    scoped(buf_done) struct buf data = BUF_INIT;

    put_messages(&data);
    for (size_t piece = 1; piece <= data.len; piece += piece < 300 ? 1 : 211) {
        scoped(delimited_done) struct delimited splitter = DELIMITED_INIT(LIMIT);

        assert_int_equal(take_all(&splitter, &data, piece), ARRAY_LEN(lengths));
        assert_int_equal(splitter.len, 0);
    }
}

static int give(struct delimited *splitter, const void *data, size_t len)
{
    const uint8_t *message;
    size_t used, message_len;

    return delimited_next(splitter, data, len, &used, &message, &message_len);
}

static void test_a_length_above_the_limit_is_refused_before_its_bytes(void **state)
{
    scoped(delimited_done) struct delimited splitter = DELIMITED_INIT(LIMIT);
    uint8_t prefix[DELIMITED_PREFIX_MAX];
    size_t n = delimited_prefix(prefix, LIMIT + 1);

    assert_int_equal(give(&splitter, prefix, n), -EMSGSIZE);
    assert_int_equal(give(&splitter, prefix, 1), 0);
    assert_int_equal(give(&splitter, prefix + 1, n - 1), -EMSGSIZE);
    assert_int_equal(give(&splitter, "\xff\xff\xff\xff\x0f", 5), -EMSGSIZE);
}

static void test_an_endless_length_is_refused(void **state)
{
    static const char endless[] = "\x80\x80\x80\x80\x80";

    for (size_t cut = 0; cut < 5; cut++) {
        scoped(delimited_done) struct delimited splitter = DELIMITED_INIT(LIMIT);

        if (cut) {
            assert_int_equal(give(&splitter, endless, cut), 0);
        }
        assert_int_equal(give(&splitter, endless + cut, 5 - cut), -EBADMSG);
    }
}

static void test_memory_grows_with_what_came_not_with_what_was_announced(void **state)
{
    scoped(delimited_done) struct delimited splitter = DELIMITED_INIT(1u << 30);
    uint8_t prefix[DELIMITED_PREFIX_MAX];
    size_t n = delimited_prefix(prefix, 1u << 30);

    assert_int_equal(give(&splitter, prefix, n), 0);
    assert_int_equal(give(&splitter, "abc", 3), 0);
    assert_true(splitter.cap < 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_come_whole_whatever_the_cut),
        cmocka_unit_test(test_a_length_above_the_limit_is_refused_before_its_bytes),
        cmocka_unit_test(test_an_endless_length_is_refused),
        cmocka_unit_test(test_memory_grows_with_what_came_not_with_what_was_announced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
