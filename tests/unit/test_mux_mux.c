/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "base/macros.h"
#include "mux/ring.h"
#include "mux_pair.h"

#define BIG (3 * MUX_WINDOW_MAX + 12345)

static struct pair pair;
static uint8_t *big;

static int setup(void **state)
{
    pair_init(&pair);
    big = xmalloc(BIG);
    for (size_t i = 0; i < BIG; i++) {
        big[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16));
    }
    return 0;
}

static int teardown(void **state)
{
    pair_done(&pair);
    free(big);
    return 0;
}

static void assert_got(const struct pair_stream *stream, const void *data, size_t len)
{
    assert_int_equal(stream->got.len, len);
    if (len) {
        assert_memory_equal(stream->got.data, data, len);
    }
}

/* One exchange over a session that is up; proves that it carries both ways. */
static void assert_carries(void)
{
    struct pair_stream *mine = pair_open(&pair.host), *theirs;

    assert_non_null(mine->handle);
    pair_send(mine, "question", 8, true);
    pair_run(&pair, 0);
    theirs = pair_last(&pair.guest);
    assert_got(theirs, "question", 8);
    assert_true(theirs->fin);
    pair_send(theirs, "answer", 6, true);
    pair_run(&pair, 0);
    assert_got(mine, "answer", 6);
    assert_true(mine->closed && theirs->closed);
    assert_int_equal(mine->code, 0);
    assert_int_equal(theirs->code, 0);
}

/* ---- handshake ---- */

static void test_both_starting_at_once_meet(void **state)
{
    pair_up(&pair);
    assert_int_equal(pair.host.ups, 1);
    assert_int_equal(pair.guest.ups, 1);
    assert_carries();
}

static void test_one_starting_long_before_the_other_meets_it(void **state)
{
    mux_start(pair.host.mux, true);
    pair_pull(&pair.host);
    mux_start(pair.guest.mux, true);
    pair_run(&pair, 0);
    assert_carries();
}

static void test_a_first_sync_that_was_lost_is_not_needed(void **state)
{
    mux_start(pair.guest.mux, true);
    pair_pull(&pair.guest);
    buf_truncate(&pair.guest.pipe, 0); /* nobody was connected */
    mux_start(pair.host.mux, true);
    pair_run(&pair, 0);
    assert_int_equal(pair.host.ups, 1);
    assert_carries();
}

static void test_handshake_survives_every_cut(void **state)
{
    for (size_t piece = 1; piece <= 2 * FRAME_SYNC_LEN; piece++) {
        mux_start(pair.host.mux, piece % 2);
        mux_start(pair.guest.mux, piece % 3);
        pair_run(&pair, piece);
        assert_carries();
    }
}

static void test_handshake_survives_any_interleaving(void **state)
{
    for (unsigned order = 0; order < 4096; order++) {
        mux_start(pair.host.mux, false);
        mux_start(pair.guest.mux, false);
        for (int bit = 0; bit < 12; bit++) {
            struct pair_end *from = order >> bit & 1 ? &pair.host : &pair.guest;

            pair_pull(from);
            pair_push(from, from == &pair.host ? &pair.guest : &pair.host, 28, 0);
        }
        pair_run(&pair, 0);
        assert_carries();
        assert_int_equal(pair.host.pipe.len, 0);
    }
}

static void test_restart_of_one_side_ends_the_streams_of_both(void **state)
{
    struct pair_stream *mine, *theirs;

    pair_up(&pair);
    mine = pair_open(&pair.host);
    pair_send(mine, "x", 1, false);
    pair_run(&pair, 0);
    theirs = pair_last(&pair.guest);
    mux_start(pair.guest.mux, true);
    assert_true(theirs->closed);
    assert_int_equal(theirs->code, MUX_RESET_SESSION);
    assert_int_equal(pair.guest.downs, 1);
    pair_run(&pair, 0);
    assert_true(mine->closed);
    assert_int_equal(mine->code, MUX_RESET_SESSION);
    assert_int_equal(pair.host.downs, 1);
    assert_int_equal(pair.host.ups, 2);
    assert_int_equal(pair.guest.ups, 2);
    assert_carries();
}

static void test_one_side_restarting_many_times_is_met_at_last(void **state)
{
    for (int i = 0; i < 100; i++) {
        mux_start(pair.guest.mux, true);
        pair_pull(&pair.guest);
        pair_push(&pair.guest, &pair.host, (size_t)i * 700, 999);
        if (i % 7 == 0) {
            mux_start(pair.host.mux, true);
        }
        pair_pull(&pair.host);
        pair_push(&pair.host, &pair.guest, (size_t)i * 900, 0);
    }
    pair_run(&pair, 4096);
    assert_carries();
}

static void test_a_duplicate_of_the_sync_that_brought_it_up_is_no_news(void **state)
{
    uint8_t sync[FRAME_SYNC_LEN];

    mux_start(pair.host.mux, false);
    mux_start(pair.guest.mux, false);
    pair_pull(&pair.host);
    pair_push(&pair.host, &pair.guest, SIZE_MAX, 0);
    pair_pull(&pair.guest);
    assert_int_equal(pair.guest.pipe.len, FRAME_SYNC_LEN);
    memcpy(sync, pair.guest.pipe.data, sizeof(sync));
    pair_run(&pair, 0);
    assert_true(mux_is_up(pair.host.mux));
    mux_input(pair.host.mux, sync, sizeof(sync));
    assert_int_equal(pair.host.downs, 0);
    assert_carries();
}

static void test_our_own_bytes_coming_back_bring_nothing_up(void **state)
{
    mux_start(pair.host.mux, true);
    pair_pull(&pair.host);
    pair_push(&pair.host, &pair.host, SIZE_MAX, 0);
    assert_int_equal(pair_pull(&pair.host), 0);
    assert_false(mux_is_up(pair.host.mux));
}

static void test_a_sync_of_another_version_is_not_answered(void **state)
{
    struct frame_sync sync = {.version = 2, .role = FRAME_ROLE_GUEST, .nonce = {1}};
    uint8_t bytes[FRAME_SYNC_LEN];

    mux_start(pair.host.mux, false);
    pair_pull(&pair.host);
    frame_sync_encode(&sync, bytes);
    mux_input(pair.host.mux, bytes, sizeof(bytes));
    assert_int_equal(pair_pull(&pair.host), 0);
}

static void test_input_before_start_and_after_stop_is_ignored(void **state)
{
    mux_start(pair.guest.mux, false);
    pair_pull(&pair.guest);
    pair_push(&pair.guest, &pair.host, 10, 0);
    pair_up(&pair);
    mux_stop(pair.host.mux);
    assert_int_equal(pair.host.downs, 1);
    assert_int_equal(mux_input(pair.host.mux, "garbage", 7), 0);
    assert_int_equal(pair_pull(&pair.host), 0);
}

/* Its first 4 bytes would be a frame's tag; the sync ends the session whatever it says. */
static void test_garbage_drops_the_session_and_a_new_one_comes_up(void **state)
{
    struct pair_stream *mine;

    pair_up(&pair);
    mine = pair_open(&pair.host);
    pair_run(&pair, 0);
    assert_int_equal(mux_input(pair.host.mux, "0123456789abcdef", 16), 1);
    assert_true(mine->closed);
    assert_int_equal(mine->code, MUX_RESET_SESSION);
    pair_run(&pair, 0);
    assert_int_equal(pair.guest.downs, 1);
    assert_carries();
}

/* It finishes the frame, so that the peer has not to wait for bytes that never come. */
static void test_a_session_dropped_in_the_middle_of_a_frame_comes_up_anew(void **state)
{
    for (size_t sent = 1; sent < 5064; sent += 113) {
        const void *data;

        pair_up(&pair);
        pair_send(pair_open(&pair.host), big, 5000, false);
        assert_true(mux_output(pair.host.mux, &data) >= sent);
        buf_put(&pair.host.pipe, data, sent);
        mux_output_done(pair.host.mux, sent);
        assert_int_equal(mux_input(pair.host.mux, "0123456789abcdef", 16), 1);
        pair_run(&pair, 0);
        assert_carries();
    }
}

/* ---- old bytes ---- */

/* Starts a transfer from @from and leaves @keep bytes of it in the pipe. */
static void leave_stale(struct pair_end *from, size_t keep)
{
    struct pair_stream *stream = pair_open(from);

    pair_send(stream, big, 5000, true);
    pair_pull(from);
    buf_truncate(&from->pipe, MIN(keep, from->pipe.len));
}

static void assert_prefix_of_big(const struct pair_end *end)
{
    for (size_t i = 0; i < MIN(end->count, (size_t)PAIR_STREAMS); i++) {
        const struct pair_stream *stream = &end->streams[i];

        assert_true(stream->got.len <= 5000);
        if (stream->got.len) {
            assert_memory_equal(stream->got.data, big, stream->got.len);
        }
    }
}

/*
 * The sender vanishes in the middle of a frame and a new one comes, without an end-of-file: what
 * the receiver gets is the beginning of the old stream or nothing, then the new session works.
 */
static void check_sender_restart_at(size_t cut, bool host_sends, size_t piece)
{
    struct pair_end *from = host_sends ? &pair.host : &pair.guest;
    struct pair_end *to = host_sends ? &pair.guest : &pair.host;
    size_t count = to->count;

    leave_stale(from, cut);
    mux_start(from->mux, true); /* as a new process would: its output knows nothing of the old */
    pair_run(&pair, piece);
    assert_true(mux_is_up(pair.host.mux) && mux_is_up(pair.guest.mux));
    assert_prefix_of_big(to);
    for (size_t i = count; i < to->count; i++) {
        assert_true(to->streams[i % PAIR_STREAMS].closed);
    }
    to->count = from->count = 0;
    assert_carries();
    pair.host.count = pair.guest.count = 0;
}

static void
test_a_sender_that_restarts_at_any_byte_of_a_frame_delivers_no_corrupt_data(void **state)
{
    size_t cut;

    pair_up(&pair);
    for (cut = 0; cut < 5100; cut += cut < 100 || cut > 5020 ? 1 : 97) {
        check_sender_restart_at(cut, true, 0);
        check_sender_restart_at(cut, false, 1000);
    }
}

/* The receiver vanishes; its successor gets the rest of the old bytes and must take none of them.
 */
static void test_a_receiver_that_restarts_at_any_byte_takes_nothing_old(void **state)
{
    for (size_t cut = 0; cut < 5100; cut += cut < 100 || cut > 5020 ? 1 : 97) {
        pair_up(&pair);
        leave_stale(&pair.host, SIZE_MAX);
        pair_push(&pair.host, &pair.guest, cut, 0);
        mux_stop(pair.guest.mux);
        pair.guest.count = 0;
        mux_start(pair.guest.mux, true);
        pair_push(&pair.host, &pair.guest, SIZE_MAX, 77);
        assert_int_equal(pair.guest.count, 0);
        pair_run(&pair, 0);
        assert_int_equal(pair.guest.count, 0);
        assert_carries();
        pair.host.count = pair.guest.count = 0;
    }
}

/* As QEMU does while nobody is connected: bytes vanish from the middle of the stream. */
static void test_lost_bytes_end_the_session_and_are_noticed(void **state)
{
    for (size_t lost = 1; lost < 5000; lost += 111) {
        struct pair_stream *mine;

        pair_up(&pair);
        pair.guest.count = 0;
        mine = pair_open(&pair.host);
        pair_send(mine, big, 5000, false);
        pair_pull(&pair.host);
        pair_push(&pair.host, &pair.guest, 30, 0);
        buf_drop(&pair.host.pipe, lost);
        for (int i = 0; i < 20 && mine->handle; i++) { /* until the old frame is full */
            pair_send(pair_open(&pair.host), big, 5000, false);
            pair_run(&pair, 0);
        }
        assert_true(mine->closed);
        assert_prefix_of_big(&pair.guest);
        pair.host.count = pair.guest.count = 0;
        assert_carries();
        pair.host.count = pair.guest.count = 0;
    }
}

static void test_stale_bytes_in_both_directions_are_never_taken_for_new(void **state)
{
    for (size_t cut = 1; cut < 5060; cut += 61) {
        pair_up(&pair);
        leave_stale(&pair.host, SIZE_MAX);
        leave_stale(&pair.guest, SIZE_MAX);
        mux_stop(pair.host.mux);
        mux_stop(pair.guest.mux);
        buf_drop(&pair.host.pipe, cut);
        buf_drop(&pair.guest.pipe, 5061 - cut);
        pair.host.count = pair.guest.count = 0;
        mux_start(pair.host.mux, true);
        mux_start(pair.guest.mux, true);
        pair_run(&pair, cut);
        assert_int_equal(pair.host.count + pair.guest.count, 0);
        assert_carries();
        pair.host.count = pair.guest.count = 0;
    }
}

static void test_a_whole_old_session_played_again_opens_nothing(void **state)
{
    scoped(buf_done) struct buf tape = BUF_INIT;
    struct pair_stream *mine;

    mux_start(pair.host.mux, false);
    mux_start(pair.guest.mux, false);
    for (int i = 0; i < 4; i++) {
        pair_pull(&pair.host);
        buf_put(&tape, buf_str(&pair.host.pipe), pair.host.pipe.len);
        pair_push(&pair.host, &pair.guest, SIZE_MAX, 0);
        pair_pull(&pair.guest);
        pair_push(&pair.guest, &pair.host, SIZE_MAX, 0);
        if (i == 2) {
            mine = pair_open(&pair.host);
            pair_send(mine, "old", 3, true);
        }
    }
    assert_int_equal(pair.guest.count, 1);
    mux_start(pair.guest.mux, false);
    mux_input(pair.guest.mux, tape.data, tape.len);
    assert_int_equal(pair.guest.count, 1);
    assert_false(mux_is_up(pair.guest.mux));
    pair_run(&pair, 0);
    assert_carries();
}

/* A tunnel may carry what looks like a sync. It must neither end the session nor, in a restart,
 * hold it up. */
static void test_a_forged_sync_in_a_tunnel_does_no_harm(void **state)
{
    struct frame_sync sync = {.version = FRAME_VERSION, .role = FRAME_ROLE_HOST, .nonce = {66}};
    uint8_t forged[10 * FRAME_SYNC_LEN];
    struct pair_stream *mine;

    for (size_t i = 0; i < 10; i++) {
        sync.nonce[1] = (uint8_t)i;
        frame_sync_encode(&sync, forged + i * FRAME_SYNC_LEN);
    }
    pair_up(&pair);
    mine = pair_open(&pair.host);
    pair_send(mine, forged, sizeof(forged), false);
    pair_run(&pair, 0);
    assert_int_equal(pair.guest.downs, 0);
    pair_send(mine, forged, sizeof(forged), false);
    pair_pull(&pair.host);
    mux_start(pair.guest.mux, true); /* its successor finds them among the old bytes */
    pair_run(&pair, 0);
    assert_carries();
}

/* ---- streams ---- */

static void test_data_arrives_whole_whatever_the_pieces(void **state)
{
    static const size_t pieces[] = {1, 7, 19, 20, 21, 4096, 65536, 65555, 65557, 300000, 0};

    pair_up(&pair);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        size_t len = pieces[i] && pieces[i] < 4096 ? 70000 : BIG;
        struct pair_stream *mine = pair_open(&pair.host), *theirs;

        pair_send(mine, big, len, true);
        pair_run(&pair, pieces[i]);
        theirs = pair_last(&pair.guest);
        assert_got(theirs, big, len);
        assert_true(theirs->fin);
        pair_send(theirs, big, len, true);
        pair_run(&pair, pieces[i]);
        assert_got(mine, big, len);
        assert_true(mine->closed && theirs->closed);
    }
    assert_int_equal(mux_stream_count(pair.host.mux), 0);
    assert_int_equal(mux_stream_count(pair.guest.mux), 0);
}

static void test_small_frames_survive_every_cut(void **state)
{
    pair_up(&pair);
    for (size_t piece = 1; piece < 200; piece++) {
        for (int i = 0; i < 3; i++) {
            pair_send(pair_open(&pair.host), big + i, 50 + piece, true);
            pair_send(pair_open(&pair.guest), big + i, 50 + piece, true);
        }
        pair_run(&pair, piece);
        assert_int_equal(pair.guest.count, 6);
        for (size_t i = 0; i < 6; i++) {
            struct pair_stream *stream = &pair.guest.streams[i];

            if (stream->got.len) { /* the host's */
                assert_memory_equal(stream->got.data, big + i % 3, stream->got.len);
                assert_int_equal(stream->got.len, 50 + piece);
            }
            assert_non_null(stream->handle);
            mux_stream_reset(stream->handle, MUX_RESET_CANCEL);
        }
        pair_run(&pair, piece);
        assert_int_equal(mux_stream_count(pair.host.mux), 0);
        pair.host.count = pair.guest.count = 0;
    }
}

static void test_the_opener_may_finish_first(void **state)
{
    struct pair_stream *mine, *theirs;

    pair_up(&pair);
    mine = pair_open(&pair.host);
    pair_send(mine, "abc", 3, true);
    pair_run(&pair, 0);
    theirs = pair_last(&pair.guest);
    assert_true(theirs->fin && !theirs->closed);
    assert_false(mine->fin || mine->closed);
    pair_send(theirs, big, 100000, true);
    pair_run(&pair, 0);
    assert_got(mine, big, 100000);
    assert_true(mine->fin && mine->closed && theirs->closed);
}

static void test_the_accepter_may_finish_first(void **state)
{
    struct pair_stream *mine, *theirs;

    pair_up(&pair);
    mine = pair_open(&pair.host);
    pair_run(&pair, 0);
    theirs = pair_last(&pair.guest);
    pair_send(theirs, NULL, 0, true);
    pair_run(&pair, 0);
    assert_true(mine->fin && !mine->closed && !theirs->closed);
    pair_send(mine, big, 100000, true);
    pair_run(&pair, 0);
    assert_got(theirs, big, 100000);
    assert_true(mine->closed && theirs->closed);
}

static void test_both_may_finish_at_once(void **state)
{
    struct pair_stream *mine, *theirs;

    pair_up(&pair);
    mine = pair_open(&pair.host);
    pair_run(&pair, 0);
    theirs = pair_last(&pair.guest);
    pair_send(mine, "a", 1, true);
    pair_send(theirs, "b", 1, true);
    pair_run(&pair, 0);
    assert_got(mine, "b", 1);
    assert_got(theirs, "a", 1);
    assert_true(mine->closed && theirs->closed);
    assert_int_equal(mine->code + theirs->code, 0);
}

static void test_a_reset_ends_both_directions_with_its_code(void **state)
{
    struct pair_stream *mine, *theirs;

    pair_up(&pair);
    mine = pair_open(&pair.host);
    pair_run(&pair, 0);
    theirs = pair_last(&pair.guest);
    pair_send(theirs, big, 1000, false); /* under way when the reset is sent: ignored */
    mux_stream_reset(mine->handle, MUX_RESET_CONNECTION);
    pair_run(&pair, 0);
    assert_true(theirs->closed);
    assert_int_equal(theirs->code, MUX_RESET_CONNECTION);
    assert_false(mine->closed);
    assert_int_equal(pair.host.downs, 0);
    assert_carries();
}

static void test_a_stream_nobody_takes_is_reset_as_unknown(void **state)
{
    struct pair_stream *mine;

    pair_up(&pair);
    pair.guest.refuse = true;
    mine = pair_open(&pair.host);
    pair_send(mine, big, 5000, true);
    pair_run(&pair, 0);
    assert_true(mine->closed);
    assert_int_equal(mine->code, MUX_RESET_UNKNOWN_SERVICE);
    assert_int_equal(pair.host.downs, 0);
}

static void test_ping_is_answered(void **state)
{
    pair_up(&pair);
    mux_ping(pair.guest.mux, (const uint8_t *)"12345678");
    pair_run(&pair, 0);
    assert_int_equal(pair.guest.pongs, 1);
    assert_int_equal(pair.host.pongs, 0);
}

static void test_nothing_opens_while_down(void **state)
{
    assert_null(mux_open(pair.host.mux, &pair_stream_ops, NULL));
    mux_start(pair.host.mux, false);
    assert_null(mux_open(pair.host.mux, &pair_stream_ops, NULL));
}

static void test_no_more_streams_open_than_the_limit(void **state)
{
    static const struct mux_stream_ops none;

    pair_up(&pair);
    for (int i = 0; i < MUX_MAX_STREAMS; i++) {
        assert_non_null(mux_open(pair.host.mux, &none, NULL));
    }
    assert_null(mux_open(pair.host.mux, &none, NULL));
    pair_pull(&pair.host);
    mux_stop(pair.host.mux);
    assert_int_equal(mux_stream_count(pair.host.mux), 0);
}

/* ---- flow control ---- */

static void test_a_receiver_that_takes_nothing_bounds_memory_and_stalls_only_itself(void **state)
{
    struct pair_stream *mine, *theirs;

    pair_up(&pair);
    pair.guest.hold = true;
    mine = pair_open(&pair.host);
    pair_send(mine, big, BIG, true);
    pair_run(&pair, 0);
    theirs = pair_last(&pair.guest);
    assert_int_equal(theirs->got.len, MUX_WINDOW);
    assert_int_equal(mux_stream_room(mine->handle), 0);
    assert_int_equal(mux_memory(pair.host.mux), 0);
    assert_int_equal(mux_memory(pair.guest.mux), 0);

    pair.guest.hold = false;
    assert_carries();
    theirs->hold = false;
    pair_consume(theirs);
    pair_run(&pair, 0);
    assert_got(theirs, big, BIG);
    assert_true(theirs->fin);
}

static void test_the_window_of_a_receiver_that_keeps_up_grows_to_its_limit(void **state)
{
    struct pair_stream *mine, *theirs;
    size_t before;

    pair_up(&pair);
    mine = pair_open(&pair.host);
    pair_send(mine, big, BIG, false);
    pair_run(&pair, 0);
    theirs = pair_last(&pair.guest);
    assert_got(theirs, big, BIG);
    theirs->hold = true;
    before = theirs->got.len;
    pair_send(mine, big, BIG, false);
    pair_run(&pair, 0);
    assert_true(theirs->got.len - before <= MUX_WINDOW_MAX);
    assert_true(theirs->got.len - before > MUX_WINDOW_MAX / 4 * 3);
}

/* Each has taken bytes before, so each window has grown as far as it may. */
static void test_what_many_stalled_streams_hold_is_bounded(void **state)
{
    size_t held = 0;

    pair_up(&pair);
    for (int i = 0; i < PAIR_STREAMS; i++) {
        struct pair_stream *mine = pair_open(&pair.host), *theirs;

        pair_send(mine, big, 16 * MUX_WINDOW, false);
        pair_run(&pair, 0);
        theirs = pair_last(&pair.guest);
        theirs->hold = true;
        pair_send(mine, big, BIG, false);
        pair_run(&pair, 0);
        held += theirs->got.len - 16 * MUX_WINDOW;
        buf_done(&theirs->got);
    }
    assert_true(held <= MUX_UNTAKEN_MAX + MUX_WINDOW_MAX + PAIR_STREAMS * MUX_WINDOW);
    assert_true(held >= MUX_UNTAKEN_MAX);
}

static void test_output_is_bounded_while_the_transport_stands(void **state)
{
    pair_up(&pair);
    for (int i = 0; i < 50; i++) {
        pair_send(pair_open(&pair.host), big, MUX_WINDOW, false);
    }
    assert_true(mux_memory(pair.host.mux) <= MUX_OUTPUT_LIMIT + 100 * FRAME_OVERHEAD);
    pair_run(&pair, 0);
    for (int i = 0; i < 50; i++) {
        assert_got(&pair.guest.streams[i], big, MUX_WINDOW);
    }
}

static void test_a_call_is_answered_while_others_fill_the_output(void **state)
{
    static char answer[MUX_EARLY / 2];
    struct pair_stream *late;

    pair_up(&pair);
    for (int i = 0; i < 20; i++) {
        pair_send(pair_open(&pair.host), big, MUX_WINDOW, false);
    }
    late = pair_open(&pair.host);
    assert_true(mux_stream_write_all(late->handle, answer, sizeof(answer)));
    assert_true(mux_stream_write_all(late->handle, answer, sizeof(answer)));
    assert_false(mux_stream_write_all(late->handle, answer, 1));
    for (int i = 0; i < 200; i++) {
        late = pair_open(&pair.host);
        (void)mux_stream_write_all(late->handle, answer, sizeof(answer));
    }
    assert_true(mux_memory(pair.host.mux) <=
                MUX_OUTPUT_LIMIT + MUX_EARLY_OUTPUT + 300 * FRAME_OVERHEAD);
}

/* When the first of many equal transfers is done, the others must not be far behind. */
static void test_streams_that_wait_get_equal_shares(void **state)
{
    size_t least = SIZE_MAX, most = 0;

    pair_up(&pair);
    for (int i = 0; i < 8; i++) {
        pair_send(pair_open(&pair.host), big, BIG, false);
    }
    for (int i = 0; i < 320; i++) {
        const void *data;
        size_t n = MIN(mux_output(pair.host.mux, &data), (size_t)32768);

        buf_put(&pair.host.pipe, data, n);
        mux_output_done(pair.host.mux, n);
        pair_push(&pair.host, &pair.guest, SIZE_MAX, 0);
        pair_pull(&pair.guest);
        pair_push(&pair.guest, &pair.host, SIZE_MAX, 0);
    }
    for (int i = 1; i < 8; i++) { /* the first had the empty queue for itself */
        least = MIN(least, pair.guest.streams[i].got.len);
        most = MAX(most, pair.guest.streams[i].got.len);
    }
    assert_true(most < BIG);
    assert_true(least > BIG / 2);
    assert_true(most - least <= MUX_WINDOW_MAX); /* the first windows to grow are ahead by that */
}

static void test_a_message_is_written_whole_or_not_at_all(void **state)
{
    struct pair_stream *mine, *theirs;

    pair_up(&pair);
    pair.guest.hold = true;
    mine = pair_open(&pair.host);
    pair_run(&pair, 0);
    assert_int_equal(mux_stream_write(mine->handle, big, MUX_WINDOW - 100), MUX_WINDOW - 100);
    pair_run(&pair, 0);
    assert_false(mux_stream_write_all(mine->handle, big, 101));
    pair_run(&pair, 0);
    assert_int_equal(mine->writable, 0);
    theirs = pair_last(&pair.guest);
    assert_int_equal(theirs->got.len, MUX_WINDOW - 100);
    pair_consume(theirs);
    pair_run(&pair, 0);
    assert_int_equal(mine->writable, 1);
    assert_true(mux_stream_write_all(mine->handle, big, 101));
    pair_run(&pair, 0);
    assert_int_equal(theirs->got.len, MUX_WINDOW + 1);
}

/* For users who look before they read what they would write. */
static void test_asking_for_room_in_vain_brings_writable(void **state)
{
    struct pair_stream *mine, *other;

    pair_up(&pair);
    pair.guest.hold = true;
    mine = pair_open(&pair.host);
    pair_run(&pair, 0);
    for (size_t n; (n = mux_stream_room(pair_open(&pair.host)->handle)) > 0;) {
        struct mux_stream *filler = pair_last(&pair.host)->handle;

        assert_int_equal(mux_stream_write(filler, big, n), n);
    }
    other = pair_open(&pair.host);
    assert_int_equal(mux_stream_room(other->handle), 0); /* no output room */
    pair_run(&pair, 0);
    assert_int_equal(other->writable, 1);
    assert_true(mux_stream_room(other->handle) > 0);
    while (mux_stream_room(mine->handle) > 0) {
        mux_stream_write(mine->handle, big, mux_stream_room(mine->handle));
        pair_run(&pair, 0);
    }
    mine->writable = 0; /* now there is no credit */
    pair_run(&pair, 0);
    assert_int_equal(mine->writable, 0);
    pair_consume(&pair.guest.streams[0]);
    pair_run(&pair, 0);
    assert_int_equal(mine->writable, 1);
}

static void test_grants_are_batched(void **state)
{
    struct pair_stream *mine;
    size_t bytes = 0;

    pair_up(&pair);
    mine = pair_open(&pair.host);
    for (int i = 0; i < 1024; i++) {
        assert_true(mux_stream_write_all(mine->handle, big, 1024));
        pair_pull(&pair.host);
        pair_push(&pair.host, &pair.guest, SIZE_MAX, 0);
        bytes += pair_pull(&pair.guest);
        pair_push(&pair.guest, &pair.host, SIZE_MAX, 0);
    }
    assert_true(bytes > 0 && bytes <= 36 * (FRAME_OVERHEAD + 4));
}

static void test_buffers_are_given_back_when_streams_are_gone(void **state)
{
    struct ring ring = RING_INIT;

    pair_up(&pair);
    for (int i = 0; i < 20; i++) {
        pair_send(pair_open(&pair.host), big, MUX_WINDOW, true);
    }
    pair_run(&pair, 1000);
    for (size_t i = 0; i < pair.guest.count; i++) {
        mux_stream_finish(pair.guest.streams[i].handle);
    }
    pair_run(&pair, 1000);
    assert_int_equal(mux_stream_count(pair.host.mux), 0);
    assert_int_equal(mux_memory(pair.host.mux) + mux_memory(pair.guest.mux), 0);
    ring_put(&ring, big, 5000);
    assert_int_equal(ring.cap, 8192);
    ring_done(&ring);
    assert_int_equal(ring.cap, 0);
}

/* ---- hostile peers ---- */

/* Speaks to a guest mux with right tags and wrong manners. */
struct forger {
    struct frame_session session;
    uint8_t nonce[FRAME_NONCE_LEN];
};

static void forger_up(struct forger *forger)
{
    struct frame_sync sync = {.version = FRAME_VERSION, .role = FRAME_ROLE_HOST}, got;
    uint8_t bytes[FRAME_SYNC_LEN];

    if (!mux_is_up(pair.guest.mux)) {
        mux_start(pair.guest.mux, false);
    }
    pair_pull(&pair.guest);
    assert_true(pair.guest.pipe.len >= FRAME_SYNC_LEN);
    assert_int_equal(frame_sync_decode((const uint8_t *)pair.guest.pipe.data + pair.guest.pipe.len -
                                           FRAME_SYNC_LEN,
                                       &got),
                     0);
    buf_truncate(&pair.guest.pipe, 0);
    forger->nonce[0]++;
    memcpy(sync.nonce, forger->nonce, FRAME_NONCE_LEN);
    memcpy(sync.peer_nonce, got.nonce, FRAME_NONCE_LEN);
    frame_sync_encode(&sync, bytes);
    mux_input(pair.guest.mux, bytes, sizeof(bytes));
    assert_true(mux_is_up(pair.guest.mux));
    frame_session_init(&forger->session, FRAME_ROLE_HOST, forger->nonce, got.nonce);
    pair_pull(&pair.guest);
    buf_truncate(&pair.guest.pipe, 0);
}

static int forge(struct forger *forger, enum frame_type type, uint8_t flags, uint32_t stream,
                 const void *payload, size_t len)
{
    struct frame_header header = {type, flags, stream, (uint32_t)len};
    scoped(free) uint8_t *bytes = xmalloc(FRAME_OVERHEAD + len);

    frame_header_encode(&forger->session, &header, bytes);
    if (len) {
        memcpy(bytes + FRAME_HEADER_LEN, payload, len);
    }
    frame_trailer_encode(&forger->session, bytes + FRAME_HEADER_LEN + len);
    return mux_input(pair.guest.mux, bytes, FRAME_OVERHEAD + len);
}

static int forge_u32(struct forger *forger, enum frame_type type, uint32_t stream, uint32_t value)
{
    uint8_t payload[4];

    frame_put_u32(payload, value);
    return forge(forger, type, 0, stream, payload, sizeof(payload));
}

static void test_wrong_and_reused_ids_end_the_session(void **state)
{
    static const struct {
        enum frame_type type;
        uint32_t stream;
    } cases[] = {
        {FRAME_TYPE_OPEN, 2},    /* our parity */
        {FRAME_TYPE_OPEN, 5},    /* used and open */
        {FRAME_TYPE_OPEN, 3},    /* below one that was used */
        {FRAME_TYPE_CREDIT, 7},  /* never opened by it */
        {FRAME_TYPE_CREDIT, 2},  /* never opened by us */
        {FRAME_TYPE_RESET, 101}, /* never opened */
    };
    struct forger forger = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        forger_up(&forger);
        assert_int_equal(forge_u32(&forger, FRAME_TYPE_OPEN, 5, 100), 0);
        assert_int_equal(forge_u32(&forger, cases[i].type, cases[i].stream, 1), 1);
        assert_false(mux_is_up(pair.guest.mux));
        assert_true(pair_last(&pair.guest)->closed);
    }
}

static void test_data_beyond_credit_resets_the_stream_alone(void **state)
{
    struct forger forger = {0};

    forger_up(&forger);
    pair.guest.hold = true;
    forge_u32(&forger, FRAME_TYPE_OPEN, 1, 100);
    forge_u32(&forger, FRAME_TYPE_OPEN, 3, 100);
    assert_int_equal(forge(&forger, FRAME_TYPE_DATA, 0, 1, big, MUX_WINDOW), 0);
    assert_false(pair.guest.streams[0].closed);
    assert_int_equal(forge(&forger, FRAME_TYPE_DATA, 0, 1, "x", 1), 0);
    assert_true(pair.guest.streams[0].closed);
    assert_int_equal(pair.guest.streams[0].code, MUX_RESET_PROTOCOL);
    assert_int_equal(pair.guest.streams[0].got.len, MUX_WINDOW);
    assert_false(pair.guest.streams[1].closed);
    assert_true(mux_is_up(pair.guest.mux));
}

static void test_data_behind_fin_resets_the_stream(void **state)
{
    struct forger forger = {0};

    forger_up(&forger);
    forge_u32(&forger, FRAME_TYPE_OPEN, 1, 100);
    forge(&forger, FRAME_TYPE_DATA, FRAME_FLAG_FIN, 1, "x", 1);
    forge(&forger, FRAME_TYPE_DATA, FRAME_FLAG_FIN, 1, "y", 1);
    assert_got(&pair.guest.streams[0], "x", 1);
    assert_int_equal(pair.guest.streams[0].code, MUX_RESET_PROTOCOL);
}

static void test_credit_that_overflows_resets_the_stream(void **state)
{
    struct forger forger = {0};

    forger_up(&forger);
    forge_u32(&forger, FRAME_TYPE_OPEN, 1, UINT32_MAX);
    forge_u32(&forger, FRAME_TYPE_CREDIT, 1, 1);
    assert_int_equal(pair.guest.streams[0].code, MUX_RESET_PROTOCOL);
}

static void test_more_streams_than_allowed_are_refused(void **state)
{
    struct forger forger = {0};

    forger_up(&forger);
    pair.guest.ignore = true;
    for (uint32_t i = 0; i < MUX_MAX_STREAMS; i++) {
        forge_u32(&forger, FRAME_TYPE_OPEN, 1 + 2 * i, 0);
    }
    assert_int_equal(pair_pull(&pair.guest), 0);
    assert_int_equal(mux_stream_count(pair.guest.mux), MUX_MAX_STREAMS);
    forge_u32(&forger, FRAME_TYPE_OPEN, 1 + 2 * MUX_MAX_STREAMS, 0);
    assert_int_equal(mux_stream_count(pair.guest.mux), MUX_MAX_STREAMS);
    assert_int_equal(pair_pull(&pair.guest), FRAME_OVERHEAD + 4);
    assert_true(mux_is_up(pair.guest.mux));
}

static void test_replies_provoked_and_never_read_end_the_session(void **state)
{
    struct forger forger = {0};
    int drops = 0;
    size_t most = 0;

    forger_up(&forger);
    for (int i = 0; i < 100000 && !drops; i++) {
        drops = forge(&forger, FRAME_TYPE_PING, 0, 0, "12345678", 8);
        most = MAX(most, mux_memory(pair.guest.mux));
    }
    assert_int_equal(drops, 1);
    assert_true(most <= MUX_OUTPUT_MAX + 100);
    assert_int_equal(mux_memory(pair.guest.mux), 0);
}

static void test_syncs_provoked_and_never_read_cost_nothing(void **state)
{
    struct frame_sync sync = {.version = FRAME_VERSION, .role = FRAME_ROLE_HOST};
    uint8_t bytes[FRAME_SYNC_LEN];

    mux_start(pair.guest.mux, true);
    for (uint32_t i = 1; i < 10000; i++) {
        frame_put_u32(sync.nonce, i);
        frame_sync_encode(&sync, bytes);
        mux_input(pair.guest.mux, bytes, sizeof(bytes));
    }
    assert_int_equal(mux_memory(pair.guest.mux), 0);
    assert_int_equal(pair_pull(&pair.guest), FRAME_MAX_TOTAL + FRAME_SYNC_LEN);
}

static void test_a_reset_code_is_never_taken_for_a_good_end(void **state)
{
    static const uint32_t codes[] = {0, MUX_RESET_SESSION, 7, UINT32_MAX};
    struct forger forger = {0};

    forger_up(&forger);
    for (uint32_t i = 0; i < ARRAY_LEN(codes); i++) {
        forge_u32(&forger, FRAME_TYPE_OPEN, 1 + 2 * i, 0);
        forge_u32(&forger, FRAME_TYPE_RESET, 1 + 2 * i, codes[i]);
        assert_int_equal(pair_last(&pair.guest)->code, MUX_RESET_CANCEL);
    }
}

/* ---- callbacks that do what they may ---- */

static void on_data_reset(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_reset(stream, MUX_RESET_CANCEL);
}

static void on_data_stop(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stop(mux_stream_mux(stream));
}

static void on_data_restart(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_start(mux_stream_mux(stream), false);
}

static void test_a_stream_and_the_mux_may_be_ended_inside_data(void **state)
{
    static const struct mux_stream_ops all[] = {
        {.data = on_data_reset},
        {.data = on_data_stop},
        {.data = on_data_restart},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        for (size_t piece = 1; piece < 40; piece += 13) {
            struct mux_stream *mine;
            struct pair_stream *theirs;

            pair_up(&pair);
            mine = mux_open(pair.guest.mux, &all[i], NULL);
            assert_non_null(mine);
            pair_run(&pair, 0);
            theirs = pair_last(&pair.host);
            pair_send(theirs, big, 1000, true);
            pair_run(&pair, piece);
            assert_true(i == 1 || theirs->closed);
            assert_int_equal(mux_stream_count(pair.guest.mux), 0);
        }
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_both_starting_at_once_meet),
        T(test_one_starting_long_before_the_other_meets_it),
        T(test_a_first_sync_that_was_lost_is_not_needed),
        T(test_handshake_survives_every_cut),
        T(test_handshake_survives_any_interleaving),
        T(test_restart_of_one_side_ends_the_streams_of_both),
        T(test_one_side_restarting_many_times_is_met_at_last),
        T(test_a_duplicate_of_the_sync_that_brought_it_up_is_no_news),
        T(test_our_own_bytes_coming_back_bring_nothing_up),
        T(test_a_sync_of_another_version_is_not_answered),
        T(test_input_before_start_and_after_stop_is_ignored),
        T(test_garbage_drops_the_session_and_a_new_one_comes_up),
        T(test_a_session_dropped_in_the_middle_of_a_frame_comes_up_anew),
        T(test_a_sender_that_restarts_at_any_byte_of_a_frame_delivers_no_corrupt_data),
        T(test_a_receiver_that_restarts_at_any_byte_takes_nothing_old),
        T(test_lost_bytes_end_the_session_and_are_noticed),
        T(test_stale_bytes_in_both_directions_are_never_taken_for_new),
        T(test_a_whole_old_session_played_again_opens_nothing),
        T(test_a_forged_sync_in_a_tunnel_does_no_harm),
        T(test_data_arrives_whole_whatever_the_pieces),
        T(test_small_frames_survive_every_cut),
        T(test_the_opener_may_finish_first),
        T(test_the_accepter_may_finish_first),
        T(test_both_may_finish_at_once),
        T(test_a_reset_ends_both_directions_with_its_code),
        T(test_a_stream_nobody_takes_is_reset_as_unknown),
        T(test_ping_is_answered),
        T(test_nothing_opens_while_down),
        T(test_no_more_streams_open_than_the_limit),
        T(test_a_receiver_that_takes_nothing_bounds_memory_and_stalls_only_itself),
        T(test_the_window_of_a_receiver_that_keeps_up_grows_to_its_limit),
        T(test_what_many_stalled_streams_hold_is_bounded),
        T(test_output_is_bounded_while_the_transport_stands),
        T(test_a_call_is_answered_while_others_fill_the_output),
        T(test_streams_that_wait_get_equal_shares),
        T(test_a_message_is_written_whole_or_not_at_all),
        T(test_asking_for_room_in_vain_brings_writable),
        T(test_grants_are_batched),
        T(test_buffers_are_given_back_when_streams_are_gone),
        T(test_wrong_and_reused_ids_end_the_session),
        T(test_data_beyond_credit_resets_the_stream_alone),
        T(test_data_behind_fin_resets_the_stream),
        T(test_credit_that_overflows_resets_the_stream),
        T(test_more_streams_than_allowed_are_refused),
        T(test_replies_provoked_and_never_read_end_the_session),
        T(test_syncs_provoked_and_never_read_cost_nothing),
        T(test_a_reset_code_is_never_taken_for_a_good_end),
        T(test_a_stream_and_the_mux_may_be_ended_inside_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
