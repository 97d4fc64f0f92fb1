/* SPDX-License-Identifier: Apache-2.0 */
#include "dial.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/alloc.h"
#include "ownaddr.h"
#include "rights.h"

#define UDP_BUFFER (1 << 20) /* bytes that wait in the kernel while the host is busy */
#define TCP_BUFFER                                                                                 \
    (256 << 10) /* the same for a program that does not read; the kernel doubles it */

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static socklen_t address_v4(const uint8_t *address, uint32_t port, struct sockaddr_storage *ret)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;

    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    memcpy(&v4->sin_addr, address, 4);
    return sizeof(*v4);
}

socklen_t dial_address(const uint8_t *address, size_t len, uint32_t port,
                       struct sockaddr_storage *ret)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

    memset(ret, 0, sizeof(*ret));
    if (port > UINT16_MAX) {
        return 0;
    }
    if (len == 4) {
        return address_v4(address, port, ret);
    }
    if (len != 16) {
        return 0;
    }
    if (memcmp(address, mapped, sizeof(mapped)) == 0) {
        return address_v4(address + sizeof(mapped), port, ret);
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    memcpy(&v6->sin6_addr, address, 16);
    return sizeof(*v6);
}

/* A listener on all addresses is reached by loopback. */
static void make_definite(struct sockaddr_storage *addr)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)addr;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)addr;

    if (addr->ss_family == AF_INET && v4->sin_addr.s_addr == htonl(INADDR_ANY)) {
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else if (addr->ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr)) {
        v6->sin6_addr = in6addr_loopback;
    }
}

static int check_own(struct sockaddr_storage *addr, bool named, struct error *err)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)addr;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)addr;
    bool is_v4 = addr->ss_family == AF_INET;
    const void *bytes = is_v4 ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr;
    char text[INET6_ADDRSTRLEN] = "";
    uint32_t scope = 0;

    if (!ownaddr_is(bytes, is_v4 ? 4 : 16, &scope) && !named) {
        inet_ntop(addr->ss_family, bytes, text, sizeof(text));
        return error_set(err, EACCES, "%s is no address of the guest", text);
    }
    if (!is_v4) {
        v6->sin6_scope_id = scope;
    }
    return 0;
}

static int dial_internet(const lima_guest_v1_TunnelRequest *request, int *ret_fd, struct error *err)
{
    bool udp = request->network == lima_guest_v1_TunnelRequest_Network_UDP;
    struct sockaddr_storage addr;
    socklen_t len =
        dial_address(request->address.bytes, request->address.size, request->port, &addr);
    scoped(fd_close) int fd = -1;
    int one = 1, udp_size = UDP_BUFFER, tcp_size = TCP_BUFFER;
    int r;

    if (!len || !request->port) {
        return error_set(err, EINVAL, "the request names no address and port");
    }
    make_definite(&addr);
    r = check_own(&addr, request->named, err);
    if (r < 0) {
        return r;
    }
    fd = socket(addr.ss_family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return error_errno(err, errno, "opening a socket");
    }
    if (udp) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &udp_size, sizeof(udp_size));
    } else {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &tcp_size, sizeof(tcp_size));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    if (connect(fd, (struct sockaddr *)&addr, len) < 0 && errno != EINPROGRESS) {
        r = -errno;
        return error_set(err, -r, "%s", strerror(-r));
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* Names are resolved by the kernel; this keeps odd ones away from logs and from folders' rules. */
int dial_check_path(const char *path, struct error *err)
{
    if (*path != '/' || strstr(path, "/../") || strstr(path, "/./")) {
        return error_set(err, EINVAL, "'%s' is no absolute path", path);
    }
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return error_set(err, ENAMETOOLONG, "'%s' is too long for a socket", path);
    }
    return 0;
}

/* -errno of connect(2) alone is a plain fact, with no message. */
static int connect_as(int fd, const char *path, const char *user, struct error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    scoped(rights_user_done) struct rights_user as = {0};
    scoped(rights_return) struct rights saved = {0};
    int r = 0;

    memcpy(addr.sun_path, path, strlen(path));
    if (*user) {
        r = rights_find(user, &as, err);
        r = r < 0 ? r : rights_take(&as, &saved, err);
    }
    if (r == 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        r = -errno;
        error_set(err, -r, "%s", strerror(-r));
    }
    return r;
}

static int dial_unix(const lima_guest_v1_TunnelRequest *request, int *ret_fd, struct error *err)
{
    scoped(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct ucred peer = {0};
    socklen_t len = sizeof(peer);
    int r;

    if (fd < 0) {
        return error_errno(err, errno, "opening a socket");
    }
    r = dial_check_path(request->path, err);
    r = r < 0 ? r : connect_as(fd, request->path, request->user, err);
    if (r < 0) {
        return r;
    }
    /* Whatever name led there. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid == getpid()) {
        return error_set(err, EACCES, "'%s' belongs to the guest agent", request->path);
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

int dial_start(const lima_guest_v1_TunnelRequest *request, int *ret_fd, struct error *err)
{
    switch (request->network) {
    case lima_guest_v1_TunnelRequest_Network_TCP:
    case lima_guest_v1_TunnelRequest_Network_UDP:
        return dial_internet(request, ret_fd, err);
    case lima_guest_v1_TunnelRequest_Network_UNIX:
        return dial_unix(request, ret_fd, err);
    }
    return error_set(err, EINVAL, "the request names an unknown network");
}
