/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "base/buf.h"

static void test_text_is_terminated_after_every_put(void **state)
{
    scoped(buf_done) struct buf buf = BUF_INIT;

    assert_string_equal(buf_str(&buf), "");
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buf_putc(&buf, 'x'), 0);
        assert_int_equal(strlen(buf.data), (size_t)i + 1);
    }
}

static void test_cap_refuses_and_changes_nothing(void **state)
{
    scoped(buf_done) struct buf buf = BUF_INIT_CAP(4);

    assert_int_equal(buf_puts(&buf, "abcd"), 0);
    assert_int_equal(buf_puts(&buf, "e"), -EMSGSIZE);
    assert_string_equal(buf.data, "abcd");
    buf_drop(&buf, 2);
    assert_int_equal(buf_puts(&buf, "ef"), 0);
    assert_string_equal(buf.data, "cdef");
}

static void test_dropping_from_the_front_keeps_the_rest(void **state)
{
    scoped(buf_done) struct buf buf = BUF_INIT;
    unsigned char next_in = 0, next_out = 0;

    for (int round = 0; round < 5000; round++) {
        size_t in = (size_t)(round * 7 % 13), out;

        for (size_t i = 0; i < in; i++) {
            assert_int_equal(buf_put(&buf, &next_in, 1), 0);
            next_in++;
        }
        out = MIN(buf.len, (size_t)(round * 5 % 11));
        for (size_t i = 0; i < out; i++) {
            assert_int_equal((unsigned char)buf.data[i], next_out);
            next_out++;
        }
        buf_drop(&buf, out);
    }
}

static void test_steal_gives_the_live_text_and_empties(void **state)
{
    scoped(buf_done) struct buf buf = BUF_INIT;
    scoped(free) char *text = NULL;

    buf_printf(&buf, "%s-%d", "key", 42);
    buf_drop(&buf, 1);
    text = buf_steal(&buf);
    assert_string_equal(text, "ey-42");
    assert_int_equal(buf.len, 0);
    free(text);
    text = buf_steal(&buf);
    assert_string_equal(text, "");
}

static void test_room_that_is_not_used_adds_nothing(void **state)
{
    scoped(buf_done) struct buf buf = BUF_INIT;
    scoped(free) char *text = NULL;
    char *room = buf_reserve(&buf, 500);

    memset(room, 'x', 500);
    free(xmemdup(room, 500)); /* leaves bytes behind for the next allocation */
    buf_done(&buf);
    buf_reserve(&buf, 500);
    text = buf_steal(&buf);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_terminated_after_every_put),
        cmocka_unit_test(test_cap_refuses_and_changes_nothing),
        cmocka_unit_test(test_dropping_from_the_front_keeps_the_rest),
        cmocka_unit_test(test_room_that_is_not_used_adds_nothing),
        cmocka_unit_test(test_steal_gives_the_live_text_and_empties),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
