/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What virtio_console does, since it decides how this module waits. While no host program is
 * connected to the port, poll(2) always reports POLLIN|POLLHUP and read(2) returns 0, so a
 * level-triggered wait would spin. But each change of that state wakes the port's wait queue, so
 * the port is then parked in an edge-triggered epoll descriptor, which the loop waits for instead;
 * its first event after parking is the present state, so no change is missed. Opening fails with
 * EBUSY while another process has the port, which happens while an older agent is still on its way
 * out; nothing signals that one's end.
 */
#include "transport.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define PORTS_DIR     "/sys/class/virtio-ports"
#define READ_SIZE     (128u << 10) /* bytes before other events of the loop get their turn */
#define PORT_PAGE     4096         /* what virtio_console gives in one read */
#define BUSY_RETRY_MS 200
#define PORT_NAME_MAX 128

enum transport_kind {
    TRANSPORT_VIRTIO,
    TRANSPORT_UNIX,
    TRANSPORT_FD,
};

struct transport {
    struct loop *loop;
    enum transport_kind kind;
    char *name; /* of the port, or path of the socket */
    const struct transport_ops *ops;
    void *arg;
    int fd; /* the stream; -1: absent */
    struct loop_watch *watch;
    bool up;
    int parked_fd; /* epoll: virtio only */
    struct loop_watch *parked_watch;
    int listen_fd; /* unix only */
    struct loop_watch *listen_watch;
    struct loop_timer *retry;
    char *buffer; /* READ_SIZE; pages are touched as far as data goes */
};

static bool file_says(const char *path, const char *want)
{
    char text[PORT_NAME_MAX + 1] = "";
    scoped(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (n <= 0) {
        return false;
    }
    text[strcspn(text, "\n")] = '\0';
    return strcmp(text, want) == 0;
}

char *transport_find_port(const char *name)
{
    DIR *dir = opendir(PORTS_DIR);
    struct dirent *entry;
    char *found = NULL;

    while (dir && !found && (entry = readdir(dir))) {
        scoped(free) char *path = xasprintf(PORTS_DIR "/%s/name", entry->d_name);

        if (entry->d_name[0] != '.' && file_says(path, name)) {
            found = xasprintf("/dev/%s", entry->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return found;
}

static void detach(struct transport *t)
{
    loop_watch_free(t->watch);
    t->watch = NULL;
    loop_watch_free(t->parked_watch);
    t->parked_watch = NULL;
    fd_close(t->parked_fd);
    t->parked_fd = -1;
    fd_close(t->fd);
    t->fd = -1;
}

static void go_up(struct transport *t)
{
    t->up = true;
    loop_watch_set(t->watch, POLLIN);
    t->ops->up(t, t->kind == TRANSPORT_VIRTIO, t->arg);
}

static bool peer_absent(struct transport *t)
{
    struct pollfd p = {.fd = t->fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void on_parked_event(int fd, short revents, void *arg)
{
    struct transport *t = arg;
    struct epoll_event event;

    while (epoll_wait(fd, &event, 1, 0) > 0) {
    }
    if (!peer_absent(t)) {
        loop_watch_set(t->parked_watch, 0);
        go_up(t);
    }
}

static int park(struct transport *t)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int op = t->parked_fd < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

    loop_watch_set(t->watch, 0);
    if (t->parked_fd < 0) {
        t->parked_fd = epoll_create1(EPOLL_CLOEXEC);
        if (t->parked_fd < 0) {
            return -errno;
        }
        t->parked_watch = loop_watch_new(t->loop, t->parked_fd, 0, on_parked_event, t);
    }
    if (epoll_ctl(t->parked_fd, op, t->fd, &event) < 0) {
        return -errno;
    }
    loop_watch_set(t->parked_watch, POLLIN);
    return 0;
}

/* The last statement of its callers: down() may do anything. */
static void lost(struct transport *t)
{
    bool was_up = t->up;

    t->up = false;
    if (t->kind == TRANSPORT_VIRTIO) {
        int r = park(t);

        if (r < 0) {
            log_error("waiting for the host on '%s': %s, retrying", t->name, strerror(-r));
            detach(t);
            loop_timer_start(t->retry, BUSY_RETRY_MS);
        }
    } else {
        detach(t);
        if (t->listen_watch) {
            loop_watch_set(t->listen_watch, POLLIN);
        }
    }
    if (was_up) {
        t->ops->down(t, t->kind == TRANSPORT_FD, t->arg);
    }
}

/* The device itself went away. */
static void removed(struct transport *t)
{
    t->up = false;
    detach(t);
    loop_timer_start(t->retry, BUSY_RETRY_MS);
    t->ops->down(t, false, t->arg);
}

/*
 * Fills the buffer: a read of a virtio port gives a page at most, and what is handed up in large
 * pieces has its frames whole in them, which then need no copy. Less than a page is the end of
 * something, behind which there is mostly nothing more. Returns how many bytes; 0 with
 * *ret_error 0 at the end, else with an errno.
 */
static size_t read_turn(struct transport *t, int *ret_error)
{
    size_t got = 0;
    ssize_t n = 1;

    while (n > 0 && got < READ_SIZE &&
           (got == 0 || (t->kind == TRANSPORT_VIRTIO && n >= PORT_PAGE))) {
        n = read(t->fd, t->buffer + got, READ_SIZE - got);
        got += (size_t)MAX(n, 0);
    }
    *ret_error = n < 0 ? errno : 0;
    return got;
}

static void on_stream_ready(int fd, short revents, void *arg)
{
    struct transport *t = arg;
    int error = 0;
    size_t got;

    if (revents & POLLOUT) {
        loop_watch_set(t->watch, POLLIN);
        t->ops->writable(t, t->arg);
    }
    if (!(revents & ~POLLOUT) || !t->up) {
        return;
    }
    got = read_turn(t, &error);
    if (got > 0) {
        t->ops->data(t, t->buffer, got, t->arg); /* an end behind it shows in the next read */
    } else if (error == ENODEV) {
        removed(t);
    } else if (error != EAGAIN && error != EINTR) {
        lost(t);
    }
}

static void attach(struct transport *t, int fd)
{
    t->fd = fd;
    t->watch = loop_watch_new(t->loop, fd, 0, on_stream_ready, t);
    if (t->kind == TRANSPORT_VIRTIO && peer_absent(t)) {
        lost(t);
        return;
    }
    go_up(t);
}

/* Nothing to do while the port is not there: a device event calls again. */
static void open_port(struct transport *t)
{
    scoped(free) char *path = transport_find_port(t->name);
    int fd;

    if (!path) {
        return;
    }
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        log_warn("opening '%s': %s, retrying", path, strerror(errno));
        loop_timer_start(t->retry, BUSY_RETRY_MS);
        return;
    }
    attach(t, fd);
}

static void on_retry_due(void *arg)
{
    struct transport *t = arg;

    if (t->kind == TRANSPORT_VIRTIO && t->fd < 0) {
        open_port(t);
    } else if (t->kind == TRANSPORT_FD) {
        attach(t, t->fd);
    } else if (t->kind == TRANSPORT_UNIX && t->fd < 0) {
        loop_watch_set(t->listen_watch, POLLIN);
    }
}

static void on_device_event(const char *subsystem, void *arg)
{
    struct transport *t = arg;

    if (t->fd < 0 && (!*subsystem || strcmp(subsystem, "virtio-ports") == 0)) {
        open_port(t);
    }
}

static void on_listen_ready(int listen_fd, short revents, void *arg)
{
    struct transport *t = arg;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            log_warn("accepting on '%s': %s, retrying", t->name, strerror(errno));
            loop_watch_set(t->listen_watch, 0);
            loop_timer_start(t->retry, BUSY_RETRY_MS);
        }
        return;
    }
    loop_watch_set(t->listen_watch, 0); /* one host at a time, as on a virtio port */
    attach(t, fd);
}

static int open_listener(struct transport *t, struct error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    mode_t mask;
    int code;

    if (strlen(t->name) >= sizeof(addr.sun_path)) {
        return error_set(err, ENAMETOOLONG, "socket path '%s' is too long", t->name);
    }
    memcpy(addr.sun_path, t->name, strlen(t->name));
    t->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (t->listen_fd < 0) {
        return error_errno(err, errno, "opening a Unix socket");
    }
    unlink(t->name);
    mask = umask(0177); /* who connects is the host */
    code = bind(t->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? errno : 0;
    umask(mask);
    if (code || listen(t->listen_fd, 4) < 0) {
        return error_errno(err, code ? code : errno, "listening on '%s'", t->name);
    }
    t->listen_watch = loop_watch_new(t->loop, t->listen_fd, POLLIN, on_listen_ready, t);
    return 0;
}

static int adopt_fd(struct transport *t, struct error *err)
{
    char *end;
    long fd = strtol(t->name, &end, 10);
    int flags = *end || fd < 0 || fd > 1 << 20 ? -1 : fcntl((int)fd, F_GETFL);

    if (flags < 0 || fcntl((int)fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0) {
        return error_set(err, EBADF, "'%s' is not an open descriptor", t->name);
    }
    t->fd = (int)fd;
    loop_timer_start(t->retry, 0);
    return 0;
}

static int open_virtio(struct transport *t, struct uevent *uevent, struct error *err)
{
    if (!uevent) {
        return error_set(err, EINVAL, "no device events to wait for '%s' with", t->name);
    }
    uevent_listen(uevent, on_device_event, t);
    loop_timer_start(t->retry, 0);
    return 0;
}

static int parse_spec(struct transport *t, const char *spec, struct error *err)
{
    static const char *const prefixes[] = {
        [TRANSPORT_VIRTIO] = "virtio:", [TRANSPORT_UNIX] = "unix:", [TRANSPORT_FD] = "fd:"};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t len = strlen(prefixes[i]);

        if (strncmp(spec, prefixes[i], len) == 0 && spec[len]) {
            t->kind = (enum transport_kind)i;
            t->name = xstrdup(spec + len);
            return 0;
        }
    }
    return error_set(err, EINVAL, "'%s' is no transport: virtio:NAME, unix:PATH or fd:N", spec);
}

int transport_open(const char *spec, struct loop *loop, struct uevent *uevent,
                   const struct transport_ops *ops, void *arg, struct transport **ret,
                   struct error *err)
{
    struct transport *t = xnew(struct transport);
    int r;

    *t = (struct transport){.loop = loop,
                            .ops = ops,
                            .arg = arg,
                            .fd = -1,
                            .parked_fd = -1,
                            .listen_fd = -1,
                            .buffer = xmalloc(READ_SIZE)};
    t->retry = loop_timer_new(loop, on_retry_due, t);
    r = parse_spec(t, spec, err);
    if (r == 0) {
        r = t->kind == TRANSPORT_VIRTIO ? open_virtio(t, uevent, err)
            : t->kind == TRANSPORT_UNIX ? open_listener(t, err)
                                        : adopt_fd(t, err);
    }
    if (r < 0) {
        transport_close(t);
        return r;
    }
    *ret = t;
    return 0;
}

void transport_close(struct transport *t)
{
    if (!t) {
        return;
    }
    detach(t);
    loop_timer_free(t->retry);
    loop_watch_free(t->listen_watch);
    if (t->listen_fd >= 0) {
        unlink(t->name);
        fd_close(t->listen_fd);
    }
    free(t->name);
    free(t->buffer);
    free(t);
}

void transport_leave(struct transport *t)
{
    if (t && t->kind == TRANSPORT_FD && t->fd >= 0 && fcntl(t->fd, F_SETFD, 0) == 0) {
        loop_watch_free(t->watch);
        t->watch = NULL;
        t->fd = -1;
    }
}

size_t transport_write(struct transport *t, const void *data, size_t len)
{
    size_t done = 0;

    while (t->up && done < len) {
        ssize_t n = write(t->fd, (const char *)data + done, len - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            /* A broken stream shows in the next read. */
            loop_watch_set(t->watch, errno == EAGAIN ? POLLIN | POLLOUT : POLLIN);
            break;
        }
        done += (size_t)n;
    }
    return done;
}
