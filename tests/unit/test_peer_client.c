/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client against a guest made of the other mux and nanopb, over a socketpair in the same loop.
 * The guest answers as the test says, or misbehaves.
 */
#include "test.h"
#include <fcntl.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buf.h"
#include "guest.pb.h"
#include "mux/delimited.h"
#include "peer/client.h"
#include "peer/gate.h"
#include "peer/health.h"
#include "peer/tunnel.h"
#include "peer/wire.h"
#include "util/file.h"

#define BIG (3u << 20)

/* ---- the guest ---- */

struct service_stream {
    struct service_stream *next;
    struct mux_stream *handle;
    struct buf in;
    char service[64];
    bool requested; /* the request behind StreamOpen was taken */
    bool fin;
    bool closed;
    lima_guest_v1_TunnelRequest tunnel;
    struct buf echo; /* a tunnel's bytes that wait to go back */
};

static struct {
    int fd;
    struct loop_io *io;
    struct mux *mux;
    struct service_stream *streams;
    int infos, events, tunnels;
    size_t udp_wanted;                    /* ranges in the last request for events */
    struct service_stream *events_stream; /* the last one */
    struct service_stream *tunnel_stream;
    /* how it answers */
    uint32_t protocol;
    bool info_is_garbage, info_ends_early, info_twice;
    uint32_t tunnel_error;
    bool tunnel_silent, tunnel_speaks_first;
} guest;

static void send_message(struct mux_stream *stream, const pb_msgdesc_t *fields, const void *message)
{
    static uint8_t bytes[8192];
    pb_ostream_t out = pb_ostream_from_buffer(bytes, sizeof(bytes));

    assert_true(pb_encode_ex(&out, fields, message, PB_ENCODE_DELIMITED));
    assert_true(mux_stream_write_all(stream, bytes, out.bytes_written));
}

/* Every answer begins so. */
static void accept_call(struct service_stream *s)
{
    lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;

    send_message(s->handle, lima_guest_v1_StreamReply_fields, &reply);
}

static void answer_info(struct service_stream *s)
{
    lima_guest_v1_Info info = {.protocol = guest.protocol,
                               .agent_version = "1.2.3",
                               .boot_id = "boot",
                               .hostname = "h\033"};

    guest.infos++;
    if (guest.info_is_garbage) {
        mux_stream_write(s->handle, "\xff\xff\xff\xff\xff\xff", 6);
    } else if (!guest.info_ends_early) {
        accept_call(s);
        send_message(s->handle, lima_guest_v1_Info_fields, &info);
    }
    if (guest.info_twice) {
        send_message(s->handle, lima_guest_v1_Info_fields, &info);
    }
    mux_stream_finish(s->handle);
}

static void send_stage(lima_guest_v1_Stage_Name name)
{
    lima_guest_v1_Event event = lima_guest_v1_Event_init_zero;

    event.which_kind = lima_guest_v1_Event_stage_tag;
    event.kind.stage.name = name;
    send_message(guest.events_stream->handle, lima_guest_v1_Event_fields, &event);
}

static void answer_events(struct service_stream *s, const lima_guest_v1_EventsRequest *request)
{
    guest.events++;
    guest.udp_wanted = request->udp_wanted_count;
    guest.events_stream = s;
    accept_call(s);
    send_stage(lima_guest_v1_Stage_Name_AGENT);
}

static void answer_tunnel(struct service_stream *s)
{
    lima_guest_v1_StreamReply reply = {.error = guest.tunnel_error};
    uint8_t bytes[64];
    pb_ostream_t out = pb_ostream_from_buffer(bytes, sizeof(bytes));

    guest.tunnels++;
    guest.tunnel_stream = s;
    if (guest.tunnel_silent) {
        return;
    }
    assert_true(pb_encode_ex(&out, lima_guest_v1_StreamReply_fields, &reply, PB_ENCODE_DELIMITED));
    if (guest.tunnel_speaks_first) { /* bytes of the connection in the reply's frame */
        memcpy(bytes + out.bytes_written, "banner", 6);
        out.bytes_written += 6;
    }
    assert_true(mux_stream_write_all(s->handle, bytes, out.bytes_written));
}

/* And does not end, as a guest should. */
static void answer_health(struct service_stream *s)
{
    lima_guest_v1_Health health = {.processes = 7};

    accept_call(s);
    send_message(s->handle, lima_guest_v1_Health_fields, &health);
}

static void echo_on(struct service_stream *s)
{
    if (s->requested && s->echo.len > 0) {
        buf_drop(&s->echo, mux_stream_write(s->handle, s->echo.data, s->echo.len));
    }
    if (s->requested && s->fin && s->echo.len == 0 && strcmp(s->service, "Tunnel") == 0 &&
        !guest.tunnel_silent) {
        mux_stream_finish(s->handle);
    }
}

/* Takes one delimited message from the front of s->in: false while it is not there. */
static bool take(struct service_stream *s, const pb_msgdesc_t *fields, void *message)
{
    pb_istream_t in = pb_istream_from_buffer((const uint8_t *)s->in.data, s->in.len);

    if (s->in.len == 0 || !pb_decode_ex(&in, fields, message, PB_DECODE_DELIMITED)) {
        return false;
    }
    buf_drop(&s->in, s->in.len - in.bytes_left);
    return true;
}

static void serve(struct service_stream *s)
{
    lima_guest_v1_StreamOpen open = lima_guest_v1_StreamOpen_init_zero;
    lima_guest_v1_InfoRequest info = lima_guest_v1_InfoRequest_init_zero;
    lima_guest_v1_EventsRequest request = lima_guest_v1_EventsRequest_init_zero;

    if (!s->service[0]) {
        if (!take(s, lima_guest_v1_StreamOpen_fields, &open)) {
            return;
        }
        memcpy(s->service, open.service, sizeof(s->service));
    }
    if (strcmp(s->service, "Info") == 0 && take(s, lima_guest_v1_InfoRequest_fields, &info)) {
        s->requested = true;
        answer_info(s);
    } else if (strcmp(s->service, "Events") == 0 &&
               take(s, lima_guest_v1_EventsRequest_fields, &request)) {
        s->requested = true;
        answer_events(s, &request);
    } else if (strcmp(s->service, "Tunnel") == 0 &&
               take(s, lima_guest_v1_TunnelRequest_fields, &s->tunnel)) {
        s->requested = true;
        answer_tunnel(s);
    } else if (strcmp(s->service, "Health") == 0) {
        s->requested = true;
        answer_health(s);
    }
}

static void on_service_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct service_stream *s = arg;

    mux_stream_consumed(stream, len);
    buf_put(s->requested ? &s->echo : &s->in, data, len);
    if (!s->requested) {
        serve(s);
    }
    echo_on(s);
}

static void on_service_fin(struct mux_stream *stream, void *arg)
{
    struct service_stream *s = arg;

    s->fin = true;
    echo_on(s);
}

static void on_service_writable(struct mux_stream *stream, void *arg)
{
    echo_on(arg);
}

static void on_service_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct service_stream *s = arg;

    s->closed = true;
    s->handle = NULL;
}

static const struct mux_stream_ops service_ops = {
    .data = on_service_data,
    .fin = on_service_fin,
    .writable = on_service_writable,
    .closed = on_service_closed,
};

static void on_guest_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    struct service_stream *s = xnew(struct service_stream);

    s->handle = stream;
    s->next = guest.streams;
    guest.streams = s;
    mux_stream_set_ops(stream, &service_ops, s);
}

static void on_guest_output(struct mux *mux, void *arg)
{
    if (guest.io) {
        loop_io_want(guest.io, EV_READ | EV_WRITE);
    }
}

static const struct mux_ops guest_ops = {.opened = on_guest_opened, .output = on_guest_output};

static void guest_hang_up(void)
{
    loop_io_free(guest.io);
    guest.io = NULL;
    fd_close(steal_fd(&guest.fd));
}

static void guest_write(void)
{
    const void *data;
    size_t len;

    while ((len = mux_output(guest.mux, &data)) > 0) {
        ssize_t n = send(guest.fd, data, len, MSG_NOSIGNAL);

        if (n <= 0) {
            return;
        }
        mux_output_done(guest.mux, (size_t)n);
    }
    loop_io_want(guest.io, EV_READ);
}

static void on_guest_ready(evutil_socket_t fd, short what, void *arg)
{
    static uint8_t bytes[4096]; /* as a virtio port gives them */
    ssize_t n;

    if (what & EV_WRITE) {
        guest_write();
    }
    if (what & EV_READ) {
        n = recv(fd, bytes, sizeof(bytes), 0);
        if (n > 0) {
            mux_input(guest.mux, bytes, (size_t)n);
        } else if (n == 0) {
            guest_hang_up();
        }
    }
}

/* ---- the host ---- */

static struct loop *loop;
static struct peer *peer;
static int connects, disconnects, closes, stages, tunnels_done;
static char hostname[64];
static bool detach_when_connected, detach_at_stage;

static void on_connected(const struct peer_info *info, void *arg)
{
    connects++;
    assert_string_equal(info->agent_version, "1.2.3");
    snprintf(hostname, sizeof(hostname), "%s", info->hostname);
    if (detach_when_connected) {
        peer_detach(peer);
    }
}

static void on_disconnected(void *arg)
{
    disconnects++;
    assert_false(peer_is_up(peer));
}

static void on_closed(void *arg)
{
    closes++;
}

static void on_stage(enum peer_stage stage, const char *detail, const char *instance_id,
                     uint64_t uptime_us, void *arg)
{
    stages++;
    if (detach_at_stage) {
        peer_detach(peer);
    }
}

static const struct peer_events peer_events = {
    .connected = on_connected,
    .disconnected = on_disconnected,
    .closed = on_closed,
    .stage = on_stage,
};

static void attach(bool pad)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    if (guest.fd >= 0) {
        guest_hang_up();
    }
    guest.fd = fds[1];
    guest.io = loop_io_new(loop, guest.fd, EV_READ, on_guest_ready, NULL);
    mux_start(guest.mux, pad);
    peer_attach(peer, fds[0], pad);
}

static void free_streams(void)
{
    while (guest.streams) {
        struct service_stream *s = guest.streams;

        guest.streams = s->next;
        buf_done(&s->in);
        buf_done(&s->echo);
        free(s);
    }
}

static void on_limit(void *arg)
{
    *(bool *)arg = true;
}

/* Runs the loop until @condition, at most a few seconds. */
#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        bool late_ = false;                                                                        \
        struct loop_timer *limit_ = loop_timer_new(loop, on_limit, &late_);                        \
        loop_timer_set(limit_, 10000);                                                             \
        while (!(condition) && !late_) {                                                           \
            loop_once(loop);                                                                       \
        }                                                                                          \
        loop_timer_free(limit_);                                                                   \
        if (late_) {                                                                               \
            fail_msg("did not come: %s", #condition);                                              \
        }                                                                                          \
    } while (0)

static int setup(void **state)
{
    memset(&guest, 0, sizeof(guest));
    guest.fd = -1;
    guest.protocol = 1;
    connects = disconnects = closes = stages = tunnels_done = 0;
    detach_when_connected = detach_at_stage = false;
    loop = loop_new();
    guest.mux = mux_new(MUX_ROLE_GUEST, &guest_ops, NULL);
    peer = peer_new(loop, &peer_events, NULL);
    return 0;
}

static int teardown(void **state)
{
    peer_free(peer);
    if (guest.fd >= 0) {
        guest_hang_up();
    }
    mux_free(guest.mux);
    free_streams();
    loop_free(loop);
    return 0;
}

/* ---- a host's program at the end of a tunnel ---- */

struct user {
    struct peer_tunnel *tunnel;
    struct mux_stream *stream;
    int result;
    bool done, fin, closed;
    uint32_t code;
    struct buf got;
    const char *send;
    size_t send_left;
};

static void user_go_on(struct user *user)
{
    size_t n = mux_stream_write(user->stream, user->send, user->send_left);

    user->send += n;
    user->send_left -= n;
    if (user->send_left == 0) {
        mux_stream_finish(user->stream);
    }
}

static void on_user_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    buf_put(&((struct user *)arg)->got, data, len);
    mux_stream_consumed(stream, len);
}

static void on_user_fin(struct mux_stream *stream, void *arg)
{
    ((struct user *)arg)->fin = true;
}

static void on_user_writable(struct mux_stream *stream, void *arg)
{
    user_go_on(arg);
}

static void on_user_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct user *user = arg;

    user->closed = true;
    user->code = code;
    user->stream = NULL;
}

static const struct mux_stream_ops user_ops = {
    .data = on_user_data,
    .fin = on_user_fin,
    .writable = on_user_writable,
    .closed = on_user_closed,
};

static void on_tunnel_done(int r, struct mux_stream *stream, void *arg)
{
    struct user *user = arg;

    assert_false(user->done);
    assert_int_equal(r == 0, stream != NULL);
    tunnels_done++;
    user->done = true;
    user->result = r;
    user->tunnel = NULL;
    user->stream = stream;
    if (stream) {
        mux_stream_set_ops(stream, &user_ops, user);
    }
}

static const struct config_address loopback = {.family = AF_INET, .v4.s_addr = 0x0100007f};

static void user_open(struct user *user)
{
    *user = (struct user){0};
    user->tunnel = peer_tunnel_open(peer, &(struct peer_address){.address = loopback, .port = 8080},
                                    on_tunnel_done, user);
    assert_non_null(user->tunnel);
    assert_false(user->done);
}

/* ---- tests ---- */

static void test_wanted_udp_ports_begin_the_events_anew(void **state)
{
    static const struct peer_range ranges[] = {{53, 53}, {40000, 40010}};

    peer_want_udp(peer, ranges, 1);
    attach(false);
    RUN_UNTIL(stages == 1);
    assert_int_equal(guest.udp_wanted, 1);
    peer_want_udp(peer, ranges, 1); /* nothing new */
    peer_want_udp(peer, ranges, 2);
    RUN_UNTIL(stages == 2);
    assert_int_equal(guest.events, 2);
    assert_int_equal(guest.udp_wanted, 2);
    assert_true(guest.events_stream->next->closed);
    assert_int_equal(closes, 0);
}

static void test_a_session_begins_with_info_and_goes_on_with_events(void **state)
{
    attach(false);
    assert_false(peer_is_up(peer));
    RUN_UNTIL(stages == 1);
    assert_true(peer_is_up(peer));
    assert_int_equal(connects, 1);
    assert_string_equal(hostname, "h?");
    send_stage(lima_guest_v1_Stage_Name_SSH);
    RUN_UNTIL(stages == 2);
    assert_int_equal(guest.infos + guest.events, 2);
}

static void test_a_guest_that_restarts_is_connected_anew(void **state)
{
    attach(true);
    RUN_UNTIL(stages == 1);
    mux_start(guest.mux, true); /* no end-of-file */
    RUN_UNTIL(stages == 2);
    assert_int_equal(connects, 2);
    assert_int_equal(disconnects, 1);
    assert_int_equal(closes, 0);
}

static void test_opening_of_the_port_leaves_a_session_that_is_up(void **state)
{
    attach(true);
    peer_restart(peer); /* before */
    RUN_UNTIL(stages == 1);
    peer_restart(peer);
    send_stage(lima_guest_v1_Stage_Name_SSH);
    RUN_UNTIL(stages == 2);
    assert_int_equal(connects, 1);
    assert_int_equal(disconnects, 0);
}

static void test_end_of_file_closes_the_transport(void **state)
{
    struct user user;

    attach(false);
    RUN_UNTIL(stages == 1);
    guest.tunnel_silent = true;
    user_open(&user);
    RUN_UNTIL(guest.tunnels == 1);
    guest_hang_up();
    RUN_UNTIL(closes == 1);
    assert_int_equal(disconnects, 1);
    assert_true(user.done);
    assert_int_equal(user.result, -ENOTCONN);
    assert_null(peer_tunnel_open(peer, &(struct peer_address){.address = loopback, .port = 1},
                                 on_tunnel_done, &user));
    attach(false);
    RUN_UNTIL(stages == 2);
    assert_int_equal(connects, 2);
}

static void test_detaching_tells_of_the_session_but_not_of_the_transport(void **state)
{
    attach(false);
    RUN_UNTIL(stages == 1);
    peer_detach(peer);
    assert_int_equal(disconnects, 1);
    assert_int_equal(closes, 0);
    peer_detach(peer);
    assert_int_equal(disconnects, 1);
    RUN_UNTIL(guest.fd < 0);
}

static void test_callbacks_may_detach(void **state)
{
    detach_when_connected = true;
    attach(false);
    RUN_UNTIL(disconnects == 1 && guest.fd < 0);
    assert_int_equal(stages, 0);
    detach_when_connected = false;
    detach_at_stage = true;
    attach(false);
    RUN_UNTIL(disconnects == 2 && guest.fd < 0);
    assert_int_equal(stages, 1);
    assert_int_equal(closes, 0);
}

static void test_an_info_that_makes_no_sense_closes_the_transport(void **state)
{
    for (int i = 0; i < 4; i++) {
        int before = closes;

        guest.info_is_garbage = i == 0;
        guest.info_ends_early = i == 1;
        guest.protocol = i == 2 ? 0 : 1;
        guest.info_twice = i == 3;
        attach(false);
        RUN_UNTIL(closes == before + 1);
        assert_false(peer_is_up(peer));
    }
    assert_int_equal(connects, disconnects);
}

static void test_an_event_that_makes_no_sense_closes_the_transport(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"\x03\x1a\x01\xff", 4},         /* a broken Ports */
        {"\xff\xff\xff\xff\xff\xff", 6}, /* a length that is none */
        {"\xff\xff\x7f", 3},             /* one that is too long */
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        attach(false);
        RUN_UNTIL(stages == (int)i + 1);
        mux_stream_write(guest.events_stream->handle, cases[i].bytes, cases[i].len);
        RUN_UNTIL(closes == (int)i + 1);
        assert_int_equal(disconnects, (int)i + 1);
    }
}

static void test_an_event_stream_that_ends_closes_the_transport(void **state)
{
    attach(false);
    RUN_UNTIL(stages == 1);
    mux_stream_finish(guest.events_stream->handle);
    RUN_UNTIL(closes == 1);
    attach(false);
    RUN_UNTIL(stages == 2);
    mux_stream_reset(guest.events_stream->handle, MUX_RESET_CANCEL);
    RUN_UNTIL(closes == 2);
}

static void test_a_stream_opened_by_the_guest_is_refused(void **state)
{
    static struct service_stream odd;

    attach(false);
    RUN_UNTIL(stages == 1);
    odd.handle = mux_open(guest.mux, &service_ops, &odd);
    assert_non_null(odd.handle);
    RUN_UNTIL(odd.closed);
    assert_true(peer_is_up(peer));
}

static void test_a_tunnel_carries_both_ways_and_ends_by_halves(void **state)
{
    scoped(free) char *big = xmalloc(BIG);
    struct user user;

    for (size_t i = 0; i < BIG; i++) {
        big[i] = (char)(i * 31 + (i >> 9));
    }
    attach(true);
    RUN_UNTIL(stages == 1);
    user_open(&user);
    RUN_UNTIL(user.done);
    assert_int_equal(user.result, 0);
    assert_int_equal(guest.tunnel_stream->tunnel.port, 8080);
    assert_memory_equal(guest.tunnel_stream->tunnel.address.bytes, "\x7f\0\0\1", 4);
    user.send = big;
    user.send_left = BIG;
    user_go_on(&user);
    RUN_UNTIL(user.closed);
    assert_true(user.fin);
    assert_int_equal(user.code, 0);
    assert_int_equal(user.got.len, BIG);
    assert_memory_equal(user.got.data, big, BIG);
    buf_done(&user.got);
}

static void test_bytes_behind_the_reply_belong_to_the_tunnel(void **state)
{
    struct user user;

    attach(false);
    RUN_UNTIL(stages == 1);
    guest.tunnel_speaks_first = true;
    user_open(&user);
    RUN_UNTIL(user.done);
    assert_int_equal(user.got.len, 6);
    assert_memory_equal(user.got.data, "banner", 6);
    mux_stream_reset(user.stream, MUX_RESET_CANCEL);
    buf_done(&user.got);
}

static void test_a_refused_tunnel_says_why(void **state)
{
    struct user user;

    attach(false);
    RUN_UNTIL(stages == 1);
    guest.tunnel_error = ECONNREFUSED;
    user_open(&user);
    RUN_UNTIL(user.done);
    assert_int_equal(user.result, -ECONNREFUSED);
    RUN_UNTIL(guest.tunnel_stream->closed);
    assert_true(peer_is_up(peer));
}

static void test_a_tunnel_reply_that_makes_no_sense_ends_the_tunnel_alone(void **state)
{
    struct user user;

    attach(false);
    RUN_UNTIL(stages == 1);
    guest.tunnel_silent = true;
    for (int i = 0; i < 3; i++) {
        user_open(&user);
        RUN_UNTIL(guest.tunnels == i + 1);
        if (i == 0) {
            mux_stream_write(guest.tunnel_stream->handle, "\x02\x08\xff", 3);
        } else if (i == 1) {
            mux_stream_finish(guest.tunnel_stream->handle);
        } else {
            mux_stream_reset(guest.tunnel_stream->handle, MUX_RESET_UNKNOWN_SERVICE);
        }
        RUN_UNTIL(user.done);
        assert_int_equal(user.result, i == 0 ? -EBADMSG : i == 1 ? -EPROTO : -EOPNOTSUPP);
    }
    assert_true(peer_is_up(peer));
    assert_int_equal(closes, 0);
}

static void test_a_cancelled_tunnel_is_reset_and_never_calls_back(void **state)
{
    struct user user;

    attach(false);
    RUN_UNTIL(stages == 1);
    guest.tunnel_silent = true;
    user_open(&user);
    RUN_UNTIL(guest.tunnels == 1);
    peer_tunnel_cancel(user.tunnel);
    RUN_UNTIL(guest.tunnel_stream->closed);
    assert_false(user.done);
}

static void test_a_thousand_tunnels_leave_nothing_over(void **state)
{
    static struct user users[200];

    attach(true);
    RUN_UNTIL(stages == 1);
    for (int round = 0; round < 5; round++) {
        size_t ended = 0;

        for (size_t i = 0; i < ARRAY_LEN(users); i++) {
            user_open(&users[i]);
        }
        RUN_UNTIL(tunnels_done == (round + 1) * (int)ARRAY_LEN(users));
        for (size_t i = 0; i < ARRAY_LEN(users); i++) {
            users[i].send = "hello, tunnel";
            users[i].send_left = 13;
            user_go_on(&users[i]);
        }
        for (size_t i = 0; i < ARRAY_LEN(users); i++) {
            RUN_UNTIL(users[i].closed);
            assert_int_equal(users[i].code, 0);
            assert_int_equal(users[i].got.len, 13);
            buf_done(&users[i].got);
            ended++;
        }
        assert_int_equal(ended, ARRAY_LEN(users));
    }
    RUN_UNTIL(mux_stream_count(guest.mux) == 1); /* the events */
}

static void on_health(int r, const struct peer_health *health, void *arg)
{
    int *processes = arg;

    assert_int_equal(r, 0);
    *processes = (int)health->processes;
}

static void test_a_health_call_that_the_guest_never_ends_is_over_with_its_answer(void **state)
{
    int processes = 0;

    attach(false);
    RUN_UNTIL(stages == 1);
    assert_non_null(peer_health_ask(peer, on_health, &processes));
    RUN_UNTIL(processes == 7);
    RUN_UNTIL(mux_stream_count(guest.mux) == 1); /* the events */
}

/* ---- a host's program at the gate ---- */

struct visitor {
    struct gate *gate;
    int fd;
    struct buf got;
    bool ended;
    size_t sent;
};

static void visit(struct visitor *v)
{
    scoped(buf_done) struct buf request = BUF_INIT;
    struct peer_address to = {.network = PEER_NETWORK_TCP, .address = loopback, .port = 80};
    char path[64];

    *v = (struct visitor){0};
    snprintf(path, sizeof(path), "/tmp/test_gate.%d.sock", (int)getpid());
    assert_int_equal(gate_open(loop, path, peer, &v->gate, NULL), 0);
    assert_int_equal(file_connect_unix_now(path, &v->fd, NULL), 0);
    wire_put_open(&request, "Tunnel");
    wire_put_tunnel_request(&request, &to);
    assert_int_equal(send(v->fd, request.data, request.len, MSG_NOSIGNAL), request.len);
}

static void leave(struct visitor *v)
{
    gate_close(steal(v->gate));
    fd_close(steal_fd(&v->fd));
    buf_done(&v->got);
}

/* True, for conditions: takes what is there. */
static bool visitor_read(struct visitor *v)
{
    ssize_t n;

    while ((n = recv(v->fd, buf_reserve(&v->got, 65536), 65536, MSG_DONTWAIT)) > 0) {
        buf_commit(&v->got, (size_t)n);
    }
    v->ended |= n == 0;
    return true;
}

/* The same: sends what goes of @data, and then that it was all. */
static bool visitor_send(struct visitor *v, const char *data, size_t len)
{
    ssize_t n = 1;

    while (v->sent < len && n > 0) {
        n = send(v->fd, data + v->sent, len - v->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        v->sent += n > 0 ? (size_t)n : 0;
        if (v->sent == len) {
            shutdown(v->fd, SHUT_WR);
        }
    }
    return true;
}

static void visit_tunnel(struct visitor *v)
{
    attach(false);
    RUN_UNTIL(stages == 1);
    visit(v);
    RUN_UNTIL(visitor_read(v) && v->got.len > 0); /* the reply: an empty message */
    assert_int_equal(v->got.len, 1);
}

static void test_a_visitor_of_the_gate_talks_both_ways_to_the_guest(void **state)
{
    scoped(free) char *data = xcalloc(1, BIG);
    struct visitor v;

    for (size_t i = 0; i < BIG; i++) {
        data[i] = (char)(i * 2654435761u >> 13);
    }
    visit_tunnel(&v);
    RUN_UNTIL(visitor_send(&v, data, BIG) && visitor_read(&v) && v.ended);
    assert_int_equal(v.got.len, BIG + 1);
    assert_memory_equal(v.got.data + 1, data, BIG);
    RUN_UNTIL(mux_stream_count(guest.mux) == 1); /* the events */
    leave(&v);
}

static void test_a_visitor_that_goes_away_ends_its_stream(void **state)
{
    struct visitor v;

    visit_tunnel(&v);
    fd_close(steal_fd(&v.fd));
    RUN_UNTIL(guest.tunnel_stream->closed);
    leave(&v);
}

static void test_a_visitor_learns_that_the_session_has_ended(void **state)
{
    struct visitor v;

    visit_tunnel(&v);
    peer_detach(peer);
    RUN_UNTIL(visitor_read(&v) && v.ended);
    leave(&v);
}

static void test_a_gate_that_is_closed_breaks_what_goes_through_it(void **state)
{
    static const char data[BIG];
    struct visitor v;

    visit_tunnel(&v);
    visitor_send(&v, data, sizeof(data)); /* and reads nothing */
    loop_once(loop);
    gate_close(steal(v.gate));
    RUN_UNTIL(guest.tunnel_stream->closed);
    leave(&v);
}

static void test_without_a_session_a_visitor_is_told_so(void **state)
{
    struct visitor v;

    visit(&v);
    RUN_UNTIL(visitor_read(&v) && v.ended);
    assert_true(v.got.len > 2);
    assert_non_null(memmem(v.got.data, v.got.len, "does not answer", 15));
    leave(&v);
}

struct life {
    int calls;
    bool answered;
};

static void on_life(bool answered, void *arg)
{
    struct life *life = arg;

    life->calls++;
    life->answered = answered;
}

static void test_a_guest_that_lives_gives_a_sign_of_it(void **state)
{
    struct life first = {0}, second = {0}, dropped = {0};
    struct peer_ping *ping;

    attach(false);
    RUN_UNTIL(peer_is_up(peer));
    peer_ping(peer, 10000, on_life, &first);
    ping = peer_ping(peer, 10000, on_life, &dropped);
    peer_ping(peer, 10000, on_life, &second);
    peer_ping_cancel(ping);
    assert_int_equal(first.calls, 0);
    RUN_UNTIL(first.calls && second.calls);
    assert_true(first.answered && second.answered);
    assert_int_equal(dropped.calls, 0);
}

static void test_a_guest_that_is_stuck_gives_none_in_time(void **state)
{
    struct life life = {0};

    attach(false);
    RUN_UNTIL(peer_is_up(peer));
    loop_io_free(guest.io);
    guest.io = NULL;
    peer_ping(peer, 20, on_life, &life);
    RUN_UNTIL(life.calls);
    assert_false(life.answered);
}

static void test_without_a_session_there_is_no_sign_of_life(void **state)
{
    struct life before = {0}, during = {0};

    peer_ping(peer, 10000, on_life, &before);
    assert_int_equal(before.calls, 0);
    RUN_UNTIL(before.calls);
    assert_false(before.answered);
    attach(false);
    RUN_UNTIL(peer_is_up(peer));
    loop_io_free(guest.io);
    guest.io = NULL;
    peer_ping(peer, 10000, on_life, &during);
    peer_detach(peer);
    RUN_UNTIL(during.calls);
    assert_false(during.answered);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_wanted_udp_ports_begin_the_events_anew),
        T(test_a_session_begins_with_info_and_goes_on_with_events),
        T(test_a_guest_that_restarts_is_connected_anew),
        T(test_opening_of_the_port_leaves_a_session_that_is_up),
        T(test_end_of_file_closes_the_transport),
        T(test_detaching_tells_of_the_session_but_not_of_the_transport),
        T(test_callbacks_may_detach),
        T(test_an_info_that_makes_no_sense_closes_the_transport),
        T(test_an_event_that_makes_no_sense_closes_the_transport),
        T(test_an_event_stream_that_ends_closes_the_transport),
        T(test_a_stream_opened_by_the_guest_is_refused),
        T(test_a_tunnel_carries_both_ways_and_ends_by_halves),
        T(test_bytes_behind_the_reply_belong_to_the_tunnel),
        T(test_a_refused_tunnel_says_why),
        T(test_a_tunnel_reply_that_makes_no_sense_ends_the_tunnel_alone),
        T(test_a_cancelled_tunnel_is_reset_and_never_calls_back),
        T(test_a_thousand_tunnels_leave_nothing_over),
        T(test_a_health_call_that_the_guest_never_ends_is_over_with_its_answer),
        T(test_a_visitor_of_the_gate_talks_both_ways_to_the_guest),
        T(test_a_visitor_that_goes_away_ends_its_stream),
        T(test_a_visitor_learns_that_the_session_has_ended),
        T(test_a_gate_that_is_closed_breaks_what_goes_through_it),
        T(test_without_a_session_a_visitor_is_told_so),
        T(test_a_guest_that_lives_gives_a_sign_of_it),
        T(test_a_guest_that_is_stuck_gives_none_in_time),
        T(test_without_a_session_there_is_no_sign_of_life),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
