/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socket in the guest whose connections lead to one target on the host. The guest has no say in
 * where: the target is the rule's, and nothing that controls a VM is one, whatever its name:
 * neither a socket that this process listens on nor one that lies in an instance's own folder.
 *
 * The guest's listener lives as long as the session; it is made again with the next one. When the
 * guest cannot make it (a path that is taken, a folder that is not there), that is said, and it is
 * tried again ever more seldom, as nothing tells when that changes.
 */
#include "forward/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "forward/carry.h"
#include "peer/listen.h"
#include "util/path.h"

#define CONNECTIONS_MAX 1000
#define RETRY_MIN_MS    1000
#define RETRY_MAX_MS    60000
#define INSTANCE_FILE   "lima.yaml" /* marks the folder of an instance */

struct connection {
    struct reverse *reverse;
    struct connection *next, **link;
    struct carry *carry;
};

struct reverse {
    struct forward_listener base; /* first */
    const struct forward_env *env;
    struct forward_endpoint host, guest; /* copies */
    struct dialer_watch watch;           /* of the session */
    bool watching;
    struct peer_listen *listen; /* NULL: none now */
    struct loop_timer *retry;
    int64_t retry_ms;
    struct connection *connections;
    size_t count;
};

static struct reverse *reverse_of(const struct forward_listener *listener)
{
    return container_of(listener, struct reverse, base);
}

/* ---- connections ---- */

static void connection_free(struct connection *c)
{
    *c->link = c->next;
    if (c->next) {
        c->next->link = c->link;
    }
    c->reverse->count--;
    free(c);
}

static void on_carry_ended(void *arg)
{
    connection_free(arg);
}

/* What @fd is open on, by its only name. */
static int check_socket(int fd, const char *path, struct error *err)
{
    scoped(free) char *link = xasprintf("/proc/self/fd/%d", fd);
    scoped(free) char *real = realpath(link, NULL);
    scoped(free) char *dir = real ? path_dir(real) : NULL;
    scoped(free) char *mark = dir ? path_join(dir, INSTANCE_FILE) : NULL;

    if (!real) {
        return error_errno(err, errno, "'%s'", path);
    }
    if (access(mark, F_OK) == 0) {
        return error_set(err, EACCES, "'%s' lies in the folder of an instance", path);
    }
    return 0;
}

/* Sockets of this process are no targets: what they offer is not the guest's to have. */
static int check_peer(int fd, const char *path, struct error *err)
{
    struct ucred peer = {0};
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid == getpid()) {
        return error_set(err, EACCES, "'%s' belongs to the host agent", path);
    }
    return 0;
}

/*
 * Whoever may write to a folder of @path, such as a guest that has it mounted, could lead the name
 * elsewhere behind the check: so what was checked is connected to, and not the name again.
 */
static int connect_unix(const char *path, int fd, struct error *err)
{
    scoped(fd_close) int target = open(path, O_PATH | O_CLOEXEC);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int r;

    if (target < 0) {
        return error_errno(err, errno, "'%s'", path);
    }
    r = check_socket(target, path, err);
    if (r < 0) {
        return r;
    }
    snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", target);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return error_errno(err, errno, "connecting to '%s'", path);
    }
    return check_peer(fd, path, err);
}

static int connect_tcp(const struct forward_endpoint *host, int fd, struct error *err)
{
    struct config_address address = forward_address_dialled(&host->address);
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(host->port)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(host->port)};
    bool v4 = address.family == AF_INET;
    int on = 1;

    a4.sin_addr = address.v4;
    if (!v4) {
        a6.sin6_addr = address.v6;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, v4 ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6,
                v4 ? sizeof(a4) : sizeof(a6)) < 0 &&
        errno != EINPROGRESS) {
        return error_errno(err, errno, "connecting to port %u", host->port);
    }
    return 0;
}

/* A socket whose connection stands or is under way. */
static int connect_host(const struct forward_endpoint *host, int *ret_fd, struct error *err)
{
    int family = host->socket ? AF_UNIX : host->address.family;
    scoped(fd_close) int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0) {
        return error_errno(err, errno, "creating a socket");
    }
    r = host->socket ? connect_unix(host->socket, fd, err) : connect_tcp(host, fd, err);
    if (r == 0) {
        *ret_fd = steal_fd(&fd);
    }
    return r;
}

static void on_accepted(struct mux_stream *stream, void *arg)
{
    struct reverse *reverse = arg;
    scoped(error_done) struct error err = ERROR_INIT;
    struct connection *c;
    int fd = -1, r;

    r = reverse->count < CONNECTIONS_MAX ? connect_host(&reverse->host, &fd, &err)
                                         : error_set(&err, EAGAIN, "too many connections");
    if (r < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "a connection from the guest");
        mux_stream_reset(stream, MUX_RESET_CONNECTION);
        return;
    }
    c = xnew(struct connection);
    *c = (struct connection){
        .reverse = reverse, .next = reverse->connections, .link = &reverse->connections};
    if (c->next) {
        c->next->link = &c->next;
    }
    reverse->connections = c;
    reverse->count++;
    c->carry = carry_new(reverse->env->loop, fd, !reverse->host.socket, on_carry_ended, c);
    carry_join(c->carry, stream);
}

/* ---- the guest's listener ---- */

/* May stop or close it: the last statement of callers. */
static void tell(struct reverse *reverse, bool listening, const char *reason)
{
    if (reverse->env->changed) {
        reverse->env->changed(&reverse->base, listening, reason, reverse->env->arg);
    }
}

static void retry_later(struct reverse *reverse)
{
    loop_timer_set(reverse->retry, reverse->retry_ms);
    reverse->retry_ms = MIN(reverse->retry_ms * 2, RETRY_MAX_MS);
}

static void on_listening(uint16_t port, void *arg)
{
    struct reverse *reverse = arg;

    reverse->retry_ms = RETRY_MIN_MS;
    tell(reverse, true, NULL);
}

static void on_ended(int r, const char *text, void *arg)
{
    struct reverse *reverse = arg;

    reverse->listen = NULL;
    if (r == -ENOTCONN) {
        tell(reverse, false, "the guest agent is not connected");
        return;
    }
    retry_later(reverse);
    tell(reverse, false, text && *text ? text : strerror(-r));
}

static const struct peer_listen_events listen_events = {
    .listening = on_listening,
    .accepted = on_accepted,
    .ended = on_ended,
};

static void start(struct reverse *reverse)
{
    const struct forward_endpoint *guest = &reverse->guest;
    struct peer_address at = {.network = guest->socket ? PEER_NETWORK_UNIX : PEER_NETWORK_TCP,
                              .address = guest->address,
                              .port = guest->port,
                              .path = guest->socket,
                              .user = reverse->env->user};

    loop_timer_set(reverse->retry, -1);
    if (reverse->listen || !peer_is_up(reverse->env->peer)) {
        return;
    }
    reverse->listen = peer_listen_open(reverse->env->peer, &at, 0, &listen_events, reverse);
    if (!reverse->listen) {
        retry_later(reverse);
    }
}

static void on_retry_due(void *arg)
{
    start(arg);
}

/* Whatever carries the other forwards, this one needs the agent. */
static void on_session_changed(bool up, void *arg)
{
    struct reverse *reverse = arg;

    if (peer_is_up(reverse->env->peer)) {
        reverse->retry_ms = RETRY_MIN_MS;
        start(reverse);
    }
}

/* ---- listener ---- */

static int reverse_open(const struct forward_env *env, const struct forward_endpoint *host,
                        const struct forward_endpoint *guest, struct forward_listener **ret,
                        struct error *err)
{
    struct reverse *reverse = xnew(struct reverse);

    reverse->base = (struct forward_listener){.ops = &forward_reverse_ops};
    reverse->env = env;
    reverse->host = forward_endpoint_copy(host);
    reverse->guest = forward_endpoint_copy(guest);
    reverse->retry = loop_timer_new(env->loop, on_retry_due, reverse);
    reverse->retry_ms = RETRY_MIN_MS;
    reverse->watch = (struct dialer_watch){.changed = on_session_changed, .arg = reverse};
    reverse->watching = true;
    dialer_watch(env->dialer, &reverse->watch);
    start(reverse);
    *ret = &reverse->base;
    return 1;
}

static void reverse_stop(struct forward_listener *listener)
{
    struct reverse *reverse = reverse_of(listener);

    peer_listen_close(steal(reverse->listen));
    loop_timer_set(reverse->retry, -1);
    if (reverse->watching) {
        reverse->watching = false;
        dialer_unwatch(reverse->env->dialer, &reverse->watch);
    }
}

static void reverse_close(struct forward_listener *listener)
{
    struct reverse *reverse = reverse_of(listener);

    reverse_stop(listener);
    while (reverse->connections) {
        carry_abort(reverse->connections->carry);
        connection_free(reverse->connections);
    }
    loop_timer_free(reverse->retry);
    forward_endpoint_done(&reverse->host);
    forward_endpoint_done(&reverse->guest);
    free(reverse);
}

static size_t reverse_connections(const struct forward_listener *listener)
{
    return reverse_of(listener)->count;
}

const struct forward_listener_ops forward_reverse_ops = {
    .open = reverse_open,
    .stop = reverse_stop,
    .close = reverse_close,
    .connections = reverse_connections,
};
