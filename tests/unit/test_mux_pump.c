/* SPDX-License-Identifier: Apache-2.0 */
/* Two pumps back to back over socketpairs: a -- near pump -- segments -- far pump -- b. */
#include "test.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buf.h"
#include "mux/direct.h"
#include "mux/frame.h"
#include "mux/pump.h"

#define BULK (3u << 20)

struct end { /* a program at a plain connection */
    int fd;
    const char *send;
    size_t left;
    bool finish;
    struct buf got;
    bool ended, broken;
};

struct middle {
    int plain, segmented;
    struct pump *pump;
    int result; /* of pump_run() */
};

static struct end a, b;
static struct middle near_side, far_side;

static void make_pair(int *first, int *second)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    *first = fds[0];
    *second = fds[1];
}

static int setup(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    a = (struct end){.fd = -1};
    b = (struct end){.fd = -1};
    near_side = far_side = (struct middle){.result = 0};
    make_pair(&a.fd, &near_side.plain);
    make_pair(&near_side.segmented, &far_side.segmented);
    make_pair(&far_side.plain, &b.fd);
    near_side.pump = pump_new(near_side.plain, near_side.segmented, 0, true);
    far_side.pump = pump_new(far_side.plain, far_side.segmented, 0, false);
    return 0;
}

static void close_middle(struct middle *m)
{
    pump_free(m->pump);
    fd_close(m->plain);
    fd_close(m->segmented);
    *m = (struct middle){.plain = -1, .segmented = -1, .result = m->result};
}

static int teardown(void **state)
{
    close_middle(&near_side);
    close_middle(&far_side);
    fd_close(a.fd);
    fd_close(b.fd);
    buf_done(&a.got);
    buf_done(&b.got);
    return 0;
}

static bool run_end(struct end *end)
{
    char data[50000];
    ssize_t sent = 0, got = -1;

    if (end->left) {
        sent = send(end->fd, end->send, MIN(end->left, (size_t)70001), MSG_NOSIGNAL);
    }
    if (sent > 0) {
        end->send += sent;
        end->left -= (size_t)sent;
    }
    if (!end->left && end->finish) {
        end->finish = false;
        shutdown(end->fd, SHUT_WR);
        sent = 1;
    }
    if (!end->ended && !end->broken) {
        got = recv(end->fd, data, sizeof(data), 0);
        end->ended = got == 0;
        end->broken = got < 0 && errno != EAGAIN;
    }
    if (got > 0) {
        buf_put(&end->got, data, (size_t)got);
    }
    return sent > 0 || got >= 0;
}

static bool ready(const struct middle *m)
{
    struct pump_wants w = pump_wants(m->pump);
    struct pollfd p[] = {
        {.fd = m->plain, .events = (w.plain_in ? POLLIN : 0) | (w.plain_out ? POLLOUT : 0)},
        {.fd = m->segmented,
         .events = (w.segmented_in ? POLLIN : 0) | (w.segmented_out ? POLLOUT : 0)}};

    return poll(p, 2, 0) > 0 && ((p[0].revents & p[0].events) || (p[1].revents & p[1].events));
}

/* As its owner does: runs it when it is ready, closes both when it is over. */
static bool run_middle(struct middle *m)
{
    if (!m->pump || !ready(m)) {
        return false;
    }
    m->result = pump_run(m->pump);
    if (m->result) {
        close_middle(m);
    }
    return true;
}

static void run(void)
{
    while (run_end(&a) | run_end(&b) | run_middle(&near_side) | run_middle(&far_side)) {
    }
}

static char *pattern(size_t len)
{
    char *data = xmalloc(len);

    for (size_t i = 0; i < len; i++) {
        data[i] = (char)(i * 2654435761u >> 13);
    }
    return data;
}

static void assert_got(const struct end *end, const char *data, size_t len)
{
    assert_int_equal(end->got.len, len);
    assert_memory_equal(end->got.data, data, len);
}

static void test_bulk_goes_both_ways_at_once(void **state)
{
    scoped(free) char *data = pattern(BULK);

    a.send = data;
    b.send = data + 1;
    a.left = b.left = BULK - 1;
    a.finish = b.finish = true;
    run();
    assert_got(&b, data, BULK - 1);
    assert_got(&a, data + 1, BULK - 1);
    assert_true(a.ended && b.ended);
    assert_int_equal(near_side.result, 1);
    assert_int_equal(far_side.result, 1);
}

static void test_each_direction_ends_by_itself(void **state)
{
    scoped(free) char *data = pattern(BULK);

    a.send = data;
    a.left = BULK;
    a.finish = true;
    run();
    assert_got(&b, data, BULK);
    assert_true(b.ended);
    assert_false(a.ended);
    assert_int_equal(near_side.result | far_side.result, 0);
    b.send = "late";
    b.left = 4;
    b.finish = true;
    run();
    assert_got(&a, "late", 4);
    assert_int_equal(near_side.result, 1);
    assert_int_equal(far_side.result, 1);
}

static void test_sizes_around_the_pieces(void **state)
{
    static const size_t sizes[] = {1,     16383, 16384, 16385, 32768,
                                   65535, 65536, 65537, 81920, 262145};
    scoped(free) char *data = pattern(BULK);

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        buf_done(&b.got);
        a.send = data;
        a.left = sizes[i];
        run();
        assert_got(&b, data, sizes[i]);
    }
}

static void test_a_connection_that_breaks_is_no_end(void **state)
{
    a.send = "half";
    a.left = 4;
    run();
    close_middle(&near_side); /* its agent dies */
    run();
    assert_got(&b, "half", 4);
    assert_int_equal(far_side.result, -ECONNRESET);
}

static void test_a_side_that_leaves_after_its_end_breaks_the_other_direction(void **state)
{
    a.finish = true;
    run();
    assert_true(b.ended);
    close_middle(&near_side);
    run();
    assert_int_equal(far_side.result, -ECONNRESET);
}

static void test_segments_of_a_stranger_are_checked(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int result;
    } cases[] = {
        {"\1\0\4\0", 4, -EPROTO},         /* above the limit */
        {"\0\0\0\0x", 5, -EPROTO},        /* more behind the end */
        {"\0\0\0\0\0\0\0\0", 8, -EPROTO}, /* two ends */
        {"\2\0\0\0x", 5, 0},              /* incomplete: goes on */
        {"\4\0\0\0abcd\0\0\0\0", 12, 0},  /* all is well */
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        teardown(NULL);
        setup(NULL);
        pump_free(steal(near_side.pump));
        for (size_t k = 0; k < cases[i].len; k++) { /* cut everywhere */
            send(near_side.segmented, cases[i].bytes + k, 1, MSG_NOSIGNAL);
            run();
        }
        assert_int_equal(far_side.result, cases[i].result);
    }
}

static void test_a_segment_that_has_begun_is_gone_on_with(void **state)
{
    pump_free(steal(near_side.pump));
    pump_free(far_side.pump);
    far_side.pump = pump_new(far_side.plain, far_side.segmented, 3, false);
    assert_int_equal(send(near_side.segmented, "abc\1\0\0\0d", 8, MSG_NOSIGNAL), 8);
    run();
    assert_got(&b, "abcd", 4);
}

static void test_an_end_is_passed_wherever_in_a_turn_it_stands(void **state)
{
    static const char bytes[] = "\1\0\0\0x\1\0\0\0x\1\0\0\0x\1\0\0\0x\1\0\0\0x";
    static const size_t segment = 5;

    for (size_t n = 0; n <= 5; n++) {
        for (uint32_t begun = 0; begun < 2; begun++) {
            teardown(NULL);
            setup(NULL);
            pump_free(steal(near_side.pump));
            pump_free(far_side.pump);
            far_side.pump = pump_new(far_side.plain, far_side.segmented, begun, false);
            send(near_side.segmented, "x", begun, MSG_NOSIGNAL);
            send(near_side.segmented, bytes, n * segment, MSG_NOSIGNAL);
            send(near_side.segmented, "\0\0\0\0", 4, MSG_NOSIGNAL);
            run();
            assert_int_equal(b.got.len, begun + n);
            assert_true(b.ended);
        }
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_bulk_goes_both_ways_at_once),
        T(test_each_direction_ends_by_itself),
        T(test_sizes_around_the_pieces),
        T(test_a_connection_that_breaks_is_no_end),
        T(test_a_side_that_leaves_after_its_end_breaks_the_other_direction),
        T(test_segments_of_a_stranger_are_checked),
        T(test_a_segment_that_has_begun_is_gone_on_with),
        T(test_an_end_is_passed_wherever_in_a_turn_it_stands),
    };

    return cmocka_run_group_tests_name("mux_pump", tests, NULL, NULL);
}
