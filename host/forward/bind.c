/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/bind.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/alloc.h"

#define FIRST_FREE_PORT "net.ipv4.ip_unprivileged_port_start"

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t fill_address(const struct forward_endpoint *host, union address *ret)
{
    *ret = (union address){0};
    if (host->address.family == AF_INET) {
        ret->v4 = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons(host->port), .sin_addr = host->address.v4};
        return sizeof(ret->v4);
    }
    ret->v6 = (struct sockaddr_in6){
        .sin6_family = AF_INET6, .sin6_port = htons(host->port), .sin6_addr = host->address.v6};
    return sizeof(ret->v6);
}

static int bind_failed(const struct forward_endpoint *host, int code, struct error *err)
{
    scoped(free) char *text = forward_endpoint_format(host);

    error_errno(err, code, "listening on %s", text);
    if (code == EACCES) {
        error_hint(err,
                   "ports below " FIRST_FREE_PORT " need root; give the rule another hostPort, or "
                   "run `sudo sysctl " FIRST_FREE_PORT "=%u`",
                   host->port);
    }
    return -code;
}

int forward_bind(const struct forward_endpoint *host, int type, int *ret_fd, uint16_t *ret_port,
                 struct error *err)
{
    scoped(fd_close) int fd = -1;
    union address address;
    socklen_t len = fill_address(host, &address);
    int on = 1;

    fd = socket(host->address.family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return error_errno(err, errno, "creating a socket");
    }
    if (type == SOCK_STREAM) { /* for UDP it would let two sockets share the port */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    if (host->address.family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (bind(fd, &address.any, len) < 0 || getsockname(fd, &address.any, &len) < 0) {
        return bind_failed(host, errno, err);
    }
    *ret_port = ntohs(host->address.family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
    *ret_fd = steal_fd(&fd);
    return 0;
}

bool forward_bind_is_live(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    scoped(fd_close) int fd = -1;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return false;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* EAGAIN: its queue is full, so there is one. */
    return fd >= 0 &&
           (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN);
}
