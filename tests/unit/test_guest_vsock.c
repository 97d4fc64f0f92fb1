/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that carry one stream each, by a Unix socket in place of vsock. */
#include "test.h"
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "guest_fixture.h"
#include "mux/direct.h"
#include "mux/frame.h"
#include "mux/greeting.h"

static char path[64];
static lima_guest_v1_Vsock told; /* by Info */

static int begin(void **state)
{
    lima_guest_v1_Info info = lima_guest_v1_Info_init_zero;
    struct guest_side side;

    snprintf(path, sizeof(path), "/tmp/lima-test-vsock-%d.sock", (int)getpid());
    guest_stream_socket = path;
    guest_start(state);
    guest_call_info(&side);
    assert_int_equal(guest_take_reply(&side), 0);
    assert_true(guest_take_message(&side, lima_guest_v1_Info_fields, &info));
    guest_end_call(&side);
    assert_true(info.has_vsock);
    assert_int_equal(info.vsock.port, 2222);
    told = info.vsock;
    return 0;
}

static int end(void **state)
{
    guest_stream_socket = NULL;
    return guest_stop(state);
}

static int connect_to_guest(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* @len bytes, or fewer at the end of file. */
static size_t read_fully(int fd, void *out, size_t len)
{
    size_t got = 0;

    while (got < len) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        assert_int_equal(poll(&p, 1, GUEST_WAIT_MS), 1);
        n = recv(fd, (char *)out + got, len - got, 0);
        if (n <= 0) {
            break;
        }
        got += (size_t)n;
    }
    return got;
}

static void put_segment(int fd, const void *data, size_t len)
{
    uint8_t head[DIRECT_SEGMENT_HEAD];

    frame_put_u32(head, (uint32_t)len);
    assert_int_equal(send(fd, head, sizeof(head), MSG_NOSIGNAL), sizeof(head));
    assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

static void put_open(int fd, const char *service)
{
    lima_guest_v1_StreamOpen open = lima_guest_v1_StreamOpen_init_zero;
    uint8_t bytes[WIRE_MAX];

    wire_text(open.service, sizeof(open.service), service);
    put_segment(fd, bytes, wire_encode(lima_guest_v1_StreamOpen_fields, &open, bytes));
}

/* All segments up to the one that ends the direction. */
static void take_segments(int fd, struct buf *out)
{
    for (;;) {
        uint8_t head[DIRECT_SEGMENT_HEAD];
        uint32_t len;

        assert_int_equal(read_fully(fd, head, sizeof(head)), sizeof(head));
        len = frame_get_u32(head);
        assert_true(len <= DIRECT_SEGMENT_MAX);
        if (!len) {
            return;
        }
        assert_int_equal(read_fully(fd, buf_reserve(out, len), len), len);
        buf_commit(out, len);
    }
}

static int connect_and_greet(void)
{
    uint8_t greeting[GREETING_LEN];
    int fd = connect_to_guest();

    assert_int_equal(read_fully(fd, greeting, sizeof(greeting)), sizeof(greeting));
    assert_true(greeting_check(greeting, told.guest_key));
    greeting_make(greeting, told.host_key);
    assert_int_equal(send(fd, greeting, sizeof(greeting), MSG_NOSIGNAL), sizeof(greeting));
    return fd;
}

static void test_a_stream_is_served_behind_both_greetings(void **state)
{
    scoped(buf_done) struct buf got = BUF_INIT;
    scoped(fd_close) int fd = connect_and_greet();
    char more;

    put_open(fd, "Echo");
    put_segment(fd, "hello ", 6);
    put_segment(fd, "there", 5);
    put_segment(fd, NULL, 0);
    take_segments(fd, &got);
    assert_int_equal(got.len, 1 + 11); /* a StreamReply without fields is its length alone */
    assert_memory_equal(got.data, "\0hello there", got.len);
    shutdown(fd, SHUT_WR); /* we close; then the guest does */
    assert_int_equal(read_fully(fd, &more, 1), 0);
}

static void test_who_does_not_know_the_key_gets_nothing(void **state)
{
    for (size_t i = 0; i < GREETING_LEN; i++) {
        scoped(fd_close) int fd = connect_to_guest();
        uint8_t greeting[GREETING_LEN], more[GREETING_LEN];

        greeting_make(greeting, told.host_key);
        greeting[i] ^= 1;
        assert_int_equal(send(fd, greeting, sizeof(greeting), MSG_NOSIGNAL), sizeof(greeting));
        assert_int_equal(read_fully(fd, greeting, sizeof(greeting)), sizeof(greeting));
        assert_int_equal(read_fully(fd, more, sizeof(more)), 0);
    }
}

static void test_the_guests_own_greeting_opens_nothing(void **state)
{
    scoped(fd_close) int fd = connect_to_guest();
    uint8_t greeting[GREETING_LEN];

    assert_int_equal(read_fully(fd, greeting, sizeof(greeting)), sizeof(greeting));
    assert_int_equal(send(fd, greeting, sizeof(greeting), MSG_NOSIGNAL), sizeof(greeting));
    assert_int_equal(read_fully(fd, greeting, 1), 0);
}

static void test_an_end_that_was_not_announced_breaks_the_stream(void **state)
{
    scoped(fd_close) int fd = connect_and_greet();
    struct guest_side side;
    char byte;

    put_open(fd, "Echo");
    put_segment(fd, "x", 1);
    shutdown(fd, SHUT_WR);
    while (read_fully(fd, &byte, 1) == 1) {
    }
    guest_call_info(&side); /* the agent lives */
    assert_int_equal(guest_take_reply(&side), 0);
    guest_end_call(&side);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_stream_is_served_behind_both_greetings),
        T(test_who_does_not_know_the_key_gets_nothing),
        T(test_the_guests_own_greeting_opens_nothing),
        T(test_an_end_that_was_not_announced_breaks_the_stream),
    };

    return cmocka_run_group_tests_name("guest_vsock", tests, NULL, NULL);
}
