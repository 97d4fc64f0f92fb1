/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct muxes in pairs, with bytes carried between the two ends by hand, and joins of streams
 * that belong to different pairs: a -- b joined to c -- d.
 */
#include "test.h"
#include "base/buf.h"
#include "mux/direct.h"
#include "mux/join.h"

#define BULK (3u << 20) /* many windows */

struct end {
    struct mux *mux;
    struct mux_stream *stream;
    struct buf got;
    bool fin, closed;
    uint32_t code;
    bool hold; /* consume nothing */
    size_t held;
    const char *send;
    size_t send_left;
    bool finish;
    bool eof_sent, broken; /* as a transport would have it */
    int outputs;           /* calls of output() */
};

static struct end a, b, c, d;
static enum direct_form form;

static void go_on(struct end *end)
{
    size_t n = mux_stream_write(end->stream, end->send, end->send_left);

    end->send += n;
    end->send_left -= n;
    if (!end->send_left && end->finish) {
        end->finish = false;
        mux_stream_finish(end->stream);
    }
}

static void on_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct end *end = arg;

    buf_put(&end->got, data, len);
    if (end->hold) {
        end->held += len;
    } else {
        mux_stream_consumed(stream, len);
    }
}

static void on_fin(struct mux_stream *stream, void *arg)
{
    ((struct end *)arg)->fin = true;
}

static void on_writable(struct mux_stream *stream, void *arg)
{
    go_on(arg);
}

static void on_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct end *end = arg;

    end->closed = true;
    end->code = code;
    end->stream = NULL;
}

static const struct mux_stream_ops stream_ops = {on_data, on_fin, on_writable, on_closed};

static void on_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    struct end *end = arg;

    end->stream = stream;
    mux_stream_set_ops(stream, &stream_ops, end);
}

static void on_output(struct mux *mux, void *arg)
{
    if (arg) {
        ((struct end *)arg)->outputs++;
    }
}

static const struct mux_ops mux_ops = {.opened = on_opened, .output = on_output};

/* What the transport between two ends does once; false when there was nothing to do. */
static bool carry(struct end *from, struct end *to)
{
    const void *data;
    size_t len = mux_output(from->mux, &data), room = direct_room(to->mux);

    if (direct_state(from->mux) == DIRECT_STATE_BROKEN) {
        if (!to->broken) {
            to->broken = true;
            direct_break(to->mux);
            return true;
        }
        return false;
    }
    if (len && room) {
        scoped(buf_done) struct buf copy = BUF_INIT;

        len = MIN(MIN(len, room), 30000u);
        buf_put(&copy, data, len);
        mux_output_done(from->mux, len);
        direct_input(to->mux, copy.data, copy.len);
        return true;
    }
    if (!len && direct_state(from->mux) == DIRECT_STATE_SHUT) {
        from->eof_sent = true;
        direct_shut(from->mux);
        direct_end(to->mux);
        return true;
    }
    if (!len && direct_state(from->mux) == DIRECT_STATE_OVER && !from->eof_sent) {
        from->eof_sent = true;
        direct_end(to->mux);
        return true;
    }
    return false;
}

static void run(void)
{
    while (carry(&a, &b) | carry(&b, &a) | carry(&c, &d) | carry(&d, &c)) {
    }
}

static void begin(struct end *opener, struct end *accepter)
{
    *opener = (struct end){.mux = direct_new(form, &mux_ops, opener)};
    *accepter = (struct end){.mux = direct_new(form, &mux_ops, accepter)};
    opener->stream = direct_open(opener->mux, &stream_ops, opener);
    direct_accept(accepter->mux);
    assert_non_null(accepter->stream);
}

static int setup(void **state)
{
    begin(&a, &b);
    begin(&c, &d);
    return 0;
}

static int teardown(void **state)
{
    struct end *ends[] = {&a, &b, &c, &d};

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        mux_free(ends[i]->mux);
        buf_done(&ends[i]->got);
    }
    return 0;
}

static char *pattern(size_t len)
{
    char *data = xmalloc(len);

    for (size_t i = 0; i < len; i++) {
        data[i] = (char)(i * 2654435761u >> 13);
    }
    return data;
}

static void send_all(struct end *end, const char *data, size_t len, bool finish)
{
    end->send = data;
    end->send_left = len;
    end->finish = finish;
    go_on(end);
}

static void test_bytes_go_both_ways_and_each_direction_ends_by_itself(void **state)
{
    scoped(free) char *data = pattern(BULK);

    send_all(&a, data, BULK, true);
    run();
    assert_true(b.fin);
    assert_false(b.closed);
    assert_int_equal(b.got.len, BULK);
    assert_memory_equal(b.got.data, data, BULK);
    send_all(&b, data, BULK, true);
    run();
    assert_int_equal(a.got.len, BULK);
    assert_memory_equal(a.got.data, data, BULK);
    assert_true(a.closed && b.closed);
    assert_int_equal(a.code | b.code, 0);
    assert_int_equal(direct_state(a.mux), DIRECT_STATE_OVER);
    assert_int_equal(direct_state(b.mux), DIRECT_STATE_OVER);
}

static void test_who_consumes_nothing_is_given_one_window(void **state)
{
    scoped(free) char *data = pattern(BULK);

    b.hold = true;
    send_all(&a, data, BULK, false);
    run();
    assert_int_equal(b.got.len, MUX_WINDOW);
    assert_int_equal(direct_room(b.mux), 0);
    b.hold = false;
    mux_stream_consumed(b.stream, b.held);
    run();
    assert_int_equal(b.got.len, BULK);
}

/* As between two programs that both write and do not read: neither may wait for the other's end. */
static void test_room_for_input_is_told_while_output_waits(void **state)
{
    scoped(free) char *data = pattern(BULK);
    int before;

    b.hold = true;
    send_all(&a, data, BULK, false);
    run();
    assert_int_equal(direct_room(b.mux), 0);
    send_all(&b, data, 1000, false); /* and nobody takes it from the mux */
    before = b.outputs;
    b.hold = false;
    mux_stream_consumed(b.stream, b.held);
    assert_true(direct_room(b.mux) > 0);
    assert_true(b.outputs > before);
}

static void test_a_reset_breaks_the_connection(void **state)
{
    mux_stream_reset(a.stream, MUX_RESET_CANCEL);
    a.stream = NULL;
    assert_int_equal(direct_state(a.mux), DIRECT_STATE_BROKEN);
    run();
    assert_true(b.closed);
    assert_int_equal(b.code, MUX_RESET_CONNECTION);
    assert_false(a.closed);
}

static void test_a_stream_that_nobody_takes_breaks_the_connection(void **state)
{
    static const struct mux_ops none = {.output = on_output};
    struct mux *mux = direct_new(form, &none, NULL);

    direct_accept(mux);
    assert_int_equal(direct_state(mux), DIRECT_STATE_BROKEN);
    direct_input(mux, "x", 1);
    mux_free(mux);
}

/* Else who counts streams would not see what a peer that takes nothing makes us hold. */
static void test_a_stream_lasts_until_its_output_is_out(void **state)
{
    scoped(free) char *data = pattern(100000);

    send_all(&a, data, 100000, true);
    send_all(&b, "", 0, true);
    while (carry(&b, &a)) {
    }
    assert_true(a.fin);
    assert_false(a.closed);
    run();
    assert_true(a.closed && b.closed);
    assert_int_equal(a.code | b.code, 0);
    assert_int_equal(b.got.len, 100000);
    assert_int_equal(direct_state(a.mux), DIRECT_STATE_OVER);
}

static void test_a_connection_that_breaks_behind_both_ends_loses_output(void **state)
{
    scoped(free) char *data = pattern(100000);

    send_all(&a, data, 100000, true);
    send_all(&b, "", 0, true);
    while (carry(&b, &a)) {
    }
    direct_break(a.mux);
    assert_true(a.closed);
    assert_int_equal(a.code, MUX_RESET_CONNECTION);
    b.broken = true;
    direct_break(b.mux);
}

enum join_end { JOIN_GOES_ON, JOIN_ORDERED, JOIN_BROKEN };

static void on_join_done(bool ordered, void *arg)
{
    *(enum join_end *)arg = ordered ? JOIN_ORDERED : JOIN_BROKEN;
}

static void test_a_join_carries_everything_and_both_ends(void **state)
{
    scoped(free) char *data = pattern(BULK);
    enum join_end done = JOIN_GOES_ON;

    join_new(b.stream, c.stream, on_join_done, &done);
    send_all(&a, data, BULK, true);
    run();
    assert_true(d.fin);
    assert_int_equal(d.got.len, BULK);
    assert_memory_equal(d.got.data, data, BULK);
    assert_int_equal(done, JOIN_GOES_ON);
    send_all(&d, data, BULK, true);
    run();
    assert_int_equal(a.got.len, BULK);
    assert_memory_equal(a.got.data, data, BULK);
    assert_true(a.closed && d.closed && done == JOIN_ORDERED);
    assert_int_equal(a.code | d.code, 0);
}

static void test_a_join_stops_a_sender_whose_reader_rests(void **state)
{
    scoped(free) char *data = pattern(BULK);
    enum join_end done = JOIN_GOES_ON;

    join_new(b.stream, c.stream, on_join_done, &done);
    d.hold = true;
    send_all(&a, data, BULK, false);
    run();
    assert_int_equal(d.got.len, MUX_WINDOW);
    assert_true(a.send_left > BULK / 2);
    d.hold = false;
    mux_stream_consumed(d.stream, d.held);
    run();
    assert_int_equal(d.got.len, BULK);
    mux_stream_reset(steal(d.stream), MUX_RESET_CANCEL);
    run();
    assert_true(a.closed && done == JOIN_BROKEN);
    assert_int_equal(a.code, MUX_RESET_CONNECTION);
}

static void test_a_join_begins_with_what_came_early(void **state)
{
    enum join_end done = JOIN_GOES_ON;

    b.hold = true;
    send_all(&a, "early", 5, true);
    run();
    join_early(join_new(b.stream, c.stream, on_join_done, &done), b.got.data, b.got.len, b.fin);
    run();
    assert_string_equal(buf_str(&d.got), "early");
    assert_true(d.fin);
    send_all(&d, "late", 4, true);
    run();
    assert_string_equal(buf_str(&a.got), "late");
    assert_int_equal(done, JOIN_ORDERED);
}

static void test_a_freed_join_resets_both(void **state)
{
    enum join_end done = JOIN_GOES_ON;

    join_free(join_new(b.stream, c.stream, on_join_done, &done));
    b.stream = c.stream = NULL;
    run();
    assert_true(a.closed && d.closed);
    assert_int_equal(done, JOIN_GOES_ON);
}

static void feed(struct end *end, const char *bytes, size_t len)
{
    direct_input(end->mux, bytes, len);
}

static void test_segments_may_be_cut_anywhere(void **state)
{
    static const char wire[] = "\3\0\0\0abc\1\0\0\0d\0\0\0\0";

    for (size_t i = 0; i < sizeof(wire) - 1; i++) {
        feed(&b, wire + i, 1);
    }
    assert_string_equal(buf_str(&b.got), "abcd");
    assert_true(b.fin);
    assert_false(b.closed);
}

static void test_an_end_that_was_not_announced_is_a_reset(void **state)
{
    static const char wire[] = "\3\0\0\0abc";

    for (size_t len = 0; len < sizeof(wire); len++) {
        teardown(NULL);
        setup(NULL);
        feed(&b, wire, len);
        direct_end(b.mux);
        assert_true(b.closed);
        assert_int_equal(b.code, MUX_RESET_CONNECTION);
        assert_int_equal(direct_state(b.mux), DIRECT_STATE_BROKEN);
    }
}

static void test_a_segment_beyond_the_limit_is_a_reset(void **state)
{
    feed(&b, "\0\0\4\0", 4);
    assert_false(b.closed);
    feed(&c, "\1\0\4\0x", 5);
    assert_true(c.closed);
    assert_int_equal(c.got.len, 0);
}

static void test_bytes_behind_the_announced_end_are_a_reset(void **state)
{
    feed(&b, "\0\0\0\0\0", 5);
    assert_true(b.fin && b.closed);
    assert_int_equal(b.code, MUX_RESET_CONNECTION);
}

static void test_who_has_made_the_connection_closes_it(void **state)
{
    mux_stream_finish(b.stream);
    mux_stream_finish(a.stream);
    assert_true(carry(&b, &a));
    assert_true(carry(&a, &b));
    assert_true(a.closed && b.closed);
    assert_int_equal(a.code | b.code, 0);
    assert_int_equal(direct_state(a.mux), DIRECT_STATE_OVER);
    assert_int_equal(direct_state(b.mux), DIRECT_STATE_OPEN);
    assert_true(direct_room(b.mux) > 0);
    direct_end(b.mux);
    assert_int_equal(direct_state(b.mux), DIRECT_STATE_OVER);
}

static void test_a_connection_that_goes_after_one_end_is_a_reset(void **state)
{
    mux_stream_finish(b.stream);
    run();
    assert_true(a.fin);
    assert_true(direct_room(a.mux) > 0);
    direct_end(a.mux);
    assert_true(a.closed);
    assert_int_equal(a.code, MUX_RESET_CONNECTION);
}

static int bare_setup(void **state)
{
    form = DIRECT_FORM_BARE;
    return setup(state);
}

static int segmented_setup(void **state)
{
    form = DIRECT_FORM_SEGMENTED;
    return setup(state);
}

#define T(name)                                                                                    \
    cmocka_unit_test_setup_teardown(name, bare_setup, teardown),                                   \
    {                                                                                              \
#name "_in_segments", name, segmented_setup, teardown, NULL                                \
    }
#define S(name) cmocka_unit_test_setup_teardown(name, segmented_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_bytes_go_both_ways_and_each_direction_ends_by_itself),
        T(test_who_consumes_nothing_is_given_one_window),
        T(test_room_for_input_is_told_while_output_waits),
        T(test_a_reset_breaks_the_connection),
        T(test_a_stream_that_nobody_takes_breaks_the_connection),
        T(test_a_stream_lasts_until_its_output_is_out),
        T(test_a_connection_that_breaks_behind_both_ends_loses_output),
        T(test_a_join_carries_everything_and_both_ends),
        T(test_a_join_stops_a_sender_whose_reader_rests),
        T(test_a_join_begins_with_what_came_early),
        T(test_a_freed_join_resets_both),
        S(test_segments_may_be_cut_anywhere),
        S(test_an_end_that_was_not_announced_is_a_reset),
        S(test_a_segment_beyond_the_limit_is_a_reset),
        S(test_bytes_behind_the_announced_end_are_a_reset),
        S(test_who_has_made_the_connection_closes_it),
        S(test_a_connection_that_goes_after_one_end_is_a_reset),
    };

    return cmocka_run_group_tests_name("mux_direct", tests, NULL, NULL);
}
