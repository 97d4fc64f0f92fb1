/* SPDX-License-Identifier: Apache-2.0 */
/* One host listener with real sockets and a peer that has no session, so it resets connections. */
#include "test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "forward/bind.h"
#include "forward/listener.h"
#include "util/file.h"

struct fixture {
    struct loop *loop;
    struct peer *peer;
    struct peer_dialer dialer;
    struct forward_env env;
    struct forward_listener *forward;
    struct loop_timer *timer;
    bool due;
    struct sockaddr_in address; /* of the listener */
    struct rlimit limit;
};

static const struct peer_events no_events;

static void on_time(void *arg)
{
    struct fixture *f = arg;

    f->due = true;
}

/* A port that was free a moment ago. */
static uint16_t free_port(struct sockaddr_in *address)
{
    socklen_t len = sizeof(*address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)address, len), 0);
    getsockname(fd, (struct sockaddr *)address, &len);
    close(fd);
    return ntohs(address->sin_port);
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    uint16_t port = free_port(&f->address);
    const struct config_address loopback = {.family = AF_INET, .v4 = f->address.sin_addr};
    const struct forward_endpoint host = {.address = loopback, .port = port};
    const struct forward_endpoint guest = {.address = loopback, .port = 80};

    f->loop = loop_new();
    f->peer = peer_new(f->loop, &no_events, NULL);
    peer_dialer_init(&f->dialer, f->peer);
    f->timer = loop_timer_new(f->loop, on_time, f);
    f->env = (struct forward_env){.loop = f->loop, .dialer = &f->dialer.dialer};
    assert_int_equal(forward_tcp_ops.open(&f->env, &host, &guest, &f->forward, NULL), 0);
    getrlimit(RLIMIT_NOFILE, &f->limit);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    setrlimit(RLIMIT_NOFILE, &f->limit);
    forward_tcp_ops.close(f->forward);
    loop_timer_free(f->timer);
    peer_free(f->peer);
    loop_free(f->loop);
    free(f);
    return 0;
}

static int connect_client(struct fixture *f)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&f->address, sizeof(f->address)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* Runs the loop for @ms; returns how many rounds it made. */
static int run_for(struct fixture *f, int ms)
{
    int rounds = 0;

    f->due = false;
    loop_timer_set(f->timer, ms);
    while (!f->due) {
        loop_once(f->loop);
        rounds++;
    }
    return rounds;
}

static void test_no_descriptor_left_neither_spins_nor_stays(void **state)
{
    struct fixture *f = *state;
    int client = connect_client(f);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = f->limit.rlim_max};
    char byte;

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_in_range(run_for(f, 100), 1, 10);
    assert_int_equal(recv(client, &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    setrlimit(RLIMIT_NOFILE, &f->limit);
    for (int i = 0; i < 100 && recv(client, &byte, 1, 0) < 0 && errno == EAGAIN; i++) {
        run_for(f, 50);
    }
    assert_int_not_equal(errno, EAGAIN);
    close(client);
}

static void test_connection_without_a_session_is_reset(void **state)
{
    struct fixture *f = *state;
    int client = connect_client(f);
    char byte;

    loop_once(f->loop);
    assert_int_equal(forward_tcp_ops.connections(f->forward), 0);
    assert_int_equal(recv(client, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(client);
}

static void test_a_live_socket_of_another_is_not_taken_away(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *path = xasprintf("/tmp/test-forward-tcp-%d.sock", (int)getpid());
    const struct forward_endpoint host = {.proto = CONFIG_PROTO_TCP, .socket = path};
    const struct forward_endpoint guest = {.proto = CONFIG_PROTO_TCP, .socket = "/run/x"};
    struct forward_listener *first = NULL, *second = NULL;
    scoped(error_done) struct error err = ERROR_INIT;
    struct stat st;
    int leftover;

    assert_int_equal(file_listen_unix(path, 1, &leftover, NULL), 0);
    close(leftover);
    assert_works(forward_tcp_ops.open(&f->env, &host, &guest, &first, &err), &err);
    assert_fails(forward_tcp_ops.open(&f->env, &host, &guest, &second, &err), &err, EADDRINUSE,
                 "another process does");
    forward_tcp_ops.close(first);
    assert_int_equal(stat(path, &st), -1);
}

/* As somebody who is not root: a child's exit status is what it got. */
static int bind_as_nobody(uint16_t port)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        const struct forward_endpoint host = {
            .proto = CONFIG_PROTO_TCP,
            .address = {.family = AF_INET, .v4.s_addr = htonl(INADDR_LOOPBACK)},
            .port = port};
        struct error err = ERROR_INIT;
        int fd, r;

        if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) {
            _exit(0);
        }
        r = forward_bind(&host, SOCK_STREAM, &fd, &port, &err);
        _exit(r == -EACCES && err.hint && strstr(err.hint, "ip_unprivileged_port_start=1\x60") ? 0
                                                                                               : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

static void test_a_port_that_needs_root_says_what_to_do(void **state)
{
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    int first = 0;

    if (!file || fscanf(file, "%d", &first) != 1 || first <= 1) {
        first = 0;
    }
    if (file) {
        fclose(file);
    }
    if (!first) {
        skip();
    }
    assert_int_equal(bind_as_nobody(1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_descriptor_left_neither_spins_nor_stays, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_live_socket_of_another_is_not_taken_away, setup,
                                        teardown),
        cmocka_unit_test(test_a_port_that_needs_root_says_what_to_do),
        cmocka_unit_test_setup_teardown(test_connection_without_a_session_is_reset, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
