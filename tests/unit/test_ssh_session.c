/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session with a real sshd, which changes the keys every megabyte, and servers behind it. Each
 * test has an sshd of its own.
 */
#include "ssh/session.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "sshd_fixture.h"
#include "test.h"
#include "util/path.h"

#define DEADLINE_MS 60000
#define MANY        50

struct fixture {
    struct sshd sshd;
    struct server server;
    struct loop *loop;
    struct loop_timer *deadline;
    struct ssh_session *session;
    bool up, late;
    int ups, downs, failures;
    int last_error;
    char *last_words;
};

static struct fixture f;

/* One who talks through a channel. */
struct client {
    struct ssh_dialing *dialing;
    struct mux_stream *stream;
    bool done, ended, closed;
    int result;
    uint32_t code;
    uint64_t to_send, sent, received;
    uint64_t stall_after; /* bytes that are taken; 0: all */
    uint64_t unread;
    bool keep_open; /* does not end when all is sent */
    uint64_t answer;
};

static void on_deadline(void *arg)
{
    f.late = true;
}

#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        f.late = false;                                                                            \
        loop_timer_set(f.deadline, DEADLINE_MS);                                                   \
        while (!(condition) && !f.late) {                                                          \
            loop_once(f.loop);                                                                     \
        }                                                                                          \
        loop_timer_set(f.deadline, -1);                                                            \
        if (!(condition)) {                                                                        \
            fail_msg("%s: never (last trouble: %s)", #condition,                                   \
                     f.last_words ? f.last_words : "none");                                        \
        }                                                                                          \
    } while (0)

static void on_changed(bool up, const struct error *why, void *arg)
{
    if (up) {
        f.ups++;
    } else {
        *(f.up ? &f.downs : &f.failures) += 1;
        f.last_error = why->code;
        free(f.last_words);
        f.last_words = xstrdup(error_text(why));
    }
    f.up = up;
}

static const struct ssh_session_events events = {.changed = on_changed};

static void new_session(const char *key)
{
    struct ssh_session_options options = {
        .port = f.sshd.port, .user = f.sshd.user, .key = key ? key : f.sshd.key};

    f.session = ssh_session_new(f.loop, &options, &events, NULL);
    ssh_session_start(f.session);
}

static int setup(void **state)
{
    f = (struct fixture){0};
    if (!sshd_open(&f.sshd, "RekeyLimit 1M\n")) {
        return 0;
    }
    f.loop = loop_new();
    f.deadline = loop_timer_new(f.loop, on_deadline, NULL);
    new_session(NULL);
    return 0;
}

static int teardown(void **state)
{
    if (f.loop) {
        ssh_session_free(f.session);
        loop_timer_free(f.deadline);
        loop_free(f.loop);
    }
    sshd_close(&f.sshd);
    free(f.last_words);
    return 0;
}

/* ---- the client ---- */

/* The byte at @at of what is sent, by any client. */
static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 2654435761u >> 13 ^ at >> 20);
}

static void client_send(struct client *c)
{
    uint8_t chunk[16384];

    while (c->sent < c->to_send) {
        size_t want = MIN(c->to_send - c->sent, sizeof(chunk)), took;

        for (size_t i = 0; i < want; i++) {
            chunk[i] = pattern(c->sent + i);
        }
        took = mux_stream_write(c->stream, chunk, want);
        c->sent += took;
        if (took < want) {
            return;
        }
    }
    if (!c->keep_open) {
        mux_stream_finish(c->stream);
    }
}

static void on_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct client *c = arg;
    const uint8_t *bytes = data;

    for (size_t i = 0; c->to_send > 8 && i < len; i++) {
        if (bytes[i] != pattern(c->received + i)) {
            fail_msg("byte %llu is wrong", (unsigned long long)(c->received + i));
        }
    }
    if (c->received == 0 && len == sizeof(c->answer)) {
        memcpy(&c->answer, data, sizeof(c->answer));
    }
    c->received += len;
    if (c->stall_after && c->received > c->stall_after) {
        c->unread += len;
    } else {
        mux_stream_consumed(stream, len);
    }
}

static void on_fin(struct mux_stream *stream, void *arg)
{
    ((struct client *)arg)->ended = true;
}

static void on_writable(struct mux_stream *stream, void *arg)
{
    client_send(arg);
}

static void on_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct client *c = arg;

    c->stream = NULL;
    c->closed = true;
    c->code = code;
}

static const struct mux_stream_ops ops = {
    .data = on_data, .fin = on_fin, .writable = on_writable, .closed = on_closed};

static void on_done(int r, struct mux_stream *stream, void *arg)
{
    struct client *c = arg;

    assert_non_null(c->dialing); /* never before the call has returned */
    c->dialing = NULL;
    c->done = true;
    c->result = r;
    c->stream = stream;
    if (stream) {
        mux_stream_set_ops(stream, &ops, c);
        client_send(c);
    }
}

static void dial(struct client *c, int port)
{
    struct ssh_target to = {.host = "127.0.0.1", .port = (uint16_t)port};

    c->dialing = ssh_session_open(f.session, &to, on_done, c);
    assert_non_null(c->dialing);
}

static bool all_closed(const struct client *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!c[i].closed) {
            return false;
        }
    }
    return true;
}

static void need_sshd(void)
{
    if (!f.loop) {
        skip();
    }
}

/* ---- tests ---- */

static void test_bytes_arrive_unchanged_both_ways_at_once(void **state)
{
    struct client c = {.to_send = 20u << 20};

    need_sshd();
    server_start(&f.server, SERVER_ECHO, NULL);
    dial(&c, f.server.port);
    RUN_UNTIL(c.closed);
    assert_int_equal(c.code, 0);
    assert_int_equal(c.received, c.to_send);
    assert_int_equal(f.ups, 1);
    RUN_UNTIL(ssh_session_channels(f.session) == 0);
    server_stop(&f.server);
}

static void test_fifty_channels_do_not_mix(void **state)
{
    struct client c[MANY] = {{0}};

    need_sshd();
    server_start(&f.server, SERVER_ECHO, NULL);
    for (size_t i = 0; i < MANY; i++) {
        c[i].to_send = 300000 + i;
        dial(&c[i], f.server.port);
    }
    RUN_UNTIL(all_closed(c, MANY));
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(c[i].code, 0);
        assert_int_equal(c[i].received, c[i].to_send);
    }
    assert_int_equal(f.ups, 1);
    server_stop(&f.server);
}

static void test_an_answer_after_our_end_arrives(void **state)
{
    struct client c = {.to_send = 300000};

    need_sshd();
    c.to_send = 7; /* the answer is no echo */
    server_start(&f.server, SERVER_ANSWER, NULL);
    dial(&c, f.server.port);
    RUN_UNTIL(c.closed);
    assert_int_equal(c.code, 0);
    assert_int_equal(c.answer, 7);
    server_stop(&f.server);
}

static void test_bytes_after_the_other_ends_end_arrive(void **state)
{
    struct client c = {.keep_open = true};

    need_sshd();
    server_start(&f.server, SERVER_GREET, NULL);
    dial(&c, f.server.port);
    RUN_UNTIL(c.ended);
    assert_int_equal(c.received, 5);
    assert_false(c.closed);
    assert_int_equal(mux_stream_write(c.stream, "later", 5), 5);
    mux_stream_finish(c.stream);
    RUN_UNTIL(c.closed);
    assert_int_equal(c.code, 0);
    RUN_UNTIL(__atomic_load_n(&f.server.received, __ATOMIC_SEQ_CST) == 5);
    server_stop(&f.server);
}

static void test_writing_to_a_server_that_left_ends_in_a_reset(void **state)
{
    struct client c = {.to_send = 5, .keep_open = true};

    need_sshd();
    server_start(&f.server, SERVER_LEAVE, NULL);
    dial(&c, f.server.port);
    RUN_UNTIL(c.ended);
    assert_false(c.closed);
    while (!c.closed) {
        mux_stream_write(c.stream, "more", 4);
        loop_once(f.loop);
    }
    assert_int_equal(c.code, MUX_RESET_CONNECTION);
    server_stop(&f.server);
}

static void test_a_port_without_listener_is_refused(void **state)
{
    struct client c = {0};

    need_sshd();
    dial(&c, port_unused());
    RUN_UNTIL(c.done);
    assert_int_equal(c.result, -ECONNREFUSED);
    assert_null(c.stream);
    assert_int_equal(ssh_session_channels(f.session), 0);
}

static void test_a_unix_socket_is_reached(void **state)
{
    scoped(free) char *path = NULL;
    struct client c = {.to_send = 100000};
    struct ssh_target to = {0};

    need_sshd();
    path = path_join(f.sshd.dir, "s");
    to.path = path;
    server_start(&f.server, SERVER_ECHO, path);
    c.dialing = ssh_session_open(f.session, &to, on_done, &c);
    RUN_UNTIL(c.closed);
    assert_int_equal(c.code, 0);
    assert_int_equal(c.received, c.to_send);
    server_stop(&f.server);
}

static void test_a_killed_sshd_resets_its_streams_and_a_new_one_is_used(void **state)
{
    struct client before = {.to_send = 9, .keep_open = true}, after = {.to_send = 1000};

    need_sshd();
    server_start(&f.server, SERVER_ECHO, NULL);
    dial(&before, f.server.port);
    RUN_UNTIL(before.received == 9);
    sshd_stop(&f.sshd);
    RUN_UNTIL(before.closed);
    assert_int_equal(before.code, MUX_RESET_CONNECTION);
    assert_int_equal(f.downs, 1);
    assert_false(ssh_session_is_up(f.session));
    dial(&after, f.server.port);
    RUN_UNTIL(f.failures >= 2);
    assert_false(after.done);
    sshd_start(&f.sshd);
    RUN_UNTIL(after.closed);
    assert_int_equal(after.received, 1000);
    assert_int_equal(f.ups, 2);
    server_stop(&f.server);
}

static void test_a_wrong_key_is_an_error_that_names_it(void **state)
{
    scoped(free) char *key = NULL;

    need_sshd();
    ssh_session_free(f.session);
    key = path_join(f.sshd.dir, "host"); /* a key, but nobody's */
    new_session(key);
    RUN_UNTIL(f.last_error == EACCES);
    assert_int_equal(f.ups, 0);
    assert_non_null(strstr(f.last_words, f.sshd.user));
    assert_non_null(strstr(f.last_words, key));
}

static void test_a_missing_key_is_an_error_that_names_it(void **state)
{
    need_sshd();
    ssh_session_free(f.session);
    new_session("/nonexistent/key");
    RUN_UNTIL(f.last_error == EINVAL);
    assert_non_null(strstr(f.last_words, "/nonexistent/key"));
}

static void test_one_who_does_not_read_holds_up_nobody_else(void **state)
{
    struct client stalled = {.to_send = 8u << 20, .stall_after = 100000};
    struct client quick = {.to_send = 4u << 20};

    need_sshd();
    server_start(&f.server, SERVER_ECHO, NULL);
    dial(&stalled, f.server.port);
    RUN_UNTIL(stalled.unread >= MUX_WINDOW);
    dial(&quick, f.server.port);
    RUN_UNTIL(quick.closed);
    assert_int_equal(quick.received, quick.to_send);
    assert_false(stalled.closed);
    assert_true(stalled.unread <= MUX_WINDOW_MAX);
    stalled.stall_after = 0;
    mux_stream_consumed(stalled.stream, stalled.unread);
    RUN_UNTIL(stalled.closed);
    assert_int_equal(stalled.received, stalled.to_send);
    server_stop(&f.server);
}

/* A port whose connections are neither accepted nor refused: its queue is full. */
static int open_full_port(int *ret_port, int fds[3])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 0), 0);
    getsockname(fd, (struct sockaddr *)&address, &len);
    for (int i = 0; i < 3; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fds[i], (struct sockaddr *)&address, len);
    }
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static void test_one_that_is_not_answered_holds_up_nobody_else(void **state)
{
    struct client slow = {0}, before = {.to_send = 10}, after = {.to_send = 10};
    int port, fd, fds[3];

    need_sshd();
    server_start(&f.server, SERVER_ECHO, NULL);
    fd = open_full_port(&port, fds);
    dial(&slow, port);
    dial(&before, f.server.port);
    RUN_UNTIL(before.closed);
    assert_false(slow.done);
    dial(&after, f.server.port);
    RUN_UNTIL(after.closed);
    assert_false(slow.done);
    assert_int_equal(before.received + after.received, 20);
    close(fd);
    for (int i = 0; i < 3; i++) {
        close(fds[i]);
    }
    RUN_UNTIL(slow.done);
    assert_int_equal(slow.result, -ECONNREFUSED);
    server_stop(&f.server);
}

static void test_what_is_cancelled_is_not_heard_of_again(void **state)
{
    struct client c[3] = {{.to_send = 10}, {.to_send = 10}, {.to_send = 10}};

    need_sshd();
    server_start(&f.server, SERVER_ECHO, NULL);
    RUN_UNTIL(f.up);
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        dial(&c[i], f.server.port);
    }
    loop_once(f.loop); /* the first one is being opened now */
    ssh_dialing_cancel(c[0].dialing);
    ssh_dialing_cancel(c[1].dialing);
    RUN_UNTIL(c[2].closed);
    assert_int_equal(c[2].received, 10);
    assert_false(c[0].done || c[1].done);
    RUN_UNTIL(ssh_session_channels(f.session) == 0);
    server_stop(&f.server);
}

static void test_a_reset_stream_frees_its_channel(void **state)
{
    struct client c = {.to_send = 9, .keep_open = true};

    need_sshd();
    server_start(&f.server, SERVER_ECHO, NULL);
    dial(&c, f.server.port);
    RUN_UNTIL(c.received == 9);
    mux_stream_reset(c.stream, MUX_RESET_CANCEL);
    RUN_UNTIL(ssh_session_channels(f.session) == 0);
    assert_false(c.closed);
    server_stop(&f.server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes_arrive_unchanged_both_ways_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_fifty_channels_do_not_mix, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_after_our_end_arrives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bytes_after_the_other_ends_end_arrive, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_writing_to_a_server_that_left_ends_in_a_reset, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_port_without_listener_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_unix_socket_is_reached, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_killed_sshd_resets_its_streams_and_a_new_one_is_used,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_wrong_key_is_an_error_that_names_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_missing_key_is_an_error_that_names_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_one_who_does_not_read_holds_up_nobody_else, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_one_that_is_not_answered_holds_up_nobody_else, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_is_cancelled_is_not_heard_of_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_reset_stream_frees_its_channel, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
