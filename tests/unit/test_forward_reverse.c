/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets "in the guest" that lead to the host, and the host's that lead to the guest's, by the
 * real agent.
 */
#include "test.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "agent_fixture.h"
#include "base/alloc.h"

#define BULK  (4u << 20)
#define TRIES 300 /* of which each goes wrong with some likelihood */

static struct agent_fixture *agent;
static struct forward_listener *forward;
static int ups, downs;
static char reason[256];

static void on_changed(struct forward_listener *listener, bool listening, const char *text,
                       void *arg)
{
    ups += listening;
    downs += !listening;
    snprintf(reason, sizeof(reason), "%s", text ? text : "");
}

static int setup(void **state)
{
    if (agent_fixture_start(state) < 0) {
        return -1;
    }
    agent = *state;
    agent->env.changed = on_changed;
    forward = NULL;
    ups = downs = 0;
    return 0;
}

static int teardown(void **state)
{
    if (forward) {
        forward->ops->close(forward);
    }
    return agent_fixture_stop(state);
}

static void open_reverse(const char *guest_path, const struct forward_endpoint *host)
{
    struct forward_endpoint guest = {.socket = guest_path};

    assert_int_equal(forward_reverse_ops.open(&agent->env, host, &guest, &forward, NULL), 1);
}

static int accepted(int listen_fd)
{
    int fd = -1;

    agent_wait_for(agent, (fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK)) >= 0);
    return fd;
}

/* @len bytes from one to the other, then the end of that direction. */
static void transfer(int from, int to, size_t len)
{
    scoped(free) char *data = xmalloc(65536), *got = xmalloc(65536);
    size_t sent = 0, received = 0;
    ssize_t n = -1;

    for (size_t i = 0; i < 65536; i++) {
        data[i] = (char)(i * 7 + (i >> 8));
    }
    while (sent < len || received < len) {
        size_t at = sent % 65536;

        n = sent < len ? send(from, data + at, MIN(65536 - at, len - sent), MSG_NOSIGNAL) : 0;
        sent += (size_t)MAX(n, 0);
        agent_fixture_turn(agent);
        at = received % 65536;
        n = recv(to, got, 65536 - at, 0);
        if (n > 0) {
            assert_memory_equal(got, data + at, n);
            received += (size_t)n;
        }
    }
    shutdown(from, SHUT_WR);
    agent_wait_for(agent, (n = recv(to, got, 1, 0)) == 0);
}

static bool is_reset(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;

    errno = 0;
    return poll(&p, 1, 0) == 1 && recv(fd, &byte, 1, 0) <= 0 && errno != EAGAIN;
}

static void test_a_socket_in_the_guest_leads_to_one_of_the_host(void **state)
{
    scoped(free) char *in_guest = agent_path(agent, "guest.sock");
    scoped(free) char *on_host = agent_path(agent, "host.sock");
    struct forward_endpoint host = {.socket = on_host};
    int listen_fd = agent_unix_listener(on_host), guest_fd, host_fd;

    open_reverse(in_guest, &host);
    agent_wait_for(agent, ups == 1);
    guest_fd = agent_unix_connect(in_guest);
    assert_true(guest_fd >= 0);
    host_fd = accepted(listen_fd);
    assert_int_equal(forward->ops->connections(forward), 1);
    transfer(guest_fd, host_fd, BULK);
    transfer(host_fd, guest_fd, BULK); /* behind the other direction's end */
    agent_wait_for(agent, forward->ops->connections(forward) == 0);
    close(guest_fd);
    close(host_fd);
    close(listen_fd);
}

static void test_a_tcp_target_that_refuses_resets_the_guests_connection(void **state)
{
    scoped(free) char *in_guest = agent_path(agent, "guest.sock");
    uint16_t port;
    int listen_fd = agent_tcp_listener(&port), guest_fd, host_fd;
    struct forward_endpoint host = agent_loopback(CONFIG_PROTO_TCP, port);

    open_reverse(in_guest, &host);
    agent_wait_for(agent, ups == 1);
    guest_fd = agent_unix_connect(in_guest);
    host_fd = accepted(listen_fd);
    transfer(guest_fd, host_fd, 1000);
    transfer(host_fd, guest_fd, 1000);
    close(guest_fd);
    close(host_fd);
    shutdown(listen_fd, SHUT_RDWR); /* the port stays ours, so nobody else listens there */
    guest_fd = agent_unix_connect(in_guest);
    agent_wait_for(agent, is_reset(guest_fd));
    agent_wait_for(agent, forward->ops->connections(forward) == 0);
    close(guest_fd);
    close(listen_fd);
}

/* Neither by its name, nor through a link, nor as a socket of this process. */
static void test_what_controls_a_vm_is_no_target(void **state)
{
    scoped(free) char *in_guest = agent_path(agent, "guest.sock");
    scoped(free) char *instance = agent_path(agent, "instance");
    scoped(free) char *mark = agent_path(agent, "instance/lima.yaml");
    scoped(free) char *qmp = agent_path(agent, "instance/qmp.sock");
    scoped(free) char *link = agent_path(agent, "innocent.sock");
    struct forward_endpoint host = {.socket = link};
    int listen_fd, guest_fd;

    assert_int_equal(mkdir(instance, 0700), 0);
    close(open(mark, O_CREAT | O_WRONLY, 0600));
    listen_fd = agent_unix_listener(qmp);
    assert_int_equal(symlink(qmp, link), 0);
    open_reverse(in_guest, &host);
    agent_wait_for(agent, ups == 1);
    guest_fd = agent_unix_connect(in_guest);
    agent_wait_for(agent, is_reset(guest_fd));
    assert_int_equal(accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK), -1);
    close(guest_fd);

    assert_int_equal(unlink(mark), 0);
    assert_int_equal(listen(listen_fd, 8), 0); /* now it is ours, and no more */
    guest_fd = agent_unix_connect(in_guest);
    agent_wait_for(agent, is_reset(guest_fd));
    close(guest_fd);
    close(listen_fd);
}

struct swapper {
    const char *link, *spare;
    _Atomic bool ended;
};

static void *swap_names(void *arg)
{
    struct swapper *swapper = arg;

    while (!swapper->ended) {
        renameat2(AT_FDCWD, swapper->link, AT_FDCWD, swapper->spare, RENAME_EXCHANGE);
    }
    return NULL;
}

/* A guest may write to the folder of the target, where its rule says so. */
static void test_a_name_that_changes_all_the_time_leads_to_no_other_target(void **state)
{
    scoped(free) char *in_guest = agent_path(agent, "guest.sock");
    scoped(free) char *instance = agent_path(agent, "instance");
    scoped(free) char *mark = agent_path(agent, "instance/lima.yaml");
    scoped(free) char *qmp = agent_path(agent, "instance/qmp.sock");
    scoped(free) char *harmless = agent_path(agent, "harmless.sock");
    scoped(free) char *link = agent_path(agent, "link.sock");
    scoped(free) char *spare = agent_path(agent, "spare.sock");
    struct forward_endpoint host = {.socket = link};
    struct swapper swapper = {link, spare, false};
    int guest_fd, host_fd, forbidden, allowed = agent_unix_listener(harmless);
    pthread_t thread;

    assert_int_equal(mkdir(instance, 0700), 0);
    close(open(mark, O_CREAT | O_WRONLY, 0600));
    forbidden = agent_unix_listener(qmp);
    assert_int_equal(symlink(harmless, link), 0);
    assert_int_equal(symlink(qmp, spare), 0);
    open_reverse(in_guest, &host);
    agent_wait_for(agent, ups == 1);
    assert_int_equal(pthread_create(&thread, NULL, swap_names, &swapper), 0);
    for (int i = 0; i < TRIES; i++) {
        guest_fd = agent_unix_connect(in_guest);
        host_fd = -1;
        agent_wait_for(agent, is_reset(guest_fd) ||
                                  (host_fd = accept4(allowed, NULL, NULL, SOCK_NONBLOCK)) >= 0);
        close(guest_fd);
        close(host_fd);
    }
    swapper.ended = true;
    pthread_join(thread, NULL);
    assert_int_equal(accept4(forbidden, NULL, NULL, SOCK_NONBLOCK), -1);
    close(allowed);
    close(forbidden);
}

static void test_the_listener_comes_back_with_the_session(void **state)
{
    scoped(free) char *in_guest = agent_path(agent, "guest.sock");
    uint16_t port;
    int listen_fd = agent_tcp_listener(&port), guest_fd, host_fd;
    struct forward_endpoint host = agent_loopback(CONFIG_PROTO_TCP, port);

    open_reverse(in_guest, &host);
    agent_wait_for(agent, ups == 1);
    guest_fd = agent_unix_connect(in_guest);
    host_fd = accepted(listen_fd);
    agent_fixture_kill(agent);
    assert_int_equal(downs, 1);
    assert_int_equal(forward->ops->connections(forward), 0);
    agent_wait_for(agent, is_reset(host_fd) && is_reset(guest_fd)); /* not left hanging */
    close(guest_fd);
    close(host_fd);
    agent_fixture_restart(agent);
    agent_wait_for(agent, ups == 2); /* the dead one's socket was in the way */
    guest_fd = agent_unix_connect(in_guest);
    host_fd = accepted(listen_fd);
    transfer(guest_fd, host_fd, 1000);
    transfer(host_fd, guest_fd, 1000);
    close(guest_fd);
    close(host_fd);
    close(listen_fd);
}

static void test_a_path_that_is_taken_is_said_and_tried_again(void **state)
{
    scoped(free) char *in_guest = agent_path(agent, "guest.sock");
    int other = agent_unix_listener(in_guest);
    uint16_t port;
    int listen_fd = agent_tcp_listener(&port);
    struct forward_endpoint host = agent_loopback(CONFIG_PROTO_TCP, port);

    open_reverse(in_guest, &host);
    agent_wait_for(agent, downs == 1);
    assert_non_null(strstr(reason, "somebody listens on"));
    assert_int_equal(ups, 0);
    close(other);
    agent_wait_for(agent, ups == 1);
    close(listen_fd);
}

static void test_a_stopped_one_takes_its_socket_and_leaves_its_connections(void **state)
{
    scoped(free) char *in_guest = agent_path(agent, "guest.sock");
    uint16_t port;
    int listen_fd = agent_tcp_listener(&port), guest_fd, host_fd;
    struct forward_endpoint host = agent_loopback(CONFIG_PROTO_TCP, port);

    open_reverse(in_guest, &host);
    agent_wait_for(agent, ups == 1);
    guest_fd = agent_unix_connect(in_guest);
    host_fd = accepted(listen_fd);
    forward->ops->stop(forward);
    agent_wait_for(agent, access(in_guest, F_OK) < 0);
    transfer(guest_fd, host_fd, 1000);
    transfer(host_fd, guest_fd, 1000);
    agent_wait_for(agent, forward->ops->connections(forward) == 0);
    close(guest_fd);
    close(host_fd);
    close(listen_fd);
}

/* ---- the other way, by the listener kind of tcp.c ---- */

static void open_forward(const char *host_path, const char *guest_path, uint16_t guest_port)
{
    struct forward_endpoint host = {.socket = host_path};
    struct forward_endpoint guest = agent_loopback(CONFIG_PROTO_TCP, guest_port);

    guest.socket = guest_path;
    assert_int_equal(forward_tcp_ops.open(&agent->env, &host, &guest, &forward, NULL), 0);
}

static void test_a_socket_of_the_host_leads_to_one_in_the_guest(void **state)
{
    scoped(free) char *in_guest = agent_path(agent, "guest.sock");
    scoped(free) char *on_host = agent_path(agent, "host.sock");
    int listen_fd = agent_unix_listener(in_guest), guest_fd, host_fd;

    open_forward(on_host, in_guest, 0);
    host_fd = agent_unix_connect(on_host);
    guest_fd = accepted(listen_fd);
    transfer(host_fd, guest_fd, BULK);
    transfer(guest_fd, host_fd, BULK);
    agent_wait_for(agent, forward->ops->connections(forward) == 0);
    close(guest_fd);
    close(host_fd);
    close(listen_fd);
}

static void test_what_the_guest_refuses_is_refused_on_the_host(void **state)
{
    scoped(free) char *on_host = agent_path(agent, "host.sock");
    uint16_t port;
    int host_fd, listen_fd = agent_tcp_listener(&port);

    shutdown(listen_fd, SHUT_RDWR);
    open_forward(on_host, NULL, port);
    host_fd = agent_unix_connect(on_host);
    agent_wait_for(agent, is_reset(host_fd));
    assert_int_equal(forward->ops->connections(forward), 0);
    close(host_fd);
    close(listen_fd);
}

static void test_a_reset_goes_through_both_ways(void **state)
{
    scoped(free) char *on_host = agent_path(agent, "host.sock");
    struct linger linger = {.l_onoff = 1};
    uint16_t port;
    int host_fd, guest_fd, listen_fd = agent_tcp_listener(&port);

    open_forward(on_host, NULL, port);
    host_fd = agent_unix_connect(on_host);
    guest_fd = accepted(listen_fd);
    setsockopt(guest_fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(guest_fd);
    agent_wait_for(agent, is_reset(host_fd));
    close(host_fd);

    /* Bytes that were not read make the host's end a reset. */
    host_fd = agent_unix_connect(on_host);
    guest_fd = accepted(listen_fd);
    assert_int_equal(send(guest_fd, "unread", 6, 0), 6);
    agent_wait_for(agent, recv(host_fd, (char[8]){0}, 8, MSG_PEEK) == 6);
    close(host_fd);
    agent_wait_for(agent, is_reset(guest_fd));
    assert_int_equal(errno, ECONNRESET);
    close(guest_fd);
    close(listen_fd);
}

static void test_open_connections_are_reset_when_the_agent_dies(void **state)
{
    scoped(free) char *on_host = agent_path(agent, "host.sock");
    uint16_t port;
    int host_fd, guest_fd, listen_fd = agent_tcp_listener(&port);

    open_forward(on_host, NULL, port);
    host_fd = agent_unix_connect(on_host);
    guest_fd = accepted(listen_fd);
    agent_fixture_kill(agent);
    agent_wait_for(agent, is_reset(host_fd));
    close(host_fd);
    close(guest_fd);
    agent_fixture_restart(agent);
    host_fd = agent_unix_connect(on_host);
    guest_fd = accepted(listen_fd);
    transfer(host_fd, guest_fd, 1000);
    close(host_fd);
    close(guest_fd);
    close(listen_fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_socket_in_the_guest_leads_to_one_of_the_host),
        T(test_a_tcp_target_that_refuses_resets_the_guests_connection),
        T(test_what_controls_a_vm_is_no_target),
        T(test_a_name_that_changes_all_the_time_leads_to_no_other_target),
        T(test_the_listener_comes_back_with_the_session),
        T(test_a_path_that_is_taken_is_said_and_tried_again),
        T(test_a_stopped_one_takes_its_socket_and_leaves_its_connections),
        T(test_a_socket_of_the_host_leads_to_one_in_the_guest),
        T(test_what_the_guest_refuses_is_refused_on_the_host),
        T(test_a_reset_goes_through_both_ways),
        T(test_open_connections_are_reset_when_the_agent_dies),
    };

    return cmocka_run_group_tests_name("forward_reverse", tests, NULL, NULL);
}
