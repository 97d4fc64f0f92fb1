/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest agent of today against a host of version 1, as recorded in golden/session_v1 (see
 * test_peer_recording.c). The whole agent runs in a process of its own; the server that the host
 * of the recording connected to is made again.
 */
#include "test.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "agent.h"
#include "base/alloc.h"
#include "base/log.h"
#include "loop.h"
#include "recording.h"
#include "wire.h"

#define WAIT_US 20000000

static struct {
    pid_t pid;
    int fd;
    struct recording recording;
    struct recording_player player;
    struct recording_stream was[RECORDING_STREAMS]; /* what the guest of version 1 sent */
} f;

/* Puts together what the recorded guest said on each stream. */
static void collect(void)
{
    for (size_t i = 0; i < f.recording.count; i++) {
        const struct recording_unit *unit = &f.recording.units[i];
        struct recording_stream *stream = &f.was[unit->header.stream];

        if (unit->is_sync || unit->from != FRAME_ROLE_GUEST) {
            continue;
        }
        if (unit->header.type == FRAME_TYPE_DATA) {
            buf_put(&stream->data, unit->payload, unit->header.length);
            stream->fin = stream->fin || (unit->header.flags & FRAME_FLAG_FIN);
        } else if (unit->header.type == FRAME_TYPE_RESET) {
            stream->reset = true;
            stream->code = frame_get_u32(unit->payload);
        }
    }
}

static int setup(void **state)
{
    scoped(free) char *path = xasprintf("%s/tests/unit/golden/session_v1", getenv("SOURCE_ROOT"));
    char spec[32];
    int pair[2];

    recording_load(path, &f.recording);
    collect();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    f.fd = pair[0];
    f.pid = fork();
    if (f.pid == 0) {
        struct agent_options options = {.transport = spec, .no_boot = true};

        close(pair[0]);
        snprintf(spec, sizeof(spec), "fd:%d", pair[1]);
        log_set_level(LOG_LEVEL_ERROR);
        _exit(agent_run(&options, NULL) < 0);
    }
    close(pair[1]);
    fcntl(f.fd, F_SETFL, O_NONBLOCK);
    recording_player_init(&f.player, &f.recording, FRAME_ROLE_HOST, f.fd);
    return 0;
}

static int teardown(void **state)
{
    int status = -1;

    close(f.fd);
    waitpid(f.pid, &status, 0);
    for (size_t i = 0; i < RECORDING_STREAMS; i++) {
        buf_done(&f.was[i].data);
    }
    recording_player_done(&f.player);
    recording_done(&f.recording);
    return status;
}

/* The address of the first tunnel of the recording; its service must be there to be dialled. */
static int listen_where_it_leads(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f4d4237), /* test_peer_recording.c */
                               .sin_port = htons(47117)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

/* Sends one connection back whole, in a process of its own. */
static pid_t serve_once(int listener)
{
    pid_t pid = fork();
    char data[256];
    size_t total = 0;
    ssize_t n;
    int fd;

    if (pid) {
        return pid;
    }
    fd = accept(listener, NULL, NULL);
    while ((n = read(fd, data + total, sizeof(data) - total)) > 0) {
        total += (size_t)n;
    }
    _exit(write(fd, data, total) != (ssize_t)total);
}

static bool all_ended(void)
{
    for (size_t i = 0; i < RECORDING_STREAMS; i++) {
        if (f.was[i].fin && !f.player.live[i].fin && !f.player.live[i].reset) {
            return false;
        }
    }
    return true;
}

static void play(void)
{
    uint64_t end = loop_now_us() + WAIT_US;

    while (!recording_player_step(&f.player) || !all_ended()) {
        struct pollfd p = {.fd = f.fd, .events = POLLIN};

        assert_true(loop_now_us() < end);
        poll(&p, 1, 10);
    }
}

/* Takes one message off the front; its errno if it is a StreamReply. */
static uint32_t take_reply(struct buf *data)
{
    lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;
    scoped(delimited_done) struct delimited splitter = DELIMITED_INIT(WIRE_MAX);
    const uint8_t *body;
    size_t used, len;

    assert_int_equal(
        delimited_next(&splitter, (const uint8_t *)data->data, data->len, &used, &body, &len), 1);
    assert_true(wire_decode(body, len, lima_guest_v1_StreamReply_fields, &reply));
    buf_drop(data, used);
    return reply.error;
}

static void test_a_host_of_version_1_is_served(void **state)
{
    int listener = listen_where_it_leads(), compared = 0, raw = 0, refused = 0, status = -1;
    pid_t server = serve_once(listener);

    close(listener);
    play();
    assert_int_equal(waitpid(server, &status, 0), server);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < RECORDING_STREAMS; i++) {
        struct recording_stream *was = &f.was[i], *is = &f.player.live[i];
        uint32_t error;

        if (!was->data.len) {
            continue;
        }
        compared++;
        error = take_reply(&was->data);
        assert_int_equal(take_reply(&is->data), error);
        refused += error != 0;
        if (was->fin) {
            assert_true(is->fin);
        }
        /* Info and Events say more than they did; a tunnel carries the same bytes. */
        if (i > 3 && was->data.len) {
            assert_int_equal(is->data.len, was->data.len);
            assert_memory_equal(is->data.data, was->data.data, was->data.len);
            raw++;
        }
    }
    assert_true(compared >= 4);
    assert_int_equal(raw, 1);
    assert_int_equal(refused, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_host_of_version_1_is_served, setup, teardown),
    };

    return cmocka_run_group_tests_name("guest_recording", tests, NULL, NULL);
}
