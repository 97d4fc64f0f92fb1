/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunnels of the whole agent: TCP, Unix sockets, datagrams, listeners in the guest.
 */
#include "test.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "guest_fixture.h"
#include "incoming.h"
#include "mux/delimited.h"

#define BULK         (6u << 20) /* many windows */
#define TUNNELS      100
#define DATAGRAM_MAX 65507

static char dir[64];

static int make_dir(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/lima-tunnel-XXXXXX");
    return mkdtemp(dir) && chmod(dir, 0755) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
    scoped(free) char *command = xasprintf("rm -rf '%s'", dir);

    return system(command);
}

static char *in_dir(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

/* ---- TCP ---- */

static void test_tunnel_to_nobody_says_why(void **state)
{
    uint16_t port;
    int fd = guest_listener(&port);
    struct guest_side side;

    shutdown(fd, SHUT_RDWR); /* the port stays ours, so nobody else listens there */
    guest_open_tunnel(&side, port, ECONNREFUSED);
    mux_stream_finish(side.stream);
    guest_wait_for(side.closed);
    assert_int_equal(side.code, 0);
    guest_end_call(&side);
    close(fd);
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
    int fd = guest_listener(&port);
    struct guest_side side;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        serve_one_late(fd);
    }
    close(fd);
    memset(data, 's', 65536);
    guest_open_tunnel(&side, port, 0);
    while (sent < BULK) {
        sent += mux_stream_write(side.stream, data, MIN(65536u, BULK - sent));
        assert_true(guest_turn());
    }
    mux_stream_finish(side.stream);
    guest_wait_for(side.closed);
    assert_int_equal(side.code, 0);
    assert_int_equal(side.in.len, BULK);
    guest_end_call(&side);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_tunnels_leave_no_descriptor_behind(void **state)
{
    scoped(free) char *folder = xasprintf("/proc/%d/fd", (int)guest_host.pid);
    uint16_t port;
    int fd = guest_listener(&port);
    static struct guest_side sides[TUNNELS];
    size_t before = 0, after = 0;

    for (int i = 0; i < 1024; i++) {
        scoped(free) char *path = xasprintf("%s/%d", folder, i);

        before += access(path, F_OK) == 0;
    }
    for (size_t i = 0; i < TUNNELS; i++) {
        guest_open_tunnel(&sides[i], port, 0);
        close(accept(fd, NULL, NULL));
    }
    for (size_t i = 0; i < TUNNELS; i++) {
        mux_stream_finish(sides[i].stream);
    }
    for (size_t i = 0; i < TUNNELS; i++) {
        guest_wait_for(sides[i].closed);
        guest_end_call(&sides[i]);
    }
    close(fd);
    {
        struct guest_side side; /* a full round trip: what came before is done */

        guest_call_info(&side);
        guest_end_call(&side);
    }
    for (int i = 0; i < 1024; i++) {
        scoped(free) char *path = xasprintf("%s/%d", folder, i);

        after += access(path, F_OK) == 0;
    }
    assert_int_equal(after, before);
}

static lima_guest_v1_TunnelRequest to_address(int network, const char *text, uint16_t port)
{
    lima_guest_v1_TunnelRequest request = lima_guest_v1_TunnelRequest_init_zero;
    bool v6 = strchr(text, ':');

    request.network = (lima_guest_v1_TunnelRequest_Network)network;
    request.port = port;
    request.address.size = v6 ? 16 : 4;
    assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, text, request.address.bytes), 1);
    return request;
}

static uint32_t open_request(struct guest_side *side, const lima_guest_v1_TunnelRequest *request)
{
    guest_call(side, "Tunnel");
    guest_send_message(side, lima_guest_v1_TunnelRequest_fields, request);
    return guest_take_reply(side);
}

static uint32_t result_of(const lima_guest_v1_TunnelRequest *request)
{
    struct guest_side side;
    uint32_t result = open_request(&side, request);

    guest_end_call(&side);
    return result;
}

static void test_a_listener_on_every_address_is_reached_by_loopback(void **state)
{
    uint16_t port;
    int fd = guest_listener(&port);
    lima_guest_v1_TunnelRequest request =
        to_address(lima_guest_v1_TunnelRequest_Network_TCP, "0.0.0.0", port);

    assert_int_equal(result_of(&request), 0);
    request = to_address(lima_guest_v1_TunnelRequest_Network_TCP, "::ffff:127.0.0.1", port);
    assert_int_equal(result_of(&request), 0);
    close(fd);
}

static void test_only_the_guests_own_addresses_are_dialled(void **state)
{
    static const char *const foreign[] = {"198.51.100.1", "255.255.255.255", "224.0.0.1",
                                          "2001:db8::1", "::ffff:198.51.100.1"};
    lima_guest_v1_TunnelRequest request;
    struct ifaddrs *all, *one;

    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        request = to_address(lima_guest_v1_TunnelRequest_Network_TCP, foreign[i], 80);
        assert_int_equal(result_of(&request), EACCES);
        request = to_address(lima_guest_v1_TunnelRequest_Network_UDP, foreign[i], 80);
        assert_int_equal(result_of(&request), EACCES);
    }
    /* A rule names it, so the kernel is asked, and says that TCP has no groups. */
    request = to_address(lima_guest_v1_TunnelRequest_Network_TCP, "224.0.0.1", 80);
    request.named = true;
    assert_int_equal(result_of(&request), ENETUNREACH);

    assert_int_equal(getifaddrs(&all), 0);
    for (one = all; one; one = one->ifa_next) { /* port 1: nobody listens, but it was dialled */
        char text[INET6_ADDRSTRLEN];
        int family = one->ifa_addr ? one->ifa_addr->sa_family : 0;

        if (family == AF_INET || family == AF_INET6) {
            inet_ntop(family,
                      family == AF_INET
                          ? (void *)&((struct sockaddr_in *)one->ifa_addr)->sin_addr
                          : (void *)&((struct sockaddr_in6 *)one->ifa_addr)->sin6_addr,
                      text, sizeof(text));
            request = to_address(lima_guest_v1_TunnelRequest_Network_TCP, text, 1);
            assert_int_equal(result_of(&request), ECONNREFUSED);
        }
    }
    freeifaddrs(all);
}

static void test_senseless_addresses_are_refused(void **state)
{
    lima_guest_v1_TunnelRequest request =
        to_address(lima_guest_v1_TunnelRequest_Network_TCP, "127.0.0.1", 0);

    assert_int_equal(result_of(&request), EINVAL);
    request.port = 65536;
    assert_int_equal(result_of(&request), EINVAL);
    request.port = 80;
    request.address.size = 5;
    assert_int_equal(result_of(&request), EINVAL);
    request.address.size = 4;
    request.network = (lima_guest_v1_TunnelRequest_Network)7;
    assert_int_equal(result_of(&request), EINVAL);
}

static void test_a_reset_in_the_guest_resets_the_stream(void **state)
{
    struct linger linger = {.l_onoff = 1};
    struct guest_side side;
    uint16_t port;
    int fd = guest_listener(&port), conn;

    guest_open_tunnel(&side, port, 0);
    conn = accept(fd, NULL, NULL);
    setsockopt(conn, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(conn);
    guest_wait_for(side.closed);
    assert_int_equal(side.code, MUX_RESET_CONNECTION);
    guest_end_call(&side);
    close(fd);
}

static void test_a_reset_of_the_stream_resets_the_connection(void **state)
{
    struct guest_side side;
    struct pollfd p = {.events = POLLIN};
    uint16_t port;
    int fd = guest_listener(&port);
    char byte;

    guest_open_tunnel(&side, port, 0);
    p.fd = accept(fd, NULL, NULL);
    guest_end_call(&side);
    guest_wait_for(poll(&p, 1, 0) == 1);
    assert_int_equal(read(p.fd, &byte, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    close(p.fd);
    close(fd);
}

/* ---- Unix sockets ---- */

static int unix_listener(const char *path, int backlog)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, path, strlen(path));
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static int unix_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

static lima_guest_v1_TunnelRequest to_path(const char *path, const char *user)
{
    lima_guest_v1_TunnelRequest request = lima_guest_v1_TunnelRequest_init_zero;

    request.network = lima_guest_v1_TunnelRequest_Network_UNIX;
    wire_text(request.path, sizeof(request.path), path);
    wire_text(request.user, sizeof(request.user), user);
    return request;
}

static void test_a_unix_socket_is_reached_with_half_close(void **state)
{
    scoped(free) char *path = in_dir("echo.sock");
    int fd = unix_listener(path, 8), conn;
    lima_guest_v1_TunnelRequest request = to_path(path, "");
    struct guest_side side;
    char got[8];

    assert_int_equal(open_request(&side, &request), 0);
    conn = accept(fd, NULL, NULL);
    mux_stream_write(side.stream, "ask", 3);
    mux_stream_finish(side.stream);
    guest_wait_for(recv(conn, got, sizeof(got), MSG_PEEK | MSG_DONTWAIT) == 3);
    assert_int_equal(read(conn, got, sizeof(got)), 3);
    guest_wait_for(recv(conn, got, sizeof(got), MSG_DONTWAIT) == 0);
    assert_int_equal(write(conn, "answer", 6), 6);
    close(conn);
    guest_wait_for(side.closed);
    assert_int_equal(side.code, 0);
    assert_int_equal(side.in.len, 6);
    assert_memory_equal(side.in.data, "answer", 6);
    guest_end_call(&side);
    close(fd);
}

static void test_a_senseless_path_is_refused(void **state)
{
    lima_guest_v1_TunnelRequest request = to_path("relative", "");

    assert_int_equal(result_of(&request), EINVAL);
    request = to_path("", "");
    assert_int_equal(result_of(&request), EINVAL);
    request = to_path("/tmp/../etc/x", "");
    assert_int_equal(result_of(&request), EINVAL);
    request = to_path("/nonexistent/x.sock", "");
    assert_int_equal(result_of(&request), ENOENT);
    request = to_path("/tmp/x.sock", "no-such-user");
    assert_int_equal(result_of(&request), ENOENT);
}

static void test_a_unix_socket_is_dialled_with_the_users_rights(void **state)
{
    scoped(free) char *path = in_dir("rights.sock");
    const struct passwd *nobody = getpwnam("nobody");
    lima_guest_v1_TunnelRequest request = to_path(path, "nobody");
    struct ucred peer = {0};
    socklen_t len = sizeof(peer);
    struct guest_side side;
    int fd, conn;

    if (geteuid() != 0 || !nobody) {
        skip();
    }
    fd = unix_listener(path, 8);
    chmod(path, 0600);
    assert_int_equal(result_of(&request), EACCES);
    chmod(path, 0666);
    assert_int_equal(open_request(&side, &request), 0);
    conn = accept(fd, NULL, NULL);
    assert_int_equal(getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &len), 0);
    assert_int_equal(peer.uid, nobody->pw_uid);
    assert_int_equal(peer.gid, nobody->pw_gid);
    close(conn);
    guest_end_call(&side);

    chmod(path, 0600); /* and root is root again */
    request = to_path(path, "");
    assert_int_equal(open_request(&side, &request), 0);
    conn = accept(fd, NULL, NULL);
    assert_int_equal(getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &len), 0);
    assert_int_equal(peer.uid, 0);
    close(conn);
    guest_end_call(&side);
    close(fd);
}

static void test_a_full_queue_of_a_unix_listener_is_waited_for(void **state)
{
    scoped(free) char *path = in_dir("full.sock");
    int fd = unix_listener(path, 0), fillers[8], count = 0;
    lima_guest_v1_TunnelRequest request = to_path(path, "");
    struct guest_side side;

    while ((fillers[count] = unix_connect(path)) >= 0) {
        count++;
    }
    assert_int_equal(fillers[count], -EAGAIN);
    guest_call(&side, "Tunnel");
    guest_send_message(&side, lima_guest_v1_TunnelRequest_fields, &request);
    for (int i = 0; i < count; i++) {
        close(accept(fd, NULL, NULL));
        close(fillers[i]);
    }
    assert_int_equal(guest_take_reply(&side), 0);
    guest_end_call(&side);
    close(fd);
}

/* ---- UDP ---- */

static int udp_socket(uint16_t *ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 1 << 20;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

static void open_udp(struct guest_side *side, uint16_t port)
{
    lima_guest_v1_TunnelRequest request =
        to_address(lima_guest_v1_TunnelRequest_Network_UDP, "127.0.0.1", port);

    assert_int_equal(open_request(side, &request), 0);
}

/* Written as credit comes. */
static void put_all(struct guest_side *side, const void *data, size_t len)
{
    size_t done = 0;

    guest_wait_for(
        (done += mux_stream_write(side->stream, (const char *)data + done, len - done)) == len);
}

static void put_datagram(struct guest_side *side, const void *data, size_t len)
{
    uint8_t prefix[DELIMITED_PREFIX_MAX];

    put_all(side, prefix, delimited_prefix(prefix, len));
    put_all(side, data, len);
}

/* The next whole one of those that came; -1: there is none. */
static ssize_t take_datagram(struct guest_side *side, void *out)
{
    scoped(delimited_done) struct delimited splitter = DELIMITED_INIT(DATAGRAM_MAX);
    const uint8_t *body;
    size_t used, len;

    if (!side->in.len || delimited_next(&splitter, (uint8_t *)side->in.data, side->in.len, &used,
                                        &body, &len) != 1) {
        return -1;
    }
    memcpy(out, body, len);
    buf_drop(&side->in, used);
    return (ssize_t)len;
}

static void test_datagrams_keep_their_boundaries_both_ways(void **state)
{
    static const size_t sizes[] = {1, 0, DATAGRAM_MAX, 1200, 127, 128, DATAGRAM_MAX, 16384, 3};
    scoped(free) uint8_t *data = xmalloc(DATAGRAM_MAX), *got = xmalloc(DATAGRAM_MAX + 1);
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);
    struct guest_side side;
    uint16_t port;
    int fd = udp_socket(&port);
    ssize_t n;

    open_udp(&side, port);
    for (size_t i = 0; i < DATAGRAM_MAX; i++) {
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        put_datagram(&side, data + i, sizes[i] - MIN(i, sizes[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t len = sizes[i] - MIN(i, sizes[i]);

        guest_wait_for((n = recvfrom(fd, got, DATAGRAM_MAX + 1, MSG_DONTWAIT,
                                     (struct sockaddr *)&from, &from_len)) >= 0);
        assert_int_equal(n, len);
        assert_memory_equal(got, data + i, len);
    }
    put_datagram(&side, data, DATAGRAM_MAX);
    guest_wait_for((n = recv(fd, got, DATAGRAM_MAX + 1, MSG_DONTWAIT)) >= 0);
    assert_int_equal(n, DATAGRAM_MAX);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(sendto(fd, data + i, sizes[i] - MIN(i, sizes[i]), 0,
                                (struct sockaddr *)&from, from_len),
                         sizes[i] - MIN(i, sizes[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t len = sizes[i] - MIN(i, sizes[i]);

        guest_wait_for((n = take_datagram(&side, got)) >= 0);
        assert_int_equal(n, len);
        assert_memory_equal(got, data + i, len);
    }
    mux_stream_finish(side.stream);
    guest_wait_for(side.closed);
    assert_int_equal(side.code, 0);
    guest_end_call(&side);
    close(fd);
}

static void test_a_datagram_to_nobody_ends_its_tunnel(void **state)
{
    struct sockaddr_in elsewhere = {
        .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct guest_side side;
    uint16_t port;
    int fd = udp_socket(&port);

    /* It keeps the port and hears of one address alone. */
    assert_int_equal(connect(fd, (struct sockaddr *)&elsewhere, sizeof(elsewhere)), 0);
    open_udp(&side, port);
    put_datagram(&side, "x", 1);
    guest_wait_for(side.closed);
    assert_int_equal(side.code, MUX_RESET_CONNECTION);
    guest_end_call(&side);
    close(fd);
}

static void test_a_datagram_that_is_too_long_resets_its_tunnel(void **state)
{
    uint8_t prefix[DELIMITED_PREFIX_MAX];
    struct guest_side side;
    uint16_t port;
    int fd = udp_socket(&port);

    open_udp(&side, port);
    mux_stream_write(side.stream, prefix, delimited_prefix(prefix, DATAGRAM_MAX + 1));
    guest_wait_for(side.closed);
    assert_int_equal(side.code, MUX_RESET_PROTOCOL);
    guest_end_call(&side);
    close(fd);
}

/* Nobody takes the datagrams; a connection beside them goes on, and what is held stays small. */
static void test_datagrams_that_nobody_takes_hold_nobody_up(void **state)
{
    static char big[DATAGRAM_MAX];
    struct guest_side udp, tcp;
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);
    uint16_t udp_port, tcp_port;
    int fd = udp_socket(&udp_port), tcp_fd = guest_listener(&tcp_port), conn;

    open_udp(&udp, udp_port);
    udp.hold = true;
    put_datagram(&udp, "hello", 5);
    guest_wait_for(
        recvfrom(fd, big, sizeof(big), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len) == 5);
    for (int i = 0; i < 200; i++) {
        sendto(fd, big, sizeof(big), 0, (struct sockaddr *)&from, from_len);
    }
    guest_open_tunnel(&tcp, tcp_port, 0);
    conn = accept(tcp_fd, NULL, NULL);
    assert_int_equal(write(conn, "through", 7), 7);
    guest_wait_for(tcp.in.len == 7);
    assert_true(udp.in.len <= MUX_WINDOW_MAX);
    assert_false(udp.closed);
    guest_end_call(&tcp);
    guest_end_call(&udp);
    close(conn);
    close(tcp_fd);
    close(fd);
}

/* ---- listeners in the guest ---- */

static uint32_t open_listen(struct guest_side *side, const lima_guest_v1_ListenRequest *request)
{
    guest_call(side, "Listen");
    guest_send_message(side, lima_guest_v1_ListenRequest_fields, request);
    return guest_take_reply(side);
}

static uint32_t take_listening(struct guest_side *side)
{
    lima_guest_v1_Incoming message = lima_guest_v1_Incoming_init_zero;

    guest_wait_for(guest_take_message(side, lima_guest_v1_Incoming_fields, &message));
    assert_int_equal(message.which_kind, lima_guest_v1_Incoming_listening_tag);
    return message.kind.listening.port;
}

static uint64_t take_accepted(struct guest_side *side)
{
    lima_guest_v1_Incoming message = lima_guest_v1_Incoming_init_zero;

    guest_wait_for(guest_take_message(side, lima_guest_v1_Incoming_fields, &message));
    assert_int_equal(message.which_kind, lima_guest_v1_Incoming_accepted_tag);
    assert_true(message.kind.accepted.id != 0);
    return message.kind.accepted.id;
}

static uint32_t open_accept(struct guest_side *side, uint64_t id)
{
    lima_guest_v1_AcceptRequest request = {.id = id};

    guest_call(side, "Accept");
    guest_send_message(side, lima_guest_v1_AcceptRequest_fields, &request);
    return guest_take_reply(side);
}

static int tcp_connect(uint16_t port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

static bool can_listen(uint16_t port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    bool can;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    can = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 1) == 0;
    close(fd);
    return can;
}

static lima_guest_v1_ListenRequest listen_tcp(void)
{
    lima_guest_v1_ListenRequest request = lima_guest_v1_ListenRequest_init_zero;

    request.address.size = 4;
    memcpy(request.address.bytes, (uint8_t[]){127, 0, 0, 1}, 4);
    return request;
}

static void test_a_connection_in_the_guest_reaches_the_host(void **state)
{
    lima_guest_v1_ListenRequest request = listen_tcp();
    struct guest_side listen, side;
    uint32_t port;
    uint64_t id;
    char got[8];
    int fd;

    assert_int_equal(open_listen(&listen, &request), 0);
    port = take_listening(&listen);
    assert_true(port > 0);
    fd = tcp_connect((uint16_t)port);
    assert_int_equal(write(fd, "early", 5), 5);
    id = take_accepted(&listen);
    assert_int_equal(open_accept(&side, id + 1), ENOENT);
    guest_end_call(&side);
    assert_int_equal(open_accept(&side, id), 0);
    guest_wait_for(side.in.len == 5);
    shutdown(fd, SHUT_WR);
    guest_wait_for(side.fin);
    mux_stream_write(side.stream, "late", 4);
    mux_stream_finish(side.stream);
    guest_wait_for(recv(fd, got, sizeof(got), MSG_DONTWAIT) == 4);
    guest_wait_for(recv(fd, got, sizeof(got), MSG_DONTWAIT) == 0);
    guest_wait_for(side.closed);
    assert_int_equal(side.code, 0);
    guest_end_call(&side);
    assert_int_equal(open_accept(&side, id), ENOENT); /* once only */
    guest_end_call(&side);
    guest_end_call(&listen);
    guest_call_info(&side);
    guest_end_call(&side);
    close(fd);
    assert_true(can_listen((uint16_t)port)); /* it went with its stream */
}

static lima_guest_v1_ListenRequest listen_unix(const char *path)
{
    lima_guest_v1_ListenRequest request = lima_guest_v1_ListenRequest_init_zero;

    request.network = lima_guest_v1_TunnelRequest_Network_UNIX;
    wire_text(request.path, sizeof(request.path), path);
    return request;
}

static void test_a_unix_listener_has_mode_and_owner_and_goes_with_its_stream(void **state)
{
    scoped(free) char *path = in_dir("reverse.sock");
    lima_guest_v1_ListenRequest request = listen_unix(path);
    lima_guest_v1_TunnelRequest tunnel = to_path(path, "");
    const struct passwd *nobody = getpwnam("nobody");
    struct guest_side listen, side;
    struct stat st;
    int fd;

    assert_int_equal(open_listen(&listen, &request), 0);
    take_listening(&listen);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    fd = unix_connect(path);
    assert_true(fd >= 0);
    assert_int_equal(open_accept(&side, take_accepted(&listen)), 0);
    guest_end_call(&side);
    close(fd);
    assert_int_equal(result_of(&tunnel), EACCES); /* the agent's own */
    mux_stream_finish(listen.stream);
    guest_wait_for(listen.closed);
    assert_int_equal(access(path, F_OK), -1);
    guest_end_call(&listen);

    if (geteuid() == 0 && nobody) {
        wire_text(request.user, sizeof(request.user), "nobody");
        assert_int_equal(open_listen(&listen, &request), EACCES); /* the folder is root's */
        guest_end_call(&listen);
        chmod(dir, 0777);
        request.mode = 0660;
        assert_int_equal(open_listen(&listen, &request), 0);
        take_listening(&listen);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0660);
        assert_int_equal(st.st_uid, nobody->pw_uid);
        guest_end_call(&listen);
        guest_call_info(&side);
        guest_end_call(&side);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void test_a_unix_listener_replaces_dead_sockets_only(void **state)
{
    scoped(free) char *path = in_dir("old.sock");
    lima_guest_v1_ListenRequest request = listen_unix(path);
    struct guest_side side;
    int fd = unix_listener(path, 8);

    assert_int_equal(open_listen(&side, &request), EADDRINUSE);
    guest_end_call(&side);
    close(fd);
    assert_int_equal(open_listen(&side, &request), 0);
    take_listening(&side);
    mux_stream_finish(side.stream);
    guest_wait_for(side.closed);
    guest_end_call(&side);

    fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(open_listen(&side, &request), EEXIST);
    guest_end_call(&side);
    assert_int_equal(access(path, F_OK), 0);
    request = listen_unix("/nonexistent/x.sock");
    assert_int_equal(open_listen(&side, &request), ENOENT);
    guest_end_call(&side);
}

/* What waits is bounded; the rest waits in the kernel, and gets its turn. */
static void test_connections_beyond_what_may_wait_wait_in_the_kernel(void **state)
{
    scoped(free) char *path = in_dir("many.sock");
    lima_guest_v1_ListenRequest request = listen_unix(path);
    struct guest_side listen, side;
    int fds[INCOMING_MAX + 20];

    assert_int_equal(open_listen(&listen, &request), 0);
    take_listening(&listen);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        guest_wait_for((fds[i] = unix_connect(path)) >= 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        assert_int_equal(open_accept(&side, take_accepted(&listen)), 0);
        guest_end_call(&side);
        close(fds[i]);
    }
    guest_end_call(&listen);
}

#define T(name) cmocka_unit_test_setup_teardown(name, guest_start, guest_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_tunnel_to_nobody_says_why),
        T(test_tunnel_carries_many_windows_and_half_close),
        T(test_tunnels_leave_no_descriptor_behind),
        T(test_a_listener_on_every_address_is_reached_by_loopback),
        T(test_only_the_guests_own_addresses_are_dialled),
        T(test_senseless_addresses_are_refused),
        T(test_a_reset_in_the_guest_resets_the_stream),
        T(test_a_reset_of_the_stream_resets_the_connection),
        T(test_a_unix_socket_is_reached_with_half_close),
        T(test_a_senseless_path_is_refused),
        T(test_a_unix_socket_is_dialled_with_the_users_rights),
        T(test_a_full_queue_of_a_unix_listener_is_waited_for),
        T(test_datagrams_keep_their_boundaries_both_ways),
        T(test_a_datagram_to_nobody_ends_its_tunnel),
        T(test_a_datagram_that_is_too_long_resets_its_tunnel),
        T(test_datagrams_that_nobody_takes_hold_nobody_up),
        T(test_a_connection_in_the_guest_reaches_the_host),
        T(test_a_unix_listener_has_mode_and_owner_and_goes_with_its_stream),
        T(test_a_unix_listener_replaces_dead_sockets_only),
        T(test_connections_beyond_what_may_wait_wait_in_the_kernel),
    };

    return cmocka_run_group_tests_name("guest_tunnel", tests, make_dir, remove_dir);
}
