/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners in a guest that is not to be trusted: its side is a bare mux, spoken by the test. */
#include "test.h"
#include <errno.h>
#include <pb_encode.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "guest.pb.h"
#include "mux/mux.h"
#include "peer/listen.h"

#define WAIT_MS     20000
#define TICK_MS     10
#define STREAMS_MAX 1024

static struct loop *loop;
static struct loop_timer *tick;
static struct peer *peer;
static struct peer_listen *listening;

static struct {
    int fd;
    struct mux *mux;
    struct mux_stream *streams[STREAMS_MAX]; /* in the order they were opened; NULL: gone */
    size_t count;
} guest;

static int ports, accepts, ends, end_code;
static uint16_t last_port;
static char end_text[256];
static enum { CLOSE_NOWHERE, CLOSE_IN_LISTENING, CLOSE_IN_ACCEPTED } close_in;

/* ---- the guest ---- */

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_consumed(stream, len);
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    *(struct mux_stream **)arg = NULL;
}

static const struct mux_stream_ops stream_ops = {.data = on_stream_data,
                                                 .closed = on_stream_closed};

static void on_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    assert_true(guest.count < STREAMS_MAX);
    guest.streams[guest.count] = stream;
    mux_stream_set_ops(stream, &stream_ops, &guest.streams[guest.count++]);
}

static void on_output(struct mux *mux, void *arg)
{
}

static const struct mux_ops guest_ops = {.opened = on_opened, .output = on_output};

static void guest_turn(void)
{
    static uint8_t bytes[65536];
    const void *data;
    size_t len;
    ssize_t n;

    while ((n = recv(guest.fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        mux_input(guest.mux, bytes, (size_t)n);
    }
    while ((len = mux_output(guest.mux, &data)) > 0 &&
           (n = send(guest.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
        mux_output_done(guest.mux, (size_t)n);
    }
}

static void say(struct mux_stream *stream, const pb_msgdesc_t *fields, const void *message)
{
    uint8_t bytes[512];
    pb_ostream_t out = pb_ostream_from_buffer(bytes, sizeof(bytes));

    assert_true(pb_encode_ex(&out, fields, message, PB_ENCODE_DELIMITED));
    assert_true(mux_stream_write_all(stream, bytes, out.bytes_written));
}

static void say_reply(struct mux_stream *stream, uint32_t error, const char *text)
{
    lima_guest_v1_StreamReply reply = {.error = error};

    memcpy(reply.message, text, strlen(text) + 1);
    say(stream, lima_guest_v1_StreamReply_fields, &reply);
}

static void say_accepted(struct mux_stream *stream, uint64_t id)
{
    lima_guest_v1_Incoming message = {.which_kind = lima_guest_v1_Incoming_accepted_tag};

    message.kind.accepted.id = id;
    say(stream, lima_guest_v1_Incoming_fields, &message);
}

static void say_listening(struct mux_stream *stream, uint32_t port)
{
    lima_guest_v1_Incoming message = {.which_kind = lima_guest_v1_Incoming_listening_tag};

    message.kind.listening.port = port;
    say(stream, lima_guest_v1_Incoming_fields, &message);
}

/* ---- the host ---- */

static void on_closed(void *arg)
{
}

static const struct peer_events peer_events = {.closed = on_closed};

static void on_listening(uint16_t port, void *arg)
{
    ports++;
    last_port = port;
    if (close_in == CLOSE_IN_LISTENING) {
        peer_listen_close(steal(listening));
    }
}

static void on_accepted(struct mux_stream *stream, void *arg)
{
    accepts++;
    mux_stream_reset(stream, MUX_RESET_CANCEL);
    if (close_in == CLOSE_IN_ACCEPTED) {
        peer_listen_close(steal(listening));
    }
}

static void on_ended(int r, const char *text, void *arg)
{
    ends++;
    end_code = r;
    snprintf(end_text, sizeof(end_text), "%s", text ? text : "");
    listening = NULL;
}

static const struct peer_listen_events listen_events = {
    .listening = on_listening, .accepted = on_accepted, .ended = on_ended};

static void on_tick(void *arg)
{
}

static void turn(void)
{
    loop_timer_set(tick, TICK_MS);
    guest_turn();
    loop_once(loop);
    guest_turn();
}

#define wait_for(condition)                                                                        \
    do {                                                                                           \
        int64_t end_ = loop_now_ms() + WAIT_MS;                                                    \
        while (!(condition) && loop_now_ms() < end_) {                                             \
            turn();                                                                                \
        }                                                                                          \
        assert_true(condition);                                                                    \
    } while (0)

/* The first stream is the session's Info, which is never answered here; the second the listener. */
static int setup(void **state)
{
    struct peer_address at = {.network = PEER_NETWORK_UNIX, .path = "/run/x.sock", .user = "u"};
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
        return -1;
    }
    ports = accepts = ends = 0;
    close_in = CLOSE_NOWHERE;
    memset(&guest, 0, sizeof(guest));
    loop = loop_new();
    tick = loop_timer_new(loop, on_tick, NULL);
    peer = peer_new(loop, &peer_events, NULL);
    guest.fd = fds[1];
    guest.mux = mux_new(MUX_ROLE_GUEST, &guest_ops, NULL);
    mux_start(guest.mux, false);
    peer_attach(peer, fds[0], false);
    wait_for(guest.count == 1);
    listening = peer_listen_open(peer, &at, 0, &listen_events, NULL);
    wait_for(guest.count == 2);
    return listening ? 0 : -1;
}

static int teardown(void **state)
{
    peer_listen_close(listening);
    peer_free(peer);
    mux_free(guest.mux);
    close(guest.fd);
    loop_timer_free(tick);
    loop_free(loop);
    return 0;
}

static void test_a_listener_tells_its_port_and_each_connection_is_fetched(void **state)
{
    say_reply(guest.streams[1], 0, "");
    say_listening(guest.streams[1], 4711);
    wait_for(ports == 1);
    assert_int_equal(last_port, 4711);
    say_accepted(guest.streams[1], 7);
    wait_for(guest.count == 3); /* the call of Accept */
    assert_int_equal(accepts, 0);
    say_reply(guest.streams[2], 0, "");
    wait_for(accepts == 1);
    say_accepted(guest.streams[1], 8); /* one that is gone again is nobody's loss */
    wait_for(guest.count == 4);
    say_reply(guest.streams[3], ENOENT, "gone");
    say_accepted(guest.streams[1], 9);
    wait_for(guest.count == 5);
    say_reply(guest.streams[4], 0, "");
    wait_for(accepts == 2);
    assert_int_equal(ends, 0);
}

static void test_a_refusal_comes_with_its_words(void **state)
{
    say_reply(guest.streams[1], EADDRINUSE, "somebody listens");
    wait_for(ends == 1);
    assert_int_equal(end_code, -EADDRINUSE);
    assert_string_equal(end_text, "somebody listens");
}

static void test_a_guest_that_announces_without_end_loses_the_listener(void **state)
{
    say_reply(guest.streams[1], 0, "");
    for (uint64_t id = 1; id <= PEER_LISTEN_BACKLOG + 1 && guest.streams[1]; id++) {
        say_accepted(guest.streams[1], id);
        turn();
    }
    wait_for(ends == 1);
    assert_int_equal(end_code, -EPROTO);
    assert_true(guest.count <= 2 + PEER_LISTEN_BACKLOG);
    for (size_t i = 1; i < guest.count; i++) { /* and what it had announced with it */
        wait_for(!guest.streams[i]);
    }
    assert_non_null(guest.streams[0]);
}

static void test_senseless_words_end_the_listener(void **state)
{
    say_reply(guest.streams[1], 0, "");
    say_listening(guest.streams[1], 65536);
    wait_for(ends == 1);
    assert_int_equal(end_code, -EBADMSG);
    assert_int_equal(ports, 0);
}

/* Each would be an event and a line of a log. */
static void test_that_it_listens_is_told_once(void **state)
{
    say_reply(guest.streams[1], 0, "");
    for (uint32_t port = 1; port <= 100; port++) {
        say_listening(guest.streams[1], port);
    }
    say_accepted(guest.streams[1], 7);
    wait_for(guest.count == 3);
    assert_int_equal(ports, 1);
    assert_int_equal(last_port, 1);
}

static void test_a_closed_one_says_nothing_more(void **state)
{
    say_reply(guest.streams[1], 0, "");
    say_accepted(guest.streams[1], 7);
    wait_for(guest.count == 3);
    peer_listen_close(steal(listening));
    wait_for(!guest.streams[1] && !guest.streams[2]);
    assert_int_equal(accepts | ends, 0);
}

static void test_it_may_be_closed_by_its_callbacks(void **state)
{
    struct peer_address at = {.network = PEER_NETWORK_UNIX, .path = "/run/x.sock", .user = "u"};

    close_in = CLOSE_IN_LISTENING;
    say_reply(guest.streams[1], 0, "");
    say_listening(guest.streams[1], 1);
    say_accepted(guest.streams[1], 7); /* in one piece with it */
    wait_for(!guest.streams[1]);
    assert_int_equal(guest.count, 2);

    close_in = CLOSE_IN_ACCEPTED;
    listening = peer_listen_open(peer, &at, 0, &listen_events, NULL);
    wait_for(guest.count == 3);
    say_reply(guest.streams[2], 0, "");
    say_accepted(guest.streams[2], 8);
    say_accepted(guest.streams[2], 9);
    wait_for(guest.count == 5);
    say_reply(guest.streams[3], 0, "");
    wait_for(!guest.streams[2] && !guest.streams[3] && !guest.streams[4]);
    assert_int_equal(accepts, 1);
    assert_int_equal(ends, 0);
}

static void test_it_ends_with_the_session(void **state)
{
    say_reply(guest.streams[1], 0, "");
    say_accepted(guest.streams[1], 7);
    wait_for(guest.count == 3);
    peer_detach(peer);
    assert_int_equal(ends, 1);
    assert_int_equal(end_code, -ENOTCONN);
    assert_int_equal(accepts, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_listener_tells_its_port_and_each_connection_is_fetched),
        T(test_a_refusal_comes_with_its_words),
        T(test_a_guest_that_announces_without_end_loses_the_listener),
        T(test_senseless_words_end_the_listener),
        T(test_that_it_listens_is_told_once),
        T(test_a_closed_one_says_nothing_more),
        T(test_it_may_be_closed_by_its_callbacks),
        T(test_it_ends_with_the_session),
    };

    return cmocka_run_group_tests_name("peer_listen", tests, NULL, NULL);
}
