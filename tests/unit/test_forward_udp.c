/* SPDX-License-Identifier: Apache-2.0 */
/* A UDP port of the host, carried to one "in the guest" by the real agent. */
#include "test.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent_fixture.h"
#include "base/alloc.h"

#define DATAGRAM_MAX 65507
#define CLIENTS_MAX  1024

struct udp {
    struct agent_fixture *agent;
    struct forward_listener *forward;
    int server;
    uint16_t server_port;
    int clients[CLIENTS_MAX + 8];
    size_t client_count;
};

static struct udp udp;

static int setup(void **state)
{
    return agent_fixture_start(state) < 0 ? -1 : (udp = (struct udp){.agent = *state}, 0);
}

static void open_forward(unsigned idle_ms)
{
    struct forward_endpoint host = agent_loopback(CONFIG_PROTO_UDP, 0), guest;

    udp.server = agent_udp_socket(&udp.server_port);
    guest = agent_loopback(CONFIG_PROTO_UDP, udp.server_port);
    udp.agent->env.udp_idle_ms = idle_ms;
    assert_int_equal(forward_udp_ops.open(&udp.agent->env, &host, &guest, &udp.forward, NULL), 0);
    assert_true(udp.forward->port > 0);
}

static int teardown(void **state)
{
    if (udp.forward) {
        udp.forward->ops->close(udp.forward);
    }
    for (size_t i = 0; i < udp.client_count; i++) {
        close(udp.clients[i]);
    }
    fd_close(udp.server);
    return agent_fixture_stop(state);
}

static int client(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(udp.forward->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint16_t port;
    int fd = agent_udp_socket(&port);

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    udp.clients[udp.client_count++] = fd;
    return fd;
}

static ssize_t take(int fd, void *out, struct sockaddr_in *ret_from)
{
    socklen_t len = sizeof(*ret_from);

    return recvfrom(fd, out, DATAGRAM_MAX + 1, MSG_DONTWAIT, (struct sockaddr *)ret_from,
                    ret_from ? &len : NULL);
}

static size_t clients(void)
{
    return udp.forward->ops->connections(udp.forward);
}

static void test_datagrams_go_both_ways_whole(void **state)
{
    static const size_t sizes[] = {1, DATAGRAM_MAX, 0, 1200, 127, 128, 16383, 16384, DATAGRAM_MAX};
    scoped(free) char *data = xmalloc(DATAGRAM_MAX), *got = xmalloc(DATAGRAM_MAX + 1);
    struct sockaddr_in from;
    ssize_t n;
    int fd;

    open_forward(0);
    fd = client();
    for (size_t i = 0; i < DATAGRAM_MAX; i++) {
        data[i] = (char)(i * 11 + (i >> 8));
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(send(fd, data, sizes[i], 0), sizes[i]);
        agent_wait_for(udp.agent, (n = take(udp.server, got, &from)) >= 0);
        assert_int_equal(n, sizes[i]);
        assert_memory_equal(got, data, n);
        sendto(udp.server, data, sizes[i], 0, (struct sockaddr *)&from, sizeof(from));
        agent_wait_for(udp.agent, (n = take(fd, got, NULL)) >= 0);
        assert_int_equal(n, sizes[i]);
        assert_memory_equal(got, data, n);
    }
    assert_int_equal(clients(), 1);
}

/* All that a client sends before the guest was dialled arrives, none merged or split. */
static void test_a_burst_arrives_one_by_one(void **state)
{
    char got[DATAGRAM_MAX + 1];
    ssize_t n;
    int fd;

    open_forward(0);
    fd = client();
    for (int i = 0; i < 50; i++) {
        char text[16];

        n = snprintf(text, sizeof(text), "number %d", i);
        assert_int_equal(send(fd, text, (size_t)n, 0), n);
    }
    for (int i = 0; i < 50; i++) {
        scoped(free) char *want = xasprintf("number %d", i);

        agent_wait_for(udp.agent, (n = take(udp.server, got, NULL)) >= 0);
        got[n] = '\0';
        assert_string_equal(got, want);
    }
}

/* Far more than a window, faster than it can grow: it waits its turn. */
static void test_a_large_burst_loses_nothing(void **state)
{
    char data[1200], got[DATAGRAM_MAX + 1];
    int fd;

    open_forward(0);
    fd = client();
    for (int i = 0; i < 100; i++) {
        memset(data, i, sizeof(data));
        assert_int_equal(send(fd, data, sizeof(data), 0), sizeof(data));
    }
    for (int i = 0; i < 100; i++) {
        agent_wait_for(udp.agent, take(udp.server, got, NULL) == sizeof(data));
        assert_int_equal(got[0], i);
    }
}

static void test_each_client_gets_its_own_answers(void **state)
{
    char got[DATAGRAM_MAX + 1];
    struct sockaddr_in from[3];
    int fds[3];

    open_forward(0);
    for (int i = 0; i < 3; i++) {
        fds[i] = client();
        send(fds[i], "hello", 5, 0);
        agent_wait_for(udp.agent, take(udp.server, got, &from[i]) == 5);
    }
    assert_int_equal(clients(), 3);
    assert_true(from[0].sin_port != from[1].sin_port && from[1].sin_port != from[2].sin_port);
    for (int i = 2; i >= 0; i--) {
        char answer = (char)('a' + i);

        sendto(udp.server, &answer, 1, 0, (struct sockaddr *)&from[i], sizeof(from[i]));
    }
    for (int i = 0; i < 3; i++) {
        agent_wait_for(udp.agent, take(fds[i], got, NULL) == 1);
        assert_int_equal(got[0], 'a' + i);
    }
}

static void test_a_quiet_client_is_forgotten_and_may_come_again(void **state)
{
    char got[DATAGRAM_MAX + 1];
    struct sockaddr_in first, second;
    int fd;

    open_forward(50);
    fd = client();
    send(fd, "x", 1, 0);
    agent_wait_for(udp.agent, take(udp.server, got, &first) == 1);
    agent_wait_for(udp.agent, clients() == 0);
    send(fd, "y", 1, 0);
    agent_wait_for(udp.agent, take(udp.server, got, &second) == 1);
    assert_int_equal(clients(), 1);
}

static void test_the_client_that_was_quiet_longest_makes_room(void **state)
{
    char got[DATAGRAM_MAX + 1];
    struct sockaddr_in from;
    int first;

    open_forward(0);
    first = client();
    send(first, "x", 1, 0);
    agent_wait_for(udp.agent, take(udp.server, got, &from) == 1);
    for (int i = 0; i < CLIENTS_MAX; i++) {
        send(client(), "x", 1, 0);
        agent_wait_for(udp.agent, take(udp.server, got, NULL) == 1);
    }
    assert_int_equal(clients(), CLIENTS_MAX);
    /* The first one's tunnel is gone: its answer reaches nobody, and it gets a new one. */
    send(first, "y", 1, 0);
    agent_wait_for(udp.agent, take(udp.server, got, &from) == 1);
    assert_int_equal(clients(), CLIENTS_MAX);
}

static void test_a_client_of_a_port_that_nobody_has_is_forgotten(void **state)
{
    struct sockaddr_in elsewhere = {
        .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char got[DATAGRAM_MAX + 1];
    int fd;

    open_forward(0);
    /* It keeps the port and hears of one address alone. */
    assert_int_equal(connect(udp.server, (struct sockaddr *)&elsewhere, sizeof(elsewhere)), 0);
    fd = client();
    send(fd, "x", 1, 0);
    agent_wait_for(udp.agent, clients() == 1);
    agent_wait_for(udp.agent, clients() == 0);
    assert_int_equal(take(fd, got, NULL), -1);
}

static void test_clients_end_with_the_session_and_come_back_with_the_next(void **state)
{
    char got[DATAGRAM_MAX + 1];
    int fd;

    open_forward(0);
    fd = client();
    send(fd, "x", 1, 0);
    agent_wait_for(udp.agent, take(udp.server, got, NULL) == 1);
    agent_fixture_kill(udp.agent);
    assert_int_equal(clients(), 0);
    send(fd, "lost", 4, 0);
    agent_fixture_restart(udp.agent);
    send(fd, "y", 1, 0);
    agent_wait_for(udp.agent, take(udp.server, got, NULL) == 1);
    assert_int_equal(got[0], 'y');
}

static void test_new_clients_go_to_the_new_target(void **state)
{
    char got[DATAGRAM_MAX + 1];
    struct forward_endpoint guest;
    uint16_t port;
    int other = agent_udp_socket(&port);

    open_forward(0);
    guest = agent_loopback(CONFIG_PROTO_UDP, port);
    udp.forward->ops->retarget(udp.forward, &guest);
    send(client(), "x", 1, 0);
    agent_wait_for(udp.agent, take(other, got, NULL) == 1);
    close(other);
}

static void test_a_stopped_forward_lets_the_port_go(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    open_forward(0);
    send(client(), "x", 1, 0);
    agent_wait_for(udp.agent, clients() == 1);
    addr.sin_port = htons(udp.forward->port);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), -1);
    udp.forward->ops->stop(udp.forward);
    assert_int_equal(clients(), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    close(fd);
}

/* Sent to 127.0.0.2, answered from there, though the socket is one of all addresses. */
static void test_answers_come_from_the_address_that_was_asked(void **state)
{
    struct forward_endpoint host = {.proto = CONFIG_PROTO_UDP, .address.family = AF_INET}, guest;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002)}, from;
    char got[DATAGRAM_MAX + 1];
    uint16_t port;

    udp.server = agent_udp_socket(&udp.server_port);
    guest = agent_loopback(CONFIG_PROTO_UDP, udp.server_port);
    assert_int_equal(forward_udp_ops.open(&udp.agent->env, &host, &guest, &udp.forward, NULL), 0);
    to.sin_port = htons(udp.forward->port);
    udp.clients[udp.client_count++] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    port = udp.forward->port;
    assert_int_equal(sendto(udp.clients[0], "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
    agent_wait_for(udp.agent, take(udp.server, got, &from) == 1);
    sendto(udp.server, "y", 1, 0, (struct sockaddr *)&from, sizeof(from));
    agent_wait_for(udp.agent, take(udp.clients[0], got, &from) == 1);
    assert_int_equal(from.sin_addr.s_addr, to.sin_addr.s_addr);
    assert_int_equal(ntohs(from.sin_port), port);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_datagrams_go_both_ways_whole),
        T(test_a_burst_arrives_one_by_one),
        T(test_a_large_burst_loses_nothing),
        T(test_each_client_gets_its_own_answers),
        T(test_a_quiet_client_is_forgotten_and_may_come_again),
        T(test_the_client_that_was_quiet_longest_makes_room),
        T(test_a_client_of_a_port_that_nobody_has_is_forgotten),
        T(test_clients_end_with_the_session_and_come_back_with_the_next),
        T(test_new_clients_go_to_the_new_target),
        T(test_a_stopped_forward_lets_the_port_go),
        T(test_answers_come_from_the_address_that_was_asked),
    };

    return cmocka_run_group_tests_name("forward_udp", tests, NULL, NULL);
}
