/* SPDX-License-Identifier: Apache-2.0 */
#include "notifier.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "fuselog.h"
#include "keep.h"
#include "lima/mount.h"
#include "mountpoint.h"
#include "readfolder.h"
#include "replay.h"

#define CONNECTIONS "/sys/fs/fuse/connections"
#define BUFFER      (1 << 20)
#define TAKEN_MAX   4 /* messages that the parent hears of together while more wait */

struct notifier {
    struct loop *loop;
    struct children *children;
    int fuse_fd;
    const struct fuselog_mount *mount;
    void (*taken)(unsigned count, void *arg);
    void *arg;
    struct child *child; /* NULL: none runs */
    int fd;              /* to it, in packets; -1 */
    struct loop_watch *watch;
    unsigned on_way; /* packets that it has */
};

/* False: it does not count. */
static bool take(const struct notifier *notifier, struct replay *replay,
                 struct folder_reader *reader, const char *message, size_t len)
{
    struct fuse_out_header head;

    if (len < sizeof(head)) {
        return true;
    }
    memcpy(&head, message, sizeof(head));
    if (head.error == LIMA_MOUNT_READ) {
        folder_reader_take(reader, message, len);
        return false;
    }
    if (head.error != LIMA_MOUNT_REPLAY) {
        (void)!write(notifier->fuse_fd, message, len); /* ENOENT: the kernel has forgotten it */
        return true;
    }
    if (replay->tree_fd == -EBADF &&
        replay_open(replay, notifier->mount->tag, notifier->mount->point) < 0) {
        log_warn("nobody who watches files in '%s' is told what the host does: %s, ignoring",
                 notifier->mount->point, strerror(-replay->tree_fd));
    }
    replay_do(replay, message, len);
    return true;
}

/* A byte for each that was taken. False: nobody is there any more. */
static bool tell_parent(size_t *taken)
{
    static const char bytes[TAKEN_MAX];
    bool told = !*taken || send(STDIN_FILENO, bytes, *taken, MSG_NOSIGNAL) >= 0;

    *taken = 0;
    return told;
}

static ssize_t receive(struct replay *replay, size_t *taken, char message[NOTIFIER_MESSAGE_MAX])
{
    ssize_t n;

    if (*taken == TAKEN_MAX && !tell_parent(taken)) {
        return 0;
    }
    n = recv(STDIN_FILENO, message, NOTIFIER_MESSAGE_MAX, MSG_DONTWAIT);
    if (n >= 0 || errno != EAGAIN) {
        return n;
    }
    replay_rest(replay);
    return tell_parent(taken) ? recv(STDIN_FILENO, message, NOTIFIER_MESSAGE_MAX, 0) : 0;
}

/* --- when our parent is gone --- */

/*
 * What we wait for then comes from the next process of the parent's kind, if somebody has kept the
 * descriptors for it. If not, it never comes, and the kernel would not end the connection as long
 * as we have it open: not even a signal ends a wait for an answer.
 */
struct guard {
    int fuse_fd;
    int abort_fd; /* of the connection, if nobody keeps anything; -1 */
};

/* -1: there is none. Looked for in time: later, another mount may have the name. */
static int open_abort(const char *tag)
{
    scoped(free) char *path = NULL;
    dev_t device;

    if (keep_is_kept() || !mountpoint_find(tag, &device)) {
        return -1;
    }
    path = xasprintf(CONNECTIONS "/%u/abort", minor(device));
    return open(path, O_WRONLY | O_CLOEXEC);
}

static void *run_guard(void *arg)
{
    const struct guard *guard = arg;
    struct pollfd parent = {.fd = STDIN_FILENO};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    while (poll(&parent, 1, -1) < 0 && errno == EINTR) {
    }
    dup3(null, guard->fuse_fd, O_CLOEXEC); /* not closed: the number is in use */
    (void)!write(guard->abort_fd, "1", 1); /* a notification that waits has the descriptor still */
    return NULL;
}

static void start_guard(const struct notifier *notifier, struct guard *guard)
{
    pthread_t thread;

    *guard =
        (struct guard){.fuse_fd = notifier->fuse_fd, .abort_fd = open_abort(notifier->mount->tag)};
    if (pthread_create(&thread, NULL, run_guard, guard) != 0) {
        log_warn("no thread can be made: if this program is killed, '%s' may hang, ignoring",
                 notifier->mount->point);
    }
}

/* Until our parent closes its end. */
static int run_child(void *arg)
{
    const struct notifier *notifier = arg;
    struct guard guard;
    char message[NOTIFIER_MESSAGE_MAX];
    struct replay replay = {
        .fuse_fd = notifier->fuse_fd, .tree_fd = -EBADF /* not opened yet */, .folder_fd = -1};
    struct folder_reader reader = {.source = notifier->mount->tag, .path = notifier->mount->point};
    size_t taken = 0;
    ssize_t n;

    if (!keep_is_kept()) {
        signal(SIGTERM, SIG_IGN); /* our parent's, at its end: the guard has more to do */
    }
    start_guard(notifier, &guard);
    while ((n = receive(&replay, &taken, message)) > 0) {
        taken += take(notifier, &replay, &reader, message, (size_t)n);
    }
    return 0;
}

static void tell_taken(struct notifier *notifier, unsigned count)
{
    if (count) {
        notifier->taken(count, notifier->arg);
    }
}

/* @now: its wait for an answer comes to an end; else that is its guard's business, as above. */
static void close_child(struct notifier *notifier, bool now)
{
    if (notifier->child && now) {
        child_kill(notifier->child, SIGKILL); /* before its guard hears of us */
    }
    if (notifier->child) {
        child_forget(notifier->child);
        notifier->child = NULL;
    }
    loop_watch_free(notifier->watch);
    notifier->watch = NULL;
    fd_close(steal_fd(&notifier->fd));
}

/* What it had goes with it. */
static void on_child_ended(int status, void *arg)
{
    struct notifier *notifier = arg;
    unsigned lost = notifier->on_way;

    log_debug("the process for notifications has ended with %d", status);
    notifier->child = NULL;
    notifier->on_way = 0;
    close_child(notifier, false);
    tell_taken(notifier, lost);
}

static void on_child_says(int fd, short revents, void *arg)
{
    struct notifier *notifier = arg;
    char bytes[TAKEN_MAX];
    unsigned count = 0;
    ssize_t n;

    while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        count += (unsigned)n;
    }
    if (!count && revents & (POLLHUP | POLLERR)) {
        loop_watch_set(notifier->watch, 0); /* its end is reported by itself */
    }
    notifier->on_way -= MIN(count, notifier->on_way);
    tell_taken(notifier, count);
}

static int start(struct notifier *notifier, struct error *err)
{
    const int buffer = BUFFER; /* for all that the host sends without being told */
    int fds[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        return error_errno(err, errno, "making a socket");
    }
    r = child_start(notifier->children,
                    &(struct child_options){.run = run_child,
                                            .keep_fd = notifier->fuse_fd,
                                            .stdin_fd = fds[1],
                                            .exited = on_child_ended,
                                            .arg = notifier},
                    &notifier->child, err);
    close(fds[1]);
    if (r < 0) {
        close(fds[0]);
        return r;
    }
    (void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
    notifier->fd = fds[0];
    notifier->watch = loop_watch_new(notifier->loop, fds[0], POLLIN, on_child_says, notifier);
    return 0;
}

struct notifier *notifier_new(struct loop *loop, struct children *children, int fuse_fd,
                              const struct fuselog_mount *mount,
                              void (*taken)(unsigned count, void *arg), void *arg)
{
    struct notifier *notifier = xnew(struct notifier);

    *notifier = (struct notifier){.loop = loop,
                                  .children = children,
                                  .fuse_fd = fuse_fd,
                                  .mount = mount,
                                  .taken = taken,
                                  .arg = arg,
                                  .fd = -1};
    return notifier;
}

void notifier_free(struct notifier *notifier)
{
    if (notifier) {
        close_child(notifier, keep_is_kept());
        free(notifier);
    }
}

pid_t notifier_pid(const struct notifier *notifier)
{
    return notifier->child ? child_pid(notifier->child) : 0;
}

void notifier_let_go(struct notifier *notifier)
{
    unsigned lost = notifier->on_way;

    notifier->on_way = 0;
    close_child(notifier, true);
    tell_taken(notifier, lost);
}

static bool send_to_child(struct notifier *notifier, const void *data, size_t len)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (notifier->fd < 0 && notifier->children && start(notifier, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "passing on what the host has changed, ignoring");
    }
    return len <= NOTIFIER_MESSAGE_MAX && notifier->fd >= 0 &&
           send(notifier->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

void notifier_advise(struct notifier *notifier, const void *data, size_t len)
{
    (void)send_to_child(notifier, data, len); /* else names are looked up one by one */
}

void notifier_send(struct notifier *notifier, const void *data, size_t len)
{
    if (send_to_child(notifier, data, len)) {
        notifier->on_way++;
    } else {
        tell_taken(notifier, 1);
    }
}
