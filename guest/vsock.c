/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mux/greeting.h"

#define DEVICE        "/dev/vsock"
#define BACKLOG       128
#define ACCEPTS_MAX   16 /* before other events of the loop get their turn */
#define PAUSE_MS      250
#define GREET_TIME_MS 5000

/* A connection whose greeting has not come yet. */
struct greeter {
    struct vsock *vsock;
    struct greeter *next, **back;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *patience;
    uint8_t in[GREETING_LEN];
    size_t len;
};

struct vsock {
    struct loop *loop;
    struct links *links;
    char *path; /* NULL: vsock itself */
    int fd;     /* -1: the kernel has no vsock yet */
    struct loop_watch *watch;
    struct loop_timer *pause; /* no descriptor was left */
    struct greeter *greeters;
    size_t count;
    uint8_t host_key[GREETING_KEY_LEN], guest_key[GREETING_KEY_LEN];
};

static void greeter_free(struct greeter *greeter)
{
    *greeter->back = greeter->next;
    if (greeter->next) {
        greeter->next->back = greeter->back;
    }
    greeter->vsock->count--;
    loop_watch_free(greeter->watch);
    loop_timer_free(greeter->patience);
    fd_close(greeter->fd);
    free(greeter);
}

static void on_patience_end(void *arg)
{
    greeter_free(arg);
}

static void welcome(struct greeter *greeter)
{
    struct links *links = greeter->vsock->links;
    bool known = greeting_check(greeter->in, greeter->vsock->host_key);
    int fd = -1;

    if (known) {
        fd = steal_fd(&greeter->fd);
        loop_watch_free(steal(greeter->watch));
    } else {
        log_debug("somebody on the host who is not the host agent connects by vsock, ignoring");
    }
    greeter_free(greeter);
    if (known) {
        links_add(links, fd, DIRECT_FORM_SEGMENTED, RPC_FROM_HOST);
    }
}

static void on_greeter_ready(int fd, short revents, void *arg)
{
    struct greeter *greeter = arg;
    ssize_t n = recv(fd, greeter->in + greeter->len, sizeof(greeter->in) - greeter->len, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        greeter_free(greeter);
        return;
    }
    greeter->len += (size_t)n;
    if (greeter->len == sizeof(greeter->in)) {
        welcome(greeter);
    }
}

static bool is_host(const struct vsock *vsock, int fd)
{
    struct sockaddr_vm from = {0};
    struct ucred who = {0};
    socklen_t len = vsock->path ? sizeof(who) : sizeof(from);

    if (vsock->path) {
        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == geteuid();
    }
    if (getpeername(fd, (struct sockaddr *)&from, &len) < 0) {
        return false;
    }
    if (from.svm_cid != VMADDR_CID_HOST) {
        log_debug("a connection by vsock from %u, which is not the host, ignoring", from.svm_cid);
        return false;
    }
    return true;
}

static void greet(struct vsock *vsock, int take_fd)
{
    uint8_t out[GREETING_LEN];
    struct greeter *greeter;

    greeting_make(out, vsock->guest_key);
    if (vsock->count + links_count(vsock->links) >= LINKS_MAX || !is_host(vsock, take_fd) ||
        send(take_fd, out, sizeof(out), MSG_NOSIGNAL) != (ssize_t)sizeof(out)) {
        fd_close(take_fd);
        return;
    }
    greeter = xnew(struct greeter);
    *greeter = (struct greeter){
        .vsock = vsock, .next = vsock->greeters, .back = &vsock->greeters, .fd = take_fd};
    if (greeter->next) {
        greeter->next->back = &greeter->next;
    }
    vsock->greeters = greeter;
    vsock->count++;
    greeter->watch = loop_watch_new(vsock->loop, take_fd, POLLIN, on_greeter_ready, greeter);
    greeter->patience = loop_timer_new(vsock->loop, on_patience_end, greeter);
    loop_timer_start(greeter->patience, GREET_TIME_MS);
}

static void on_pause_end(void *arg)
{
    struct vsock *vsock = arg;

    loop_watch_set(vsock->watch, POLLIN);
}

static void on_vsock_ready(int listen_fd, short revents, void *arg)
{
    struct vsock *vsock = arg;

    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            greet(vsock, fd);
            continue;
        }
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            log_warn("accepting by vsock: %s, retrying", strerror(errno));
            loop_watch_set(vsock->watch, 0);
            loop_timer_start(vsock->pause, PAUSE_MS);
        }
        return;
    }
}

static int bind_unix(int fd, const char *path, struct error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(addr.sun_path)) {
        return error_set(err, ENAMETOOLONG, "socket path '%s' is too long", path);
    }
    memcpy(addr.sun_path, path, strlen(path));
    unlink(path);
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return error_errno(err, errno, "binding '%s'", path);
    }
    return 0;
}

static int bind_vsock(int fd, struct error *err)
{
    struct sockaddr_vm addr = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VSOCK_PORT};

    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return error_errno(err, errno, "binding vsock port %d", VSOCK_PORT);
    }
    return 0;
}

static int listen_now(struct vsock *vsock, struct error *err)
{
    scoped(fd_close) int fd =
        socket(vsock->path ? AF_UNIX : AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0) {
        return error_errno(err, errno, "opening a socket for the host's streams");
    }
    r = vsock->path ? bind_unix(fd, vsock->path, err) : bind_vsock(fd, err);
    if (r < 0) {
        return r;
    }
    if (listen(fd, BACKLOG) < 0) {
        return error_errno(err, errno, "listening for the host's streams");
    }
    vsock->watch = loop_watch_new(vsock->loop, fd, POLLIN, on_vsock_ready, vsock);
    vsock->fd = steal_fd(&fd);
    return 0;
}

/* Without the device there is no module either, and socket() would have the kernel look for it. */
static void try_to_listen(struct vsock *vsock)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (vsock->fd < 0 && access(DEVICE, F_OK) == 0 && listen_now(vsock, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "no streams by vsock, ignoring");
    }
}

static void on_device_event(const char *subsystem, void *arg)
{
    if (!*subsystem || strcmp(subsystem, "misc") == 0) {
        try_to_listen(arg);
    }
}

static int make_keys(struct vsock *vsock, struct error *err)
{
    if (getrandom(vsock->host_key, sizeof(vsock->host_key), 0) != sizeof(vsock->host_key) ||
        getrandom(vsock->guest_key, sizeof(vsock->guest_key), 0) != sizeof(vsock->guest_key)) {
        return error_errno(err, errno, "drawing keys");
    }
    return 0;
}

int vsock_open(struct loop *loop, struct uevent *uevent, struct links *links, const char *path,
               struct vsock **ret, struct error *err)
{
    scoped(vsock_close) struct vsock *vsock = xnew(struct vsock);
    int r;

    vsock->loop = loop;
    vsock->links = links;
    vsock->path = path ? xstrdup(path) : NULL;
    vsock->fd = -1;
    vsock->pause = loop_timer_new(loop, on_pause_end, vsock);
    r = make_keys(vsock, err);
    if (r == 0 && path) {
        r = listen_now(vsock, err);
    }
    if (r < 0) {
        return r;
    }
    if (!path) {
        try_to_listen(vsock);
    }
    if (!path && uevent) {
        uevent_listen(uevent, on_device_event, vsock);
    }
    *ret = steal(vsock);
    return 0;
}

void vsock_close(struct vsock *vsock)
{
    if (!vsock) {
        return;
    }
    while (vsock->greeters) {
        greeter_free(vsock->greeters);
    }
    loop_watch_free(vsock->watch);
    loop_timer_free(vsock->pause);
    fd_close(vsock->fd);
    if (vsock->path && vsock->watch) {
        unlink(vsock->path);
    }
    free(vsock->path);
    free(vsock);
}

void vsock_describe(struct vsock *vsock, lima_guest_v1_Info *info)
{
    if (vsock->fd < 0) {
        return;
    }
    info->has_vsock = true;
    info->vsock.port = VSOCK_PORT;
    memcpy(info->vsock.host_key, vsock->host_key, GREETING_KEY_LEN);
    memcpy(info->vsock.guest_key, vsock->guest_key, GREETING_KEY_LEN);
}
