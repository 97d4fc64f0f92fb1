/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of a guest that is not to be trusted: its side is a bare mux, spoken by the test. */
#include "test.h"
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "mux/mux.h"
#include "peer/clock.h"

#define PROBES 100000 /* of 4 bytes and more each */
#define TURNS  1000

static struct loop *loop;
static struct loop_timer *tick;
static struct peer *peer;
static struct peer_clock *asked;

static struct {
    int fd;
    struct mux *mux;
    struct mux_stream *stream; /* the one that was opened last */
    bool reads;
    size_t got, kept;
} guest;

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    if (stream != guest.stream || guest.reads) {
        mux_stream_consumed(stream, len);
    } else {
        guest.kept += len;
    }
    guest.got += stream == guest.stream ? len : 0;
}

static const struct mux_stream_ops stream_ops = {.data = on_stream_data};

static void on_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    guest.stream = stream;
    guest.got = guest.kept = 0;
    mux_stream_set_ops(stream, &stream_ops, NULL);
}

static void on_output(struct mux *mux, void *arg)
{
}

static const struct mux_ops guest_ops = {.opened = on_opened, .output = on_output};

static void on_tick(void *arg)
{
}

static void turn(void)
{
    static uint8_t bytes[65536];
    const void *data;
    size_t len;
    ssize_t n;

    loop_timer_set(tick, 1);
    loop_once(loop);
    while ((n = recv(guest.fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        mux_input(guest.mux, bytes, (size_t)n);
    }
    while ((len = mux_output(guest.mux, &data)) > 0 &&
           (n = send(guest.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
        mux_output_done(guest.mux, (size_t)n);
    }
}

static void on_closed(void *arg)
{
}

static const struct peer_events peer_events = {.closed = on_closed};

static void on_reply(const struct peer_clock_reply *reply, void *arg)
{
}

static void on_ended(int r, void *arg)
{
    asked = NULL;
}

static const struct peer_clock_events clock_events = {.reply = on_reply, .ended = on_ended};

static int setup(void **state)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
        return -1;
    }
    memset(&guest, 0, sizeof(guest));
    loop = loop_new();
    tick = loop_timer_new(loop, on_tick, NULL);
    peer = peer_new(loop, &peer_events, NULL);
    guest.fd = fds[1];
    guest.mux = mux_new(MUX_ROLE_GUEST, &guest_ops, NULL);
    mux_start(guest.mux, false);
    peer_attach(peer, fds[0], false);
    for (int i = 0; i < TURNS && !guest.stream; i++) { /* Info comes, and stays unanswered */
        turn();
    }
    asked = peer_clock_open(peer, &clock_events, NULL);
    for (int i = 0; i < TURNS && !guest.got; i++) {
        turn();
    }
    return asked ? 0 : -1;
}

static int teardown(void **state)
{
    peer_clock_close(asked);
    peer_free(peer);
    mux_free(guest.mux);
    close(guest.fd);
    loop_timer_free(tick);
    loop_free(loop);
    return 0;
}

/* It may answer what it has not read, since it can guess the numbers; and so be asked again. */
static void test_what_a_guest_does_not_read_is_not_kept_without_end(void **state)
{
    size_t before;

    for (uint64_t probe = 1; probe <= PROBES; probe++) {
        peer_clock_probe(asked, probe);
        if (probe % 1000 == 0) {
            turn();
        }
    }
    guest.reads = true;
    mux_stream_consumed(guest.stream, guest.kept);
    do {
        before = guest.got;
        for (int i = 0; i < 10; i++) {
            turn();
        }
    } while (guest.got != before);
    assert_non_null(asked);
    assert_in_range(guest.got, MUX_WINDOW / 2, MUX_WINDOW + 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_a_guest_does_not_read_is_not_kept_without_end,
                                        setup, teardown),
    };

    return cmocka_run_group_tests_name("peer_clock", tests, NULL, NULL);
}
