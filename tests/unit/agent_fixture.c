/* SPDX-License-Identifier: Apache-2.0 */
#include "agent_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"

#define WAIT_MS 20000
#define TICK_MS 10
#define BACKLOG 1024

static void on_connected(const struct peer_info *info, void *arg)
{
    struct agent_fixture *f = arg;

    dialer_changed(&f->dialer.dialer);
}

static void on_disconnected(void *arg)
{
    struct agent_fixture *f = arg;

    dialer_changed(&f->dialer.dialer);
}

static void on_closed(void *arg)
{
}

static void on_stage(enum peer_stage stage, const char *detail, const char *instance_id,
                     uint64_t uptime_us, void *arg)
{
}

static void on_ports(bool snapshot, const struct peer_port *added, size_t added_count,
                     const struct peer_port *removed, size_t removed_count, void *arg)
{
}

static const struct peer_events events = {
    .connected = on_connected,
    .disconnected = on_disconnected,
    .closed = on_closed,
    .stage = on_stage,
    .ports = on_ports,
};

static void on_tick(void *arg)
{
}

int64_t agent_fixture_deadline(void)
{
    return loop_now_ms() + WAIT_MS;
}

void agent_fixture_turn(struct agent_fixture *f)
{
    loop_timer_set(f->tick, TICK_MS);
    loop_once(f->loop);
}

void agent_fixture_restart(struct agent_fixture *f)
{
    char spec[32];
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    f->pid = fork();
    if (f->pid == 0) {
        const char *agent = getenv("GUEST_AGENT");

        snprintf(spec, sizeof(spec), "fd:%d", fds[1]);
        fcntl(fds[1], F_SETFD, 0);
        execl(agent, agent, "run", "--transport", spec, "--no-boot", NULL);
        _exit(127);
    }
    close(fds[1]);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    peer_attach(f->peer, fds[0], false);
    agent_wait_for(f, peer_is_up(f->peer));
}

void agent_fixture_kill(struct agent_fixture *f)
{
    kill(f->pid, SIGKILL);
    waitpid(f->pid, NULL, 0);
    agent_wait_for(f, !peer_is_up(f->peer));
}

int agent_fixture_start(void **state)
{
    struct agent_fixture *f = xnew(struct agent_fixture);

    *state = f;
    if (!getenv("GUEST_AGENT")) {
        return -1;
    }
    snprintf(f->dir, sizeof(f->dir), "/tmp/lima-forward-XXXXXX");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    f->loop = loop_new();
    f->tick = loop_timer_new(f->loop, on_tick, f);
    f->peer = peer_new(f->loop, &events, f);
    peer_dialer_init(&f->dialer, f->peer);
    f->env = (struct forward_env){
        .loop = f->loop, .dialer = &f->dialer.dialer, .peer = f->peer, .udp = true};
    agent_fixture_restart(f);
    return 0;
}

int agent_fixture_stop(void **state)
{
    struct agent_fixture *f = *state;
    scoped(free) char *command = xasprintf("rm -rf '%s'", f->dir);
    int status = -1;

    peer_free(f->peer);
    waitpid(f->pid, &status, 0);
    loop_timer_free(f->tick);
    loop_free(f->loop);
    free(f);
    return system(command) == 0 ? status : -1;
}

static int bind_loopback(int type, uint16_t *ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), size = 1 << 20;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

int agent_udp_socket(uint16_t *ret_port)
{
    return bind_loopback(SOCK_DGRAM, ret_port);
}

int agent_tcp_listener(uint16_t *ret_port)
{
    int fd = bind_loopback(SOCK_STREAM, ret_port);

    assert_int_equal(listen(fd, BACKLOG), 0);
    return fd;
}

int agent_tcp_connect(uint16_t port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

int agent_unix_listener(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), status;
    pid_t pid;

    memcpy(addr.sun_path, path, strlen(path));
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    pid = fork();
    if (pid == 0) {
        _exit(listen(fd, BACKLOG) < 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return fd;
}

int agent_unix_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(addr.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        int code = errno;

        close(fd);
        return -code;
    }
    return fd;
}

struct forward_endpoint agent_loopback(enum config_proto proto, uint16_t port)
{
    return (struct forward_endpoint){
        .proto = proto,
        .address = {.family = AF_INET, .v4.s_addr = htonl(INADDR_LOOPBACK)},
        .port = port};
}

char *agent_path(struct agent_fixture *f, const char *name)
{
    return xasprintf("%s/%s", f->dir, name);
}
