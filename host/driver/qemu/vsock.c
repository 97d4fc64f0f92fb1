/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/vsock.h"

#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "driver/qemu/helper.h"
#include "instance/layout.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define KERNEL_DEVICE "/dev/vhost-vsock"
#define PROGRAM       "vhost-device-vsock"
#define CID_FIRST     3 /* below are the hypervisor's, the local and the host's */
#define CID_TRIES     16
#define START_MS      2000
#define LISTEN_NS     200000 /* from the socket's name to its listening */
#define GUEST_CID     3      /* of a program that serves one VM */

struct qemu_vsock {
    enum qemu_vsock_kind kind;
    unsigned cid; /* of the kernel's */
    int fd;       /* for QEMU; -1: it has it */
    char *socket; /* of the program, for QEMU */
    char *uds;    /* and for us */
    pid_t pid;    /* 0: not running */
    struct loop_child *child;
};

void qemu_vsock_free(struct qemu_vsock *vsock)
{
    if (!vsock) {
        return;
    }
    loop_child_free(vsock->child);
    if (vsock->pid) { /* not waited for yet, so the number is still its own */
        kill(vsock->pid, SIGKILL);
        waitpid(vsock->pid, NULL, 0);
    }
    if (vsock->socket) {
        unlink(vsock->socket);
        unlink(vsock->uds);
    }
    fd_close(vsock->fd);
    free(vsock->socket);
    free(vsock->uds);
    free(vsock);
}

enum qemu_vsock_kind qemu_vsock_kind(const struct qemu_vsock *vsock)
{
    return vsock ? vsock->kind : QEMU_VSOCK_NONE;
}

unsigned qemu_vsock_cid(const struct qemu_vsock *vsock)
{
    return vsock ? vsock->cid : 0;
}

int qemu_vsock_fd(const struct qemu_vsock *vsock)
{
    return vsock ? vsock->fd : -1;
}

void qemu_vsock_passed(struct qemu_vsock *vsock)
{
    if (vsock) {
        fd_close(steal_fd(&vsock->fd));
    }
}

/* ---- the kernel's ---- */

unsigned qemu_vsock_cid_of(const char *dir, unsigned attempt)
{
    uint32_t hash = 2166136261u + attempt * 2654435761u; /* FNV-1a */

    for (; *dir; dir++) {
        hash = (hash ^ (unsigned char)*dir) * 16777619u;
    }
    hash &= INT32_MAX;
    return hash < CID_FIRST ? hash + CID_FIRST : hash;
}

/* The kernel keeps the address for the descriptor, so nobody can take it before QEMU has that. */
static struct qemu_vsock *kernel_start(const char *dir)
{
    scoped(fd_close) int fd = open(KERNEL_DEVICE, O_RDWR | O_CLOEXEC);
    struct qemu_vsock *vsock;

    if (fd < 0) {
        log_debug("'%s': %s", KERNEL_DEVICE, strerror(errno));
        return NULL;
    }
    for (unsigned i = 0; i < CID_TRIES; i++) {
        uint64_t cid = qemu_vsock_cid_of(dir, i);

        if (ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &cid) == 0) {
            vsock = xnew(struct qemu_vsock);
            vsock->kind = QEMU_VSOCK_KERNEL;
            vsock->cid = (unsigned)cid;
            vsock->fd = steal_fd(&fd);
            return vsock;
        }
        if (errno != EADDRINUSE) {
            break;
        }
    }
    log_debug("'%s' gives no address: %s", KERNEL_DEVICE, strerror(errno));
    return NULL;
}

static int kernel_connect(const struct qemu_vsock *vsock, unsigned port, int *ret_fd,
                          struct error *err)
{
    struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = vsock->cid, .svm_port = port};
    scoped(fd_close) int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return error_errno(err, errno, "opening a vsock socket");
    }
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS) {
        return error_errno(err, errno, "connecting to vsock %u:%u", vsock->cid, port);
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* ---- the program's ---- */

static int64_t left_ms(int64_t deadline)
{
    return MAX(deadline - loop_now_ms(), (int64_t)0);
}

/* The socket's name appears; false at the deadline or when the process has ended. */
static bool await_name(const char *path, int notify_fd, int pid_fd, int64_t deadline)
{
    while (!file_exists(path)) {
        struct pollfd fds[] = {{.fd = notify_fd, .events = POLLIN},
                               {.fd = pid_fd, .events = POLLIN}};
        char events[4096];

        if (poll(fds, ARRAY_LEN(fds), (int)left_ms(deadline)) == 0 || fds[1].revents) {
            return false;
        }
        if (read(notify_fd, events, sizeof(events)) < 0 && errno != EAGAIN && errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* It listens right after it has bound: there is no event for that. */
static int connect_soon(const char *path, int64_t deadline, int *ret_fd, struct error *err)
{
    struct timespec pause = {.tv_nsec = LISTEN_NS};
    int r;

    while ((r = file_connect_unix(path, ret_fd, err)) == -ECONNREFUSED && left_ms(deadline)) {
        error_done(err);
        nanosleep(&pause, NULL);
    }
    return r;
}

static int await_program(struct qemu_vsock *vsock, const char *dir, int notify_fd,
                         struct error *err)
{
    int64_t deadline = loop_now_ms() + START_MS;
    scoped(fd_close) int pid_fd = (int)syscall(SYS_pidfd_open, vsock->pid, 0);

    if (!await_name(vsock->socket, notify_fd, pid_fd, deadline)) {
        return error_set(err, ETIMEDOUT, "%s does not listen, see '%s/%s'", PROGRAM, dir,
                         LAYOUT_VSOCK_LOG);
    }
    return connect_soon(vsock->socket, deadline, &vsock->fd, err);
}

static int spawn(struct qemu_vsock *vsock, const char *program, const char *dir, struct error *err)
{
    scoped(free) char *log_path = path_join(dir, LAYOUT_VSOCK_LOG);
    scoped(free) char *cid = xasprintf("--guest-cid=%d", GUEST_CID);
    scoped(free) char *socket = xasprintf("--socket=%s", vsock->socket);
    scoped(free) char *uds = xasprintf("--uds-path=%s", vsock->uds);
    const char *argv[] = {program, cid, socket, uds, NULL};
    scoped(fd_close) int log_fd =
        open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    struct process_options options = PROCESS_OPTIONS_INIT;

    options.stdout_fd = options.stderr_fd = log_fd;
    options.new_session = true;
    options.die_with_parent = true;
    unlink(vsock->socket);
    unlink(vsock->uds);
    return process_start(argv, &options, &vsock->pid, err);
}

static void on_program_exit(pid_t pid, int status, void *arg)
{
    struct qemu_vsock *vsock = arg;
    scoped(free) char *how = process_status_text(status);

    loop_child_free(steal(vsock->child));
    vsock->pid = 0;
    log_warn("%s ended with %s, everything goes by virtio-serial until the next start", PROGRAM,
             how);
}

static int program_start(struct loop *loop, const char *program, const char *dir,
                         struct qemu_vsock **ret, struct error *err)
{
    scoped(qemu_vsock_free) struct qemu_vsock *vsock = xnew(struct qemu_vsock);
    scoped(fd_close) int notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    int r;

    vsock->kind = QEMU_VSOCK_USER;
    vsock->fd = -1;
    vsock->socket = path_join(dir, LAYOUT_VSOCK_DEVICE);
    vsock->uds = path_join(dir, LAYOUT_VSOCK_SOCK);
    if (notify_fd < 0 || inotify_add_watch(notify_fd, dir, IN_CREATE) < 0) {
        return error_errno(err, errno, "watching '%s'", dir);
    }
    r = spawn(vsock, program, dir, err);
    if (r == 0) {
        r = await_program(vsock, dir, notify_fd, err);
    }
    if (r == 0) {
        r = loop_child_new(loop, vsock->pid, on_program_exit, vsock, &vsock->child, err);
    }
    if (r < 0) {
        return r;
    }
    *ret = steal(vsock);
    return 0;
}

static int program_connect(const struct qemu_vsock *vsock, unsigned port, int *ret_fd,
                           struct error *err)
{
    scoped(free) char *line = xasprintf("CONNECT %u\n", port);
    scoped(fd_close) int fd = -1;
    int r;

    if (!vsock->pid) {
        return error_set(err, EOPNOTSUPP, "%s has ended", PROGRAM);
    }
    r = file_connect_unix_now(vsock->uds, &fd, err); /* the program may hang */
    if (r < 0) {
        return r;
    }
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line)) {
        return error_errno(err, errno, "asking '%s' for a connection", vsock->uds);
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* ---- either ---- */

struct qemu_vsock *qemu_vsock_start(struct loop *loop, const char *dir,
                                    const struct qemu_caps *caps, const struct qemu_arch *arch)
{
    scoped(error_done) struct error err = ERROR_INIT;
    const char *wish = getenv("LIMA_GUEST_TRANSPORT");
    struct qemu_vsock *vsock = NULL;
    scoped(free) char *program = NULL;

    if (str_eq(wish, "virtio") || !arch || !str_ends(arch->net, "-pci")) {
        return NULL;
    }
    if (strv_contains(&caps->devices, "vhost-vsock-pci")) {
        vsock = kernel_start(dir);
    }
    /* The program's connections may stall when many are busy (0.3.0): only who asks gets it. */
    if (vsock || !str_eq(wish, "vsock") || !strv_contains(&caps->devices, "vhost-user-vsock-pci")) {
        return vsock;
    }
    program = qemu_helper_find(PROGRAM);
    if (!program) {
        log_debug("no vsock: %s is not installed", PROGRAM);
        return NULL;
    }
    if (program_start(loop, program, dir, &vsock, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "no vsock, ignoring");
        return NULL;
    }
    return vsock;
}

struct qemu_vsock *qemu_vsock_attach(const struct strv *args)
{
    static const char device[] = "vhost-vsock-pci,guest-cid=";

    for (size_t i = 0; i < args->len; i++) {
        if (str_starts(args->items[i], device)) {
            struct qemu_vsock *vsock = xnew(struct qemu_vsock);

            vsock->kind = QEMU_VSOCK_KERNEL;
            vsock->cid = (unsigned)strtoul(args->items[i] + strlen(device), NULL, 10);
            vsock->fd = -1;
            return vsock;
        }
    }
    return NULL;
}

int qemu_vsock_connect(const struct qemu_vsock *vsock, unsigned port, int *ret_fd, bool *ret_line,
                       struct error *err)
{
    if (!vsock) {
        return error_set(err, EOPNOTSUPP, "the VM has no vsock");
    }
    *ret_line = vsock->kind == QEMU_VSOCK_USER;
    return vsock->kind == QEMU_VSOCK_USER ? program_connect(vsock, port, ret_fd, err)
                                          : kernel_connect(vsock, port, ret_fd, err);
}
