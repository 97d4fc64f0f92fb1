/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole agent, in a process of its own that leaves the machine alone, spoken to as the host
 * does: a mux on the other end of a socketpair.
 */
#include "test.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "agent.h"
#include "base/buf.h"
#include "base/log.h"
#include "mux/delimited.h"
#include "mux/mux.h"
#include "wire.h"

#define WAIT_MS 20000
#define BULK    (6u << 20) /* many windows */
#define TUNNELS 100

struct side { /* one stream as the test sees it */
    struct mux_stream *stream;
    struct buf in;
    bool fin, closed;
    uint32_t code;
};

static struct {
    pid_t pid;
    int fd;
    struct mux *mux;
    bool up;
} host;

static void on_up(struct mux *mux, void *arg)
{
    host.up = true;
}

static void on_down(struct mux *mux, void *arg)
{
    host.up = false;
}

static void on_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    mux_stream_reset(stream, MUX_RESET_REFUSED);
}

static void on_pong(struct mux *mux, const uint8_t data[8], void *arg)
{
}

static void on_output(struct mux *mux, void *arg)
{
}

static const struct mux_ops host_ops = {on_up, on_down, on_opened, on_pong, on_output};

static void on_side_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    buf_put(&((struct side *)arg)->in, data, len);
    mux_stream_consumed(stream, len);
}

static void on_side_fin(struct mux_stream *stream, void *arg)
{
    ((struct side *)arg)->fin = true;
}

static void on_side_writable(struct mux_stream *stream, void *arg)
{
}

static void on_side_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    ((struct side *)arg)->closed = true;
    ((struct side *)arg)->code = code;
}

static const struct mux_stream_ops side_ops = {on_side_data, on_side_fin, on_side_writable,
                                               on_side_closed};

static long now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Moves bytes both ways once, waiting a little for some. False when the agent has gone. */
static bool turn(void)
{
    struct pollfd p = {.fd = host.fd, .events = POLLIN};
    static char data[65536];
    const void *out;
    size_t len;
    ssize_t n;

    while ((len = mux_output(host.mux, &out)) > 0 && (n = write(host.fd, out, len)) > 0) {
        mux_output_done(host.mux, (size_t)n);
    }
    if (len) {
        p.events |= POLLOUT;
    }
    poll(&p, 1, 10);
    n = read(host.fd, data, sizeof(data));
    if (n > 0) {
        mux_input(host.mux, data, (size_t)n);
    }
    return n != 0;
}

/* @condition is evaluated until it holds once; it may take things away. */
#define wait_for(condition)                                                                        \
    do {                                                                                           \
        long end_ = now_ms() + WAIT_MS;                                                            \
        bool met_ = (condition);                                                                   \
        while (!met_ && now_ms() < end_) {                                                         \
            assert_true(turn());                                                                   \
            met_ = (condition);                                                                    \
        }                                                                                          \
        if (!met_) {                                                                               \
            fail_msg("waited in vain for %s", #condition);                                         \
        }                                                                                          \
    } while (0)

static void send_message(struct side *side, const pb_msgdesc_t *fields, const void *message)
{
    uint8_t bytes[WIRE_MAX];
    size_t len = wire_encode(fields, message, bytes);

    assert_true(mux_stream_write_all(side->stream, bytes, len));
}

static void call(struct side *side, const char *service)
{
    lima_guest_v1_StreamOpen open = lima_guest_v1_StreamOpen_init_zero;

    *side = (struct side){.stream = mux_open(host.mux, &side_ops, side)};
    assert_non_null(side->stream);
    wire_text(open.service, sizeof(open.service), service);
    send_message(side, lima_guest_v1_StreamOpen_fields, &open);
}

static void end_call(struct side *side)
{
    if (!side->closed) {
        mux_stream_reset(side->stream, MUX_RESET_CANCEL);
    }
    buf_done(&side->in);
}

/* Takes the next message off what has come; false when it is not complete. */
static bool take_message(struct side *side, const pb_msgdesc_t *fields, void *ret)
{
    scoped(delimited_done) struct delimited splitter = DELIMITED_INIT(WIRE_MAX);
    const uint8_t *body;
    size_t used, len;

    if (!side->in.len || delimited_next(&splitter, (uint8_t *)side->in.data, side->in.len, &used,
                                        &body, &len) != 1) {
        return false;
    }
    assert_true(wire_decode(body, len, fields, ret));
    buf_drop(&side->in, used);
    return true;
}

/* The StreamReply that every answer begins with. */
static uint32_t take_reply(struct side *side)
{
    lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;

    wait_for(take_message(side, lima_guest_v1_StreamReply_fields, &reply));
    return reply.error;
}

static void call_info(struct side *side)
{
    lima_guest_v1_InfoRequest request = lima_guest_v1_InfoRequest_init_zero;

    call(side, "Info");
    send_message(side, lima_guest_v1_InfoRequest_fields, &request);
    mux_stream_finish(side->stream);
    wait_for(side->closed);
}

static int start_agent(void **state)
{
    char spec[32];
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) {
        return -1;
    }
    host.pid = fork();
    if (host.pid == 0) {
        struct agent_options options = {.transport = spec, .no_boot = true};

        close(fds[0]);
        snprintf(spec, sizeof(spec), "fd:%d", fds[1]);
        log_set_level(LOG_LEVEL_ERROR);
        _exit(agent_run(&options, NULL) < 0);
    }
    close(fds[1]);
    host.fd = fds[0];
    fcntl(host.fd, F_SETFL, O_NONBLOCK);
    host.mux = mux_new(MUX_ROLE_HOST, &host_ops, NULL);
    mux_start(host.mux, false);
    for (long end = now_ms() + WAIT_MS; !host.up && now_ms() < end;) {
        turn();
    }
    return host.up ? 0 : -1;
}

/* The agent ends by itself, without a fault, when an inherited transport ends. */
static int stop_agent(void **state)
{
    int status = -1;

    mux_free(host.mux);
    close(host.fd);
    waitpid(host.pid, &status, 0);
    host.up = false;
    return status;
}

static void test_info_tells_the_protocol(void **state)
{
    lima_guest_v1_Info info = lima_guest_v1_Info_init_zero;
    struct side side;

    call_info(&side);
    assert_int_equal(side.code, 0);
    assert_int_equal(take_reply(&side), 0);
    assert_true(take_message(&side, lima_guest_v1_Info_fields, &info));
    assert_int_equal(info.protocol, 1);
    assert_int_equal(strlen(info.boot_id), 36);
    end_call(&side);
}

static void test_unknown_service_and_garbage_are_refused(void **state)
{
    struct side side;

    call(&side, "Nothing");
    assert_int_equal(take_reply(&side), EOPNOTSUPP);
    wait_for(side.fin);
    end_call(&side);

    side = (struct side){.stream = mux_open(host.mux, &side_ops, &side)};
    mux_stream_write(side.stream, "\xff\xff\xff\xff\xff\xff", 6);
    assert_int_equal(take_reply(&side), EBADMSG);
    wait_for(side.fin);
    end_call(&side);

    call(&side, "Tunnel");
    mux_stream_finish(side.stream);
    assert_int_equal(take_reply(&side), EBADMSG);
    wait_for(side.closed);
    end_call(&side);

    call_info(&side);
    assert_int_equal(take_reply(&side), 0);
    end_call(&side);
}

static bool names_port(const lima_guest_v1_Port *ports, size_t count, uint16_t port)
{
    for (size_t i = 0; i < count; i++) {
        if (ports[i].port == port) {
            return true;
        }
    }
    return false;
}

static int listener(uint16_t *ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(fd, TUNNELS), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

static void test_events_begin_with_stages_and_a_snapshot(void **state)
{
    lima_guest_v1_EventsRequest request = lima_guest_v1_EventsRequest_init_zero;
    lima_guest_v1_Event event = lima_guest_v1_Event_init_zero;
    uint16_t port;
    struct side side;
    int fd;

    call(&side, "Events");
    send_message(&side, lima_guest_v1_EventsRequest_fields, &request);
    assert_int_equal(take_reply(&side), 0);
    for (int stage = 1; stage <= lima_guest_v1_Stage_Name_READY; stage++) {
        wait_for(take_message(&side, lima_guest_v1_Event_fields, &event));
        assert_int_equal(event.which_kind, lima_guest_v1_Event_stage_tag);
        assert_int_equal(event.kind.stage.name, stage);
    }
    wait_for(take_message(&side, lima_guest_v1_Event_fields, &event));
    assert_int_equal(event.which_kind, lima_guest_v1_Event_ports_tag);
    assert_true(event.kind.ports.snapshot);

    fd = listener(&port);
    do {
        wait_for(take_message(&side, lima_guest_v1_Event_fields, &event));
        assert_false(event.kind.ports.snapshot);
    } while (!names_port(event.kind.ports.added, event.kind.ports.added_count, port));
    close(fd);
    do {
        wait_for(take_message(&side, lima_guest_v1_Event_fields, &event));
    } while (!names_port(event.kind.ports.removed, event.kind.ports.removed_count, port));
    end_call(&side);
}

static void open_tunnel(struct side *side, uint16_t port, uint32_t want)
{
    lima_guest_v1_TunnelRequest request = lima_guest_v1_TunnelRequest_init_zero;

    request.port = port;
    request.address.size = 4;
    memcpy(request.address.bytes, (uint8_t[]){127, 0, 0, 1}, 4);
    call(side, "Tunnel");
    send_message(side, lima_guest_v1_TunnelRequest_fields, &request);
    assert_int_equal(take_reply(side), want);
}

static void test_tunnel_to_nobody_says_why(void **state)
{
    uint16_t port;
    int fd = listener(&port);
    struct side side;

    close(fd);
    open_tunnel(&side, port, ECONNREFUSED);
    mux_stream_finish(side.stream);
    wait_for(side.closed);
    assert_int_equal(side.code, 0);
    end_call(&side);
}

/* Reads to the end, and only then answers with as much: needs half-close and both directions. */
static void _noreturn_ serve_one_late(int fd)
{
    static char data[65536];
    int conn = accept(fd, NULL, NULL);
    size_t total = 0;
    ssize_t n;

    while ((n = read(conn, data, sizeof(data))) > 0) {
        total += (size_t)n;
    }
    memset(data, 'r', sizeof(data));
    while (total) {
        n = write(conn, data, MIN(total, sizeof(data)));
        if (n <= 0) {
            _exit(1);
        }
        total -= (size_t)n;
    }
    _exit(0);
}

static void test_tunnel_carries_many_windows_and_half_close(void **state)
{
    scoped(free) char *data = xmalloc(65536);
    size_t sent = 0;
    uint16_t port;
    int fd = listener(&port);
    struct side side;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        serve_one_late(fd);
    }
    close(fd);
    memset(data, 's', 65536);
    open_tunnel(&side, port, 0);
    while (sent < BULK) {
        sent += mux_stream_write(side.stream, data, MIN(65536u, BULK - sent));
        assert_true(turn());
    }
    mux_stream_finish(side.stream);
    wait_for(side.closed);
    assert_int_equal(side.code, 0);
    assert_int_equal(side.in.len, BULK);
    end_call(&side);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_tunnels_leave_no_descriptor_behind(void **state)
{
    scoped(free) char *folder = xasprintf("/proc/%d/fd", (int)host.pid);
    uint16_t port;
    int fd = listener(&port);
    static struct side sides[TUNNELS];
    size_t before = 0, after = 0;

    for (int i = 0; i < 1024; i++) {
        scoped(free) char *path = xasprintf("%s/%d", folder, i);

        before += access(path, F_OK) == 0;
    }
    for (size_t i = 0; i < TUNNELS; i++) {
        open_tunnel(&sides[i], port, 0);
        close(accept(fd, NULL, NULL));
    }
    for (size_t i = 0; i < TUNNELS; i++) {
        mux_stream_finish(sides[i].stream);
    }
    for (size_t i = 0; i < TUNNELS; i++) {
        wait_for(sides[i].closed);
        end_call(&sides[i]);
    }
    close(fd);
    {
        struct side side; /* a full round trip: what came before is done */

        call_info(&side);
        end_call(&side);
    }
    for (int i = 0; i < 1024; i++) {
        scoped(free) char *path = xasprintf("%s/%d", folder, i);

        after += access(path, F_OK) == 0;
    }
    assert_int_equal(after, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_info_tells_the_protocol, start_agent, stop_agent),
        cmocka_unit_test_setup_teardown(test_unknown_service_and_garbage_are_refused, start_agent,
                                        stop_agent),
        cmocka_unit_test_setup_teardown(test_events_begin_with_stages_and_a_snapshot, start_agent,
                                        stop_agent),
        cmocka_unit_test_setup_teardown(test_tunnel_to_nobody_says_why, start_agent, stop_agent),
        cmocka_unit_test_setup_teardown(test_tunnel_carries_many_windows_and_half_close,
                                        start_agent, stop_agent),
        cmocka_unit_test_setup_teardown(test_tunnels_leave_no_descriptor_behind, start_agent,
                                        stop_agent),
    };

    return cmocka_run_group_tests_name("guest_session", tests, NULL, NULL);
}
