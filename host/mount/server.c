/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mount/preamble.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"
#include "util/strv.h"

#define PROGRAM "lima-fileserver"

struct mount_server {
    struct loop *loop;
    const struct mount_server_events *events;
    void *arg;
    char *dir, *socket_path;
    uint8_t id[JOURNAL_ID_LEN];
    struct loop_child *child;
    int ready_fd; /* its standard output, until it has said that it is ready */
    struct loop_io *ready_io;
    struct loop_timer *found; /* one that runs: ready() comes from the loop */
    bool stopping;            /* its folder goes with it */
};

static void server_free(struct mount_server *server)
{
    loop_child_free(server->child);
    loop_io_free(server->ready_io);
    fd_close(server->ready_fd);
    loop_timer_free(server->found);
    free(server->socket_path);
    free(server->dir);
    free(server);
}

static void remove_dir(const struct mount_server *server)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (file_remove_tree(server->dir, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "what a file server has left, ignoring");
    }
}

static void on_server_ended(pid_t pid, int status, void *arg)
{
    struct mount_server *server = arg;
    const struct mount_server_events *events = server->events;
    scoped(free) char *how = status < 0 ? xstrdup("ended") : process_status_text(status);
    scoped(free) char *reason = xasprintf("the file server (process %d): %s", (int)pid, how);
    void *events_arg = server->arg;

    if (server->stopping) {
        remove_dir(server);
    }
    server_free(server);
    events->ended(reason, events_arg);
}

/* The end of its output without a word is the end of the process, which comes as such. */
static void on_server_says(evutil_socket_t fd, short what, void *arg)
{
    struct mount_server *server = arg;
    char text[16];
    bool ready = read(fd, text, sizeof(text)) > 0;

    loop_io_free(server->ready_io);
    server->ready_io = NULL;
    fd_close(steal_fd(&server->ready_fd));
    if (ready) {
        server->events->ready(server->arg);
    }
}

static void on_server_found(void *arg)
{
    struct mount_server *server = arg;

    server->events->ready(server->arg);
}

static int watch(struct mount_server *server, pid_t pid, struct error *err)
{
    return loop_child_new(server->loop, pid, on_server_ended, server, &server->child, err);
}

/* One that an earlier host agent has left. */
static bool find_running(struct mount_server *server)
{
    scoped(fd_close) int fd = -1;
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (file_connect_unix(server->socket_path, &fd, NULL) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
        watch(server, peer.pid, NULL) < 0) {
        return false;
    }
    server->found = loop_timer_new(server->loop, on_server_found, server);
    loop_timer_set(server->found, 0);
    return true;
}

static char *id_text(const uint8_t id[JOURNAL_ID_LEN])
{
    char text[2 * JOURNAL_ID_LEN + 1];

    for (size_t i = 0; i < JOURNAL_ID_LEN; i++) {
        snprintf(text + 2 * i, 3, "%02x", id[i]);
    }
    return xstrdup(text);
}

static int start(struct mount_server *server, const struct mount_server_options *options,
                 struct error *err)
{
    scoped(free) char *program = path_libexec(PROGRAM);
    scoped(free) char *id = id_text(server->id);
    scoped(free) char *vm = xasprintf("%d", (int)options->vm);
    scoped(free) char *cache = xasprintf("%u", options->cache_ms);
    scoped(strv_done) struct strv argv = STRV_INIT;
    struct process_options process = PROCESS_OPTIONS_INIT;
    int fds[2];
    pid_t pid;
    int r;

    strv_add_all(&argv, program, "--source", options->source, "--dir", server->dir, "--id", id,
                 "--vm", vm, "--cache-ms", cache, NULL);
    if (options->writable) {
        strv_add(&argv, "--writable");
    }
    if (options->sftp) {
        strv_add(&argv, "--sftp");
    }
    if (options->follow) {
        strv_add(&argv, "--follow-symlinks");
    }
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return error_errno(err, errno, "opening a pipe");
    }
    process.stdout_fd = fds[1];
    process.stderr_fd = PROCESS_INHERIT;
    process.new_session = true;
    process.cwd = "/";
    r = process_start(strv_argv(&argv), &process, &pid, err);
    close(fds[1]);
    server->ready_fd = fds[0];
    r = r < 0 ? r : watch(server, pid, err);
    if (r < 0) {
        return r;
    }
    fd_set_nonblock(fds[0]);
    server->ready_io = loop_io_new(server->loop, fds[0], EV_READ, on_server_says, server);
    return 0;
}

static int make_dir(const char *dir, struct error *err)
{
    int r = file_mkdirs(dir, 0700, err);

    return r < 0 ? r : chmod(dir, 0700) < 0 ? error_errno(err, errno, "chmod '%s'", dir) : 0;
}

int mount_server_open(struct loop *loop, const struct mount_server_options *options,
                      const struct mount_server_events *events, void *arg,
                      struct mount_server **ret, struct error *err)
{
    struct mount_server *server = xnew(struct mount_server);
    scoped(free) char *state = path_join(options->dir, MOUNT_STATE_NAME);
    int r = make_dir(options->dir, err);
    bool known;

    *server = (struct mount_server){.loop = loop,
                                    .events = events,
                                    .arg = arg,
                                    .dir = xstrdup(options->dir),
                                    .socket_path = path_join(options->dir, MOUNT_SOCKET_NAME),
                                    .ready_fd = -1};
    known = r == 0 && journal_read_id(state, server->id) == 0;
    if (r == 0 && !(known && find_running(server))) {
        if (!known) {
            unlink(state);
            if (getrandom(server->id, sizeof(server->id), 0) != (ssize_t)sizeof(server->id)) {
                r = error_errno(err, errno, "drawing a number");
            }
        }
        r = r < 0 ? r : start(server, options, err);
    }
    if (r < 0) {
        server_free(server);
        return r;
    }
    *ret = server;
    return 0;
}

void mount_server_leave(struct mount_server *server)
{
    if (server) {
        server_free(server);
    }
}

void mount_server_stop(struct mount_server *server)
{
    server->stopping = true;
    loop_child_kill(server->child, SIGTERM);
}

const uint8_t *mount_server_id(const struct mount_server *server)
{
    return server->id;
}

int mount_server_connect(struct mount_server *server, uint32_t uid, uint32_t gid, bool replays,
                         int *ret_fd, struct error *err)
{
    const struct mount_preamble preamble = {
        .magic = MOUNT_PREAMBLE_MAGIC, .uid = uid, .gid = gid, .events = replays};
    scoped(fd_close) int fd = -1;
    int r = file_connect_unix_now(server->socket_path, &fd, err);

    if (r < 0) {
        return r;
    }
    if (send(fd, &preamble, sizeof(preamble), MSG_NOSIGNAL) != (ssize_t)sizeof(preamble)) {
        return error_errno(err, errno, "greeting the file server");
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}
