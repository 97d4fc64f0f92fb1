/* SPDX-License-Identifier: Apache-2.0 */
#include "listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "dial.h"
#include "rights.h"
#include "wire.h"

#define BACKLOG      128
#define ACCEPTS      64  /* before other events of the loop get their turn */
#define PAUSE_MS     250 /* without descriptors */
#define MODE_DEFAULT 0600

struct listener {
    struct incoming_owner owner; /* first */
    struct listeners *listeners;
    struct listener *next, **link;
    struct mux_stream *stream;
    bool replied, told; /* StreamReply, Listening */
    uint64_t untold;    /* an id that found no room in the stream; 0: none */
    int fd;
    struct loop_watch *watch;
    struct loop_timer *pause;
    uint16_t port;
    struct sockaddr_un path; /* family 0: TCP */
    struct rights_user user; /* name NULL: root's rights */
    struct stat file;        /* the socket that we have made */
};

struct listeners {
    struct loop *loop;
    struct incoming *incoming;
    struct listener *list;
};

struct listeners *listeners_new(struct loop *loop, struct incoming *incoming)
{
    struct listeners *listeners = xnew(struct listeners);

    *listeners = (struct listeners){.loop = loop, .incoming = incoming};
    return listeners;
}

/* ---- socket files ---- */

static int act_as_user(const struct listener *l, struct rights *saved, struct error *err)
{
    return l->user.name ? rights_take(&l->user, saved, err) : 0;
}

/* Ours and no other that has taken the name since. */
static void remove_file(struct listener *l)
{
    scoped(rights_return) struct rights saved = {0};
    struct stat now;

    if (!l->file.st_ino || act_as_user(l, &saved, NULL) < 0) {
        return;
    }
    if (lstat(l->path.sun_path, &now) == 0 && now.st_dev == l->file.st_dev &&
        now.st_ino == l->file.st_ino) {
        unlink(l->path.sun_path);
    }
}

static bool has_listener(const struct sockaddr_un *path)
{
    scoped(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 || connect(fd, (const struct sockaddr *)path, sizeof(*path)) == 0 ||
           errno != ECONNREFUSED;
}

static int remove_stale(const struct sockaddr_un *path, struct error *err)
{
    struct stat st;

    if (lstat(path->sun_path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        return error_set(err, EEXIST, "'%s' exists and is no socket", path->sun_path);
    }
    if (has_listener(path)) {
        return error_set(err, EADDRINUSE, "somebody listens on '%s'", path->sun_path);
    }
    return unlink(path->sun_path) < 0 ? error_errno(err, errno, "removing '%s'", path->sun_path)
                                      : 0;
}

static int bind_file(const struct sockaddr_un *path, int fd, struct error *err)
{
    const struct sockaddr *addr = (const struct sockaddr *)path;
    int r;

    if (bind(fd, addr, sizeof(*path)) == 0) {
        return 0;
    }
    if (errno == EADDRINUSE) {
        r = remove_stale(path, err);
        if (r < 0) {
            return r;
        }
        if (bind(fd, addr, sizeof(*path)) == 0) {
            return 0;
        }
    }
    return error_errno(err, errno, "making the socket '%s'", path->sun_path);
}

static int open_unix(struct listener *l, const lima_guest_v1_ListenRequest *request,
                     struct error *err)
{
    scoped(rights_return) struct rights saved = {0};
    mode_t mode = request->mode ? request->mode & 0777 : MODE_DEFAULT, mask;
    int r = dial_check_path(request->path, err);

    if (r == 0 && *request->user) {
        r = rights_find(request->user, &l->user, err);
    }
    if (r < 0) {
        return r;
    }
    l->path = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(l->path.sun_path, request->path, strlen(request->path));
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0) {
        return error_errno(err, errno, "opening a socket");
    }
    r = act_as_user(l, &saved, err);
    if (r < 0) {
        return r;
    }
    mask = umask(0777 & ~mode); /* so it never had other permissions */
    r = bind_file(&l->path, l->fd, err);
    umask(mask);
    if (r == 0 && (lstat(l->path.sun_path, &l->file) < 0 || listen(l->fd, BACKLOG) < 0)) {
        r = error_errno(err, errno, "listening on '%s'", request->path);
    }
    return r;
}

/* ---- TCP ---- */

static int open_tcp(struct listener *l, const lima_guest_v1_ListenRequest *request,
                    struct error *err)
{
    struct sockaddr_storage addr;
    socklen_t len =
        dial_address(request->address.bytes, request->address.size, request->port, &addr);
    int one = 1;

    if (!len) {
        return error_set(err, EINVAL, "the request names no address and port");
    }
    l->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0) {
        return error_errno(err, errno, "opening a socket");
    }
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (addr.ss_family == AF_INET6) {
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    }
    if (bind(l->fd, (struct sockaddr *)&addr, len) < 0 || listen(l->fd, BACKLOG) < 0 ||
        getsockname(l->fd, (struct sockaddr *)&addr, &len) < 0) {
        return error_errno(err, errno, "listening on port %u", (unsigned)request->port);
    }
    l->port = ntohs(addr.ss_family == AF_INET ? ((struct sockaddr_in *)&addr)->sin_port
                                              : ((struct sockaddr_in6 *)&addr)->sin6_port);
    return 0;
}

/* ---- listeners ---- */

static void listener_free(struct listener *l)
{
    if (l->link) {
        *l->link = l->next;
        if (l->next) {
            l->next->link = l->link;
        }
    }
    incoming_drop(l->listeners->incoming, &l->owner);
    loop_watch_free(l->watch);
    loop_timer_free(l->pause);
    fd_close(l->fd);
    remove_file(l);
    rights_user_done(&l->user);
    free(l);
}

void listeners_free(struct listeners *listeners)
{
    if (!listeners) {
        return;
    }
    while (listeners->list) {
        mux_stream_reset(listeners->list->stream, MUX_RESET_CANCEL);
        listener_free(listeners->list);
    }
    free(listeners);
}

static bool tell(struct listener *l, const lima_guest_v1_Incoming *message)
{
    uint8_t bytes[WIRE_MAX];
    size_t len = wire_encode(lima_guest_v1_Incoming_fields, message, bytes);

    return mux_stream_write_all(l->stream, bytes, len);
}

static bool tell_listening(struct listener *l)
{
    lima_guest_v1_Incoming message = lima_guest_v1_Incoming_init_zero;

    message.which_kind = lima_guest_v1_Incoming_listening_tag;
    message.kind.listening.port = l->port;
    return tell(l, &message);
}

static bool tell_accepted(struct listener *l, uint64_t id)
{
    lima_guest_v1_Incoming message = lima_guest_v1_Incoming_init_zero;

    message.which_kind = lima_guest_v1_Incoming_accepted_tag;
    message.kind.accepted.id = id;
    return tell(l, &message);
}

/* Says what is due; whatever finds no room goes on with writable(). */
static void pump(struct listener *l)
{
    bool ready;

    l->replied = l->replied || rpc_reply(l->stream, 0, NULL);
    l->told = l->told || (l->replied && tell_listening(l));
    if (l->untold && tell_accepted(l, l->untold)) {
        l->untold = 0;
    }
    ready = l->told && !l->untold && incoming_has_room(&l->owner) && !loop_timer_active(l->pause);
    loop_watch_set(l->watch, ready ? POLLIN : 0);
}

static void on_room(struct incoming_owner *owner)
{
    pump(container_of(owner, struct listener, owner));
}

static void on_pause_end(void *arg)
{
    pump(arg);
}

static void on_accept_failed(struct listener *l, int code)
{
    if (code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM) {
        log_debug("accepting a connection for the host: %s, retrying", strerror(code));
        loop_timer_start(l->pause, PAUSE_MS);
    }
}

static void on_listener_ready(int listen_fd, short revents, void *arg)
{
    struct listener *l = arg;
    int one = 1;

    for (int i = 0; i < ACCEPTS && !l->untold && incoming_has_room(&l->owner); i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        uint64_t id;

        if (fd < 0) {
            on_accept_failed(l, errno);
            break;
        }
        if (!l->path.sun_family) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
        }
        id = incoming_add_fd(l->listeners->incoming, &l->owner, fd);
        l->untold = tell_accepted(l, id) ? 0 : id;
    }
    pump(l);
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_consumed(stream, len); /* nothing is expected */
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    mux_stream_finish(stream); /* closed() follows */
}

static void on_stream_writable(struct mux_stream *stream, void *arg)
{
    pump(arg);
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    listener_free(arg);
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

static int open_socket(struct listener *l, const lima_guest_v1_ListenRequest *request,
                       struct error *err)
{
    switch (request->network) {
    case lima_guest_v1_TunnelRequest_Network_TCP:
        return open_tcp(l, request, err);
    case lima_guest_v1_TunnelRequest_Network_UNIX:
        return open_unix(l, request, err);
    case lima_guest_v1_TunnelRequest_Network_UDP:
        break;
    }
    return error_set(err, EINVAL, "the guest listens on TCP and Unix sockets only");
}

static void listener_start(struct listener *l, const struct rpc_call *call)
{
    struct listeners *listeners = l->listeners;

    l->next = listeners->list;
    l->link = &listeners->list;
    if (l->next) {
        l->next->link = &l->next;
    }
    listeners->list = l;
    l->pause = loop_timer_new(listeners->loop, on_pause_end, l);
    l->watch = loop_watch_new(listeners->loop, l->fd, 0, on_listener_ready, l);
    mux_stream_consumed(call->stream, call->rest_len);
    mux_stream_set_ops(call->stream, &stream_ops, l);
    pump(l);
}

int listeners_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    struct listeners *listeners = arg;
    lima_guest_v1_ListenRequest request = lima_guest_v1_ListenRequest_init_zero;
    struct listener *l;
    int r;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_ListenRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    l = xnew(struct listener);
    *l = (struct listener){.owner = {.accepts = INCOMING_FOR_HOST, .room = on_room},
                           .listeners = listeners,
                           .stream = call->stream,
                           .fd = -1};
    r = open_socket(l, &request, err);
    if (r < 0) {
        listener_free(l);
        return r;
    }
    listener_start(l, call);
    return 0;
}
