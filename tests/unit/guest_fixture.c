/* SPDX-License-Identifier: Apache-2.0 */
#include "guest_fixture.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "agent.h"
#include "base/log.h"
#include "mux/delimited.h"

#define BACKLOG 128

struct guest_host guest_host;
const char *guest_stream_socket;

static void on_up(struct mux *mux, void *arg)
{
    guest_host.up = true;
}

static void on_down(struct mux *mux, void *arg)
{
    guest_host.up = false;
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
    struct guest_side *side = arg;

    buf_put(&side->in, data, len);
    if (!side->hold) {
        mux_stream_consumed(stream, len);
    }
}

static void on_side_fin(struct mux_stream *stream, void *arg)
{
    ((struct guest_side *)arg)->fin = true;
}

static void on_side_writable(struct mux_stream *stream, void *arg)
{
}

static void on_side_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    ((struct guest_side *)arg)->closed = true;
    ((struct guest_side *)arg)->code = code;
}

const struct mux_stream_ops guest_side_ops = {on_side_data, on_side_fin, on_side_writable,
                                              on_side_closed};

long guest_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Moves bytes both ways once, waiting a little for some. False when the agent has gone. */
bool guest_turn(void)
{
    struct pollfd p = {.fd = guest_host.fd, .events = POLLIN};
    static char data[65536];
    const void *out;
    size_t len;
    ssize_t n;

    while ((len = mux_output(guest_host.mux, &out)) > 0 &&
           (n = write(guest_host.fd, out, len)) > 0) {
        mux_output_done(guest_host.mux, (size_t)n);
    }
    if (len) {
        p.events |= POLLOUT;
    }
    poll(&p, 1, 10);
    n = read(guest_host.fd, data, sizeof(data));
    if (n > 0) {
        mux_input(guest_host.mux, data, (size_t)n);
    }
    return n != 0;
}

void guest_send_message(struct guest_side *side, const pb_msgdesc_t *fields, const void *message)
{
    uint8_t bytes[WIRE_MAX];
    size_t len = wire_encode(fields, message, bytes);

    assert_true(mux_stream_write_all(side->stream, bytes, len));
}

void guest_call(struct guest_side *side, const char *service)
{
    lima_guest_v1_StreamOpen open = lima_guest_v1_StreamOpen_init_zero;

    *side = (struct guest_side){.stream = mux_open(guest_host.mux, &guest_side_ops, side)};
    assert_non_null(side->stream);
    wire_text(open.service, sizeof(open.service), service);
    guest_send_message(side, lima_guest_v1_StreamOpen_fields, &open);
}

void guest_end_call(struct guest_side *side)
{
    if (!side->closed) {
        mux_stream_reset(side->stream, MUX_RESET_CANCEL);
    }
    buf_done(&side->in);
}

/* Takes the next message off what has come; false when it is not complete. */
bool guest_take_message(struct guest_side *side, const pb_msgdesc_t *fields, void *ret)
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
uint32_t guest_take_reply(struct guest_side *side)
{
    lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;

    guest_wait_for(guest_take_message(side, lima_guest_v1_StreamReply_fields, &reply));
    return reply.error;
}

void guest_call_info(struct guest_side *side)
{
    lima_guest_v1_InfoRequest request = lima_guest_v1_InfoRequest_init_zero;

    guest_call(side, "Info");
    guest_send_message(side, lima_guest_v1_InfoRequest_fields, &request);
    mux_stream_finish(side->stream);
    guest_wait_for(side->closed);
}

int guest_start(void **state)
{
    char spec[32];
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) {
        return -1;
    }
    guest_host.pid = fork();
    if (guest_host.pid == 0) {
        struct agent_options options = {
            .transport = spec, .no_boot = true, .stream_socket = guest_stream_socket};

        close(fds[0]);
        snprintf(spec, sizeof(spec), "fd:%d", fds[1]);
        log_set_level(LOG_LEVEL_ERROR);
        _exit(agent_run(&options, NULL) < 0);
    }
    close(fds[1]);
    guest_host.fd = fds[0];
    fcntl(guest_host.fd, F_SETFL, O_NONBLOCK);
    guest_host.mux = mux_new(MUX_ROLE_HOST, &host_ops, NULL);
    mux_start(guest_host.mux, false);
    for (long end = guest_now_ms() + GUEST_WAIT_MS; !guest_host.up && guest_now_ms() < end;) {
        guest_turn();
    }
    return guest_host.up ? 0 : -1;
}

/* The agent ends by itself, without a fault, when an inherited transport ends. */
int guest_stop(void **state)
{
    int status = -1;

    mux_free(guest_host.mux);
    close(guest_host.fd);
    waitpid(guest_host.pid, &status, 0);
    guest_host.up = false;
    return status;
}

int guest_listener(uint16_t *ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(fd, BACKLOG), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

void guest_open_tunnel(struct guest_side *side, uint16_t port, uint32_t want)
{
    lima_guest_v1_TunnelRequest request = lima_guest_v1_TunnelRequest_init_zero;

    request.port = port;
    request.address.size = 4;
    memcpy(request.address.bytes, (uint8_t[]){127, 0, 0, 1}, 4);
    guest_call(side, "Tunnel");
    guest_send_message(side, lima_guest_v1_TunnelRequest_fields, &request);
    assert_int_equal(guest_take_reply(side), want);
}
