/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host of today against a guest of version 1, as recorded in golden/session_v1. The test makes
 * the calls that were made then, in the same order:
 *
 *   Info, Events; a tunnel to ADDRESS:PORT, where a server sends everything back and ends; a tunnel
 *   to the next port, where nobody listens.
 *
 * That recording was made by this program, with LIMA_RECORD_AGENT=program and LIMA_RECORD_TO=file:
 * then the guest is real, and what passes is written down. It is never made anew: a version that
 * cannot play it any more breaks the guests that run.
 */
#include "test.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "peer/client.h"
#include "peer/tunnel.h"
#include "recording.h"
#include "util/file.h"

#define ADDRESS 0x7f4d4237 /* 127.77.66.55 */
#define PORT    47117
#define TEXT    "as it was said in version 1"

static struct {
    struct loop *loop;
    struct peer *peer;
    int connections, snapshots, ports;
    enum peer_stage last_stage;
    int stages;
    /* the tunnel */
    struct mux_stream *stream;
    int result;
    bool done, fin, closed;
    uint32_t code;
    struct buf echo;
} host;

static void on_connected(const struct peer_info *info, void *arg)
{
    host.connections++;
    assert_true(strlen(info->agent_version) > 0);
    assert_true(strlen(info->boot_id) > 0);
    assert_true(info->feature_count > 0);
}

static void on_disconnected(void *arg)
{
}

static void on_stage(enum peer_stage stage, const char *detail, const char *instance_id,
                     uint64_t uptime_us, void *arg)
{
    assert_true(stage > host.last_stage);
    host.last_stage = stage;
    host.stages++;
}

static void on_script(const struct peer_script *script, void *arg)
{
}

static void on_ports(bool snapshot, const struct peer_port *added, size_t added_count,
                     const struct peer_port *removed, size_t removed_count, void *arg)
{
    host.snapshots += snapshot;
    for (size_t i = 0; i < added_count; i++) {
        host.ports += added[i].port == PORT && added[i].address.v4.s_addr == htonl(ADDRESS);
    }
}

static const struct peer_events peer_events = {
    .connected = on_connected,
    .disconnected = on_disconnected,
    .closed = on_disconnected,
    .stage = on_stage,
    .script = on_script,
    .ports = on_ports,
};

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    buf_put(&host.echo, data, len);
    mux_stream_consumed(stream, len);
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    host.fin = true;
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    host.closed = true;
    host.code = code;
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data, .fin = on_stream_fin, .closed = on_stream_closed};

static void on_tunnel(int r, struct mux_stream *stream, void *arg)
{
    host.done = true;
    host.result = r;
    host.stream = stream;
    if (stream) {
        mux_stream_set_ops(stream, &stream_ops, NULL);
    }
}

/* ---- the guest: a player, or a real one whose words are written down ---- */

static struct {
    int fd; /* our end of the peer's transport */
    struct recording recording;
    struct recording_player player;
    /* while recording */
    FILE *file;
    pid_t agent;
    pid_t server;
    int agent_fd;
    struct buf from_host, from_guest;
} guest;

static void write_units(struct buf *bytes, const char *from)
{
    size_t padding = 0, len = 0;

    while (recording_cut(bytes, &padding, &len)) {
        fprintf(guest.file, "%s ", from);
        for (size_t i = 0; i < len; i++) {
            fprintf(guest.file, "%02x", (uint8_t)bytes->data[padding + i]);
        }
        fputc('\n', guest.file);
        buf_drop(bytes, padding + len);
    }
}

/* Passes bytes on and keeps a copy to be cut. */
static void tap(int from, int to, struct buf *copy, const char *name)
{
    char chunk[65536];
    ssize_t n = recv(from, chunk, sizeof(chunk), MSG_DONTWAIT);

    if (n > 0) {
        assert_int_equal(fd_write_all(to, chunk, (size_t)n), 0);
        buf_put(copy, chunk, (size_t)n);
        write_units(copy, name);
    }
}

/* The server of the tunnel, while recording: one connection, which is sent back whole. */
static void _noreturn_ serve_once(int listener)
{
    int fd = accept(listener, NULL, NULL);
    char data[256];
    size_t total = 0;
    ssize_t n;

    while ((n = read(fd, data + total, sizeof(data) - total)) > 0) {
        total += (size_t)n;
    }
    _exit(fd_write_all(fd, data, total) < 0);
}

static void turn(void)
{
    struct timeval pause = {.tv_usec = 2000};

    if (guest.file) {
        tap(guest.fd, guest.agent_fd, &guest.from_host, "host");
        tap(guest.agent_fd, guest.fd, &guest.from_guest, "guest");
    } else {
        recording_player_step(&guest.player);
    }
    event_base_loopexit(loop_base(host.loop), &pause);
    event_base_loop(loop_base(host.loop), 0);
}

#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        int64_t end_ = loop_now_ms() + 20000;                                                      \
        while (!(condition)) {                                                                     \
            assert_true(loop_now_ms() < end_);                                                     \
            turn();                                                                                \
        }                                                                                          \
    } while (0)

static void start_recording(const char *agent)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(ADDRESS), .sin_port = htons(PORT)};
    int pair[2], listener;

    guest.file = fopen(getenv("LIMA_RECORD_TO"), "we");
    assert_non_null(guest.file);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(listener, 4), 0);
    guest.server = fork();
    if (guest.server == 0) {
        serve_once(listener);
    }
    close(listener);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    guest.agent_fd = pair[0];
    guest.agent = fork();
    if (guest.agent == 0) {
        dup2(pair[1], 3);
        execl(agent, agent, "run", "--transport", "fd:3", "--no-boot", (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
}

static int setup(void **state)
{
    const char *agent = getenv("LIMA_RECORD_AGENT");
    scoped(free) char *path = xasprintf("%s/tests/unit/golden/session_v1", getenv("SOURCE_ROOT"));
    int pair[2];

    host.loop = loop_new();
    host.peer = peer_new(host.loop, &peer_events, NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    guest.fd = pair[1];
    if (agent) {
        start_recording(agent);
    } else {
        recording_load(path, &guest.recording);
        recording_player_init(&guest.player, &guest.recording, FRAME_ROLE_GUEST, guest.fd);
    }
    peer_attach(host.peer, pair[0], true);
    return 0;
}

static int teardown(void **state)
{
    peer_free(host.peer);
    loop_free(host.loop);
    buf_done(&host.echo);
    recording_player_done(&guest.player);
    recording_done(&guest.recording);
    close(guest.fd);
    if (guest.file) {
        fclose(guest.file);
        kill(guest.agent, SIGKILL);
        kill(guest.server, SIGKILL);
        waitpid(guest.agent, NULL, 0);
        waitpid(guest.server, NULL, 0);
    }
    return 0;
}

static void open_tunnel(uint16_t port)
{
    const struct peer_address to = {
        .network = PEER_NETWORK_TCP,
        .address = {.family = AF_INET, .v4.s_addr = htonl(ADDRESS)},
        .port = port,
    };

    host.done = false;
    assert_non_null(peer_tunnel_open(host.peer, &to, on_tunnel, NULL));
    RUN_UNTIL(host.done);
}

static void test_a_guest_of_version_1_is_understood(void **state)
{
    RUN_UNTIL(host.last_stage == PEER_STAGE_READY && host.snapshots == 1);
    assert_int_equal(host.connections, 1);
    assert_int_equal(host.stages, 6);
    RUN_UNTIL(host.ports == 1);
    open_tunnel(PORT);
    assert_int_equal(host.result, 0);
    assert_true(mux_stream_write_all(host.stream, TEXT, strlen(TEXT)));
    mux_stream_finish(host.stream);
    RUN_UNTIL(host.closed);
    assert_int_equal(host.code, 0);
    assert_true(host.fin);
    assert_string_equal(buf_str(&host.echo), TEXT);
    open_tunnel(PORT + 1);
    assert_int_equal(host.result, -ECONNREFUSED);
    assert_true(peer_is_up(host.peer));
    assert_int_equal(host.connections, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_guest_of_version_1_is_understood, setup, teardown),
    };

    return cmocka_run_group_tests_name("peer_recording", tests, NULL, NULL);
}
