/* SPDX-License-Identifier: Apache-2.0 */
#include "local.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define BACKLOG     64
#define ACCEPTS_MAX 16 /* before other events of the loop get their turn */
#define PAUSE_MS    250

struct local {
    struct links *links;
    char *path;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *pause; /* no descriptor was left */
};

static bool may_speak(int fd)
{
    struct ucred who = {0};
    socklen_t len = sizeof(who);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == geteuid();
}

static void on_pause_end(void *arg)
{
    struct local *local = arg;

    loop_watch_set(local->watch, POLLIN);
}

static void on_local_ready(int listen_fd, short revents, void *arg)
{
    struct local *local = arg;

    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                log_warn("accepting on '%s': %s, retrying", local->path, strerror(errno));
                loop_watch_set(local->watch, 0);
                loop_timer_start(local->pause, PAUSE_MS);
            }
            return;
        }
        if (may_speak(fd)) {
            links_add(local->links, fd, DIRECT_FORM_BARE, RPC_FROM_GUEST);
        } else {
            fd_close(fd);
        }
    }
}

/* The folder, in which nobody else may put or replace a socket. */
static int make_folder(const char *path, struct error *err)
{
    scoped(free) char *dir = xstrdup(path);
    char *slash = strrchr(dir, '/');
    struct stat st;

    if (!slash || slash == dir) {
        return error_set(err, EINVAL, "'%s' lies in no folder of its own", path);
    }
    *slash = '\0';
    if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
        return error_errno(err, errno, "making '%s'", dir);
    }
    if (lstat(dir, &st) < 0) {
        return error_errno(err, errno, "looking at '%s'", dir);
    }
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)) {
        return error_set(err, EPERM, "'%s' is not a folder that we alone may write", dir);
    }
    return 0;
}

static int listen_at(struct local *local, struct error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    mode_t mask;
    int r;

    if (strlen(local->path) >= sizeof(addr.sun_path)) {
        return error_set(err, ENAMETOOLONG, "socket path '%s' is too long", local->path);
    }
    memcpy(addr.sun_path, local->path, strlen(local->path));
    local->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (local->fd < 0) {
        return error_errno(err, errno, "opening a Unix socket");
    }
    unlink(local->path); /* of an agent that was killed: there is but one */
    mask = umask(0177);
    r = bind(local->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? errno : 0;
    umask(mask);
    if (r || listen(local->fd, BACKLOG) < 0) {
        return error_errno(err, r ? r : errno, "listening on '%s'", local->path);
    }
    return 0;
}

int local_open(struct loop *loop, const char *path, struct links *links, struct local **ret,
               struct error *err)
{
    scoped(local_close) struct local *local = xnew(struct local);
    int r = make_folder(path, err);

    local->fd = -1;
    if (r < 0) {
        return r;
    }
    local->links = links;
    local->path = xstrdup(path);
    r = listen_at(local, err);
    if (r < 0) {
        return r;
    }
    local->watch = loop_watch_new(loop, local->fd, POLLIN, on_local_ready, local);
    local->pause = loop_timer_new(loop, on_pause_end, local);
    *ret = steal(local);
    return 0;
}

void local_close(struct local *local)
{
    if (!local) {
        return;
    }
    loop_watch_free(local->watch);
    loop_timer_free(local->pause);
    if (local->watch) {
        unlink(local->path);
    }
    fd_close(local->fd);
    free(local->path);
    free(local);
}
