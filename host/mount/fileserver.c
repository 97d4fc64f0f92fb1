/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program lima-fileserver: one shared folder of one VM, served by the requests of the guest's
 * FUSE, or by SFTP. A process of its own, so that a slow disk delays nobody else, and confined to
 * the folder. It outlives the host agent, which connects to its socket and hands it the guest's
 * requests; the newest connection is the one that counts. It ends with the VM, or on SIGTERM.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mount/fuse_server.h"
#include "mount/fuse_wire.h"
#include "mount/mounttable.h"
#include "mount/preamble.h"
#include "mount/sandbox.h"
#include "mount/sftp_server.h"
#include "mount/sftp_wire.h"
#include "mount/watcher.h"
#include "util/file.h"
#include "util/loop.h"
#include "util/path.h"

#define OUT_HIGH     (2u << 20) /* bytes of answers that wait, beyond which no request is taken */
#define OUT_MAX      (OUT_HIGH + 2 * FUSE_REQUEST_MAX)
#define READ_SIZE    (256u << 10)
#define IDLE_MS      20  /* then files that were written are closed */
#define PAUSE_MS     250 /* before the next try to accept without descriptors */
#define FDS_MAX      65536
#define FDS_RESERVED 64

struct arguments {
    const char *source, *dir, *id;
    pid_t vm; /* 0: none, for tests */
    uint32_t cache_ms;
    bool writable;
    bool sftp, follow;
    bool watch; /* and nothing else */
    struct watcher_arguments watcher;
};

struct fileserver {
    const char *state; /* path of its file */
    struct loop *loop;
    struct tree *tree;
    struct fuse_server *server; /* either this */
    struct sftp_server *sftp;   /* or this; the other is NULL */
    struct disk *disk;          /* of @server */
    struct loop_io *done;       /* by the disk */
    struct loop_signal *sigterm, *sigint;
    struct loop_child *vm;
    struct loop_timer *idle;
    struct loop_io *changes; /* of the host's files; NULL: not watched */
    struct mounttable *table;
    struct loop_io *mounts;
    bool broken; /* there is no room for what the guest must be told */
    int listen_fd;
    struct loop_io *listening;
    struct loop_timer *pause; /* of listening */

    int fd; /* -1: nobody is connected */
    struct loop_io *io;
    bool greeted;
    struct buf in, out;
};

/* --- either protocol --- */

static int greet(struct fileserver *fs, const struct mount_preamble *preamble)
{
    if (fs->sftp) {
        sftp_server_set_owner(fs->sftp, preamble->uid, preamble->gid);
        return 0;
    }
    fuse_server_set_owner(fs->server, preamble->uid, preamble->gid);
    fuse_server_set_events(fs->server, preamble->events);
    return fuse_server_changed(fs->server, &fs->out);
}

static int message_len(const struct fileserver *fs)
{
    return fs->sftp ? sftp_message_len(fs->in.data, fs->in.len)
                    : fuse_message_len(fs->in.data, fs->in.len, FUSE_REQUEST_MAX);
}

static int serve_message(struct fileserver *fs, size_t len)
{
    if (fs->sftp) {
        return sftp_server_message(fs->sftp, fs->in.data, len, &fs->out);
    }
    if ((uintptr_t)fs->in.data % 8 != 0) {
        scoped(free) void *aligned = xmemdup(fs->in.data, len);

        return fuse_server_message(fs->server, aligned, len, &fs->out);
    }
    return fuse_server_message(fs->server, fs->in.data, len, &fs->out);
}

static void restart(struct fileserver *fs)
{
    if (fs->sftp) {
        sftp_server_restart(fs->sftp);
    } else {
        fuse_server_restart(fs->server);
    }
}

/* --- one connection --- */

static void disconnect(struct fileserver *fs)
{
    loop_io_free(fs->io);
    fs->io = NULL;
    if (fs->server) {
        fuse_server_cut(fs->server);
    }
    fd_close(steal_fd(&fs->fd));
    buf_done(&fs->in);
    buf_done(&fs->out);
    fs->in = BUF_INIT;
    fs->out = BUF_INIT_CAP(OUT_MAX);
    fs->greeted = false;
}

static int take_preamble(struct fileserver *fs)
{
    struct mount_preamble preamble;

    if (fs->in.len < sizeof(preamble)) {
        return 0;
    }
    memcpy(&preamble, fs->in.data, sizeof(preamble));
    if (memcmp(preamble.magic, MOUNT_PREAMBLE_MAGIC, sizeof(preamble.magic)) != 0) {
        return -EBADMSG;
    }
    buf_drop(&fs->in, sizeof(preamble));
    restart(fs); /* not earlier: what happens until now is told to nobody */
    fs->greeted = true;
    return greet(fs, &preamble);
}

/* The length of the message that is there whole; 0: none is; -EBADMSG. */
static int whole_message(const struct fileserver *fs)
{
    int len = message_len(fs);

    return len > 0 && (size_t)len > fs->in.len ? 0 : len;
}

/* Messages that are there whole, as long as there is room for answers. */
static int take_messages(struct fileserver *fs)
{
    while (fs->out.len < OUT_HIGH) {
        int len = whole_message(fs);
        int r;

        if (len <= 0) {
            return len;
        }
        r = serve_message(fs, (size_t)len);
        if (r < 0) {
            return r;
        }
        buf_drop(&fs->in, (size_t)len);
    }
    return 0;
}

static int receive(struct fileserver *fs)
{
    void *room = buf_reserve(&fs->in, READ_SIZE);
    ssize_t n = read(fs->fd, room, READ_SIZE);

    if (n <= 0) {
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -ECONNRESET;
    }
    buf_commit(&fs->in, (size_t)n);
    return 0;
}

static int send_answers(struct fileserver *fs)
{
    while (fs->out.len > 0) {
        ssize_t n = send(fs->fd, fs->out.data, fs->out.len, MSG_NOSIGNAL);

        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        buf_drop(&fs->out, (size_t)n);
    }
    return 0;
}

/*
 * The guest has the mount from a server whose state is lost. Without it, the next one is another
 * mount, which takes this one's place.
 */
static void give_up(struct fileserver *fs)
{
    log_warn("the guest's mount is of a server whose state is lost, mounting anew and ignoring it");
    disconnect(fs);
    unlink(fs->state);
    loop_quit(fs->loop, -ENOTCONN);
}

static void on_connection_ready(evutil_socket_t fd, short what, void *arg)
{
    struct fileserver *fs = arg;
    int r = what & EV_READ && fs->out.len < OUT_HIGH ? receive(fs) : 0;

    if (r == 0 && !fs->greeted) {
        r = take_preamble(fs);
    }
    do {
        r = r < 0 || !fs->greeted ? r : take_messages(fs);
        r = r < 0 ? r : send_answers(fs);
    } while (r == 0 && fs->greeted && fs->out.len == 0 && whole_message(fs) > 0);
    if (r == -ENOTCONN) {
        give_up(fs);
        return;
    }
    if (r < 0) {
        log_debug("the connection ends: %s", strerror(-r));
        disconnect(fs);
        return;
    }
    loop_io_want(fs->io,
                 (short)((fs->out.len < OUT_HIGH ? EV_READ : 0) | (fs->out.len ? EV_WRITE : 0)));
    if (fs->done) {
        loop_io_want(fs->done, fs->out.len < OUT_HIGH ? EV_READ : 0);
    }
    loop_timer_set(fs->idle, IDLE_MS);
}

/* Only while somebody is connected, and takes answers. */
static void on_files_changed(evutil_socket_t fd, short what, void *arg)
{
    struct fileserver *fs = arg;
    int r = fuse_server_changed(fs->server, &fs->out);

    if (fs->fd < 0 || !fs->greeted) {
        buf_drop(&fs->out, fs->out.len);
    } else if (r < 0) {
        disconnect(fs);
    } else {
        on_connection_ready(fs->fd, 0, fs);
    }
}

static void on_disk_done(evutil_socket_t fd, short what, void *arg)
{
    struct fileserver *fs = arg;

    while (fs->out.len < OUT_HIGH && fuse_server_finish(fs->server, &fs->out)) {
    }
    if (fs->fd >= 0) {
        on_connection_ready(fs->fd, 0, fs);
    }
}

static void on_remounted(const char *path, void *arg)
{
    struct fileserver *fs = arg;

    fs->broken = fuse_server_remounted(fs->server, path, &fs->out) < 0 || fs->broken;
}

static void on_mounts_changed(evutil_socket_t fd, short what, void *arg)
{
    struct fileserver *fs = arg;

    fs->broken = false;
    mounttable_read(fs->table, on_remounted, fs);
    if (fs->broken && fs->fd >= 0) {
        disconnect(fs);
    } else {
        on_files_changed(-1, 0, fs);
    }
}

static void on_listen_ready(evutil_socket_t listen_fd, short what, void *arg)
{
    struct fileserver *fs = arg;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            log_warn("accepting a connection: %s, retrying", strerror(errno));
            loop_io_want(fs->listening, 0);
            loop_timer_set(fs->pause, PAUSE_MS); /* nothing tells when a descriptor is freed */
        }
        return;
    }
    disconnect(fs);
    fs->fd = fd;
    fs->io = loop_io_new(fs->loop, fd, EV_READ, on_connection_ready, fs);
}

static void on_pause_end(void *arg)
{
    struct fileserver *fs = arg;

    loop_io_want(fs->listening, EV_READ);
}

static void on_idle(void *arg)
{
    struct fileserver *fs = arg;

    if (fs->sftp) {
        return; /* the guest says itself what it closes */
    }
    fuse_server_idle(fs->server);
    if (fuse_server_waits(fs->server)) {
        on_files_changed(-1, 0, fs);
    }
}

/* --- life --- */

static void on_vm_ended(pid_t pid, int status, void *arg)
{
    struct fileserver *fs = arg;

    loop_quit(fs->loop, 0);
}

static void on_signal(int signo, void *arg)
{
    struct fileserver *fs = arg;

    loop_quit(fs->loop, 0);
}

static int parse_id(const char *text, uint8_t ret[JOURNAL_ID_LEN])
{
    for (size_t i = 0; i < JOURNAL_ID_LEN; i++) {
        unsigned byte;

        if (sscanf(text + 2 * i, "%2x", &byte) != 1) {
            return -EINVAL;
        }
        ret[i] = (uint8_t)byte;
    }
    return 0;
}

static size_t raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return FDS_RESERVED;
    }
    limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)FDS_MAX);
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > 2 * FDS_RESERVED ? limit.rlim_cur - FDS_RESERVED : FDS_RESERVED;
}

/* Without state of its own: the file just tells whose process this is. */
static int open_sftp(struct fileserver *fs, const uint8_t id[JOURNAL_ID_LEN], bool follow,
                     struct error *err)
{
    static const struct journal_events none;
    struct journal *journal;
    int r;

    unlink(fs->state);
    r = journal_open(fs->state, id, &none, NULL, &journal, err);
    if (r < 0) {
        return r;
    }
    journal_free(journal);
    fs->sftp = sftp_server_new(fs->tree, follow);
    return 0;
}

static int open_server(struct fileserver *fs, const struct arguments *args, struct error *err)
{
    struct fuse_server_options options = {
        .state = fs->state, .cache_ms = args->cache_ms, .fd_max = raise_fd_limit()};
    int r = parse_id(args->id, options.id);

    if (r < 0) {
        return error_set(err, EINVAL, "'%s' is no id of a mount", args->id);
    }
    r = tree_open(args->source, args->writable, &fs->tree, err);
    if (r < 0) {
        return r;
    }
    if (args->sftp) {
        return open_sftp(fs, options.id, args->follow, err);
    }
    r = disk_new(&fs->disk, err);
    if (r < 0) {
        return r;
    }
    options.tree = fs->tree;
    options.disk = fs->disk;
    return fuse_server_new(&options, &fs->server, err);
}

static int start_threads(void *arg, struct error *err)
{
    struct fileserver *fs = arg;

    return fs->disk ? disk_start(fs->disk, err) : 0;
}

static int confine(struct fileserver *fs, const struct arguments *args, struct error *err)
{
    const struct sandbox_options options = {.source = args->source,
                                            .writable = args->writable,
                                            .state_dir = args->dir,
                                            .start_threads = start_threads,
                                            .arg = fs};
    const char *missing = NULL;
    int r = sandbox_enter(&options, &missing, err);

    if (r == 0 && missing) {
        log_warn("this kernel has no %s: the file server of '%s' is confined by its own checks "
                 "alone, ignoring",
                 missing, args->source);
    }
    return r;
}

static int open_all(struct fileserver *fs, const struct arguments *args, struct error *err)
{
    scoped(free) char *socket_path = path_join(args->dir, MOUNT_SOCKET_NAME);
    int r = open_server(fs, args, err);

    if (r < 0) {
        return r;
    }
    r = file_listen_unix(socket_path, 8, &fs->listen_fd, err);
    if (r < 0) {
        return r;
    }
    fd_set_nonblock(fs->listen_fd);
    fs->loop = loop_new();
    fs->sigterm = loop_signal_new(fs->loop, SIGTERM, on_signal, fs);
    fs->sigint = loop_signal_new(fs->loop, SIGINT, on_signal, fs);
    fs->idle = loop_timer_new(fs->loop, on_idle, fs);
    fs->pause = loop_timer_new(fs->loop, on_pause_end, fs);
    fs->listening = loop_io_new(fs->loop, fs->listen_fd, EV_READ, on_listen_ready, fs);
    if (fs->server && fuse_server_watch_fd(fs->server) >= 0) {
        fs->changes =
            loop_io_new(fs->loop, fuse_server_watch_fd(fs->server), EV_READ, on_files_changed, fs);
    }
    if (fs->disk) {
        fs->done = loop_io_new(fs->loop, disk_fd(fs->disk), EV_READ, on_disk_done, fs);
    }
    fs->table = fs->server ? mounttable_open(args->source) : NULL;
    if (fs->table) {
        fs->mounts =
            loop_io_new(fs->loop, mounttable_fd(fs->table), EV_READ, on_mounts_changed, fs);
    }
    if (args->vm) {
        r = loop_child_new(fs->loop, args->vm, on_vm_ended, fs, &fs->vm, err);
    }
    return r < 0 ? r : confine(fs, args, err);
}

static void close_all(struct fileserver *fs)
{
    disconnect(fs);
    buf_done(&fs->out);
    loop_io_free(fs->mounts);
    mounttable_close(fs->table);
    loop_io_free(fs->changes);
    loop_io_free(fs->done);
    loop_io_free(fs->listening);
    loop_timer_free(fs->pause);
    fd_close(fs->listen_fd);
    loop_child_free(fs->vm);
    loop_timer_free(fs->idle);
    loop_signal_free(fs->sigint);
    loop_signal_free(fs->sigterm);
    loop_free(fs->loop);
    fuse_server_free(fs->server);
    disk_free(fs->disk);
    sftp_server_free(fs->sftp);
    tree_free(fs->tree);
}

static int run(const struct arguments *args, struct error *err)
{
    scoped(free) char *state = path_join(args->dir, MOUNT_STATE_NAME);
    struct fileserver fs = {
        .state = state, .fd = -1, .listen_fd = -1, .out = BUF_INIT_CAP(OUT_MAX)};
    int r;

    umask(0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    r = open_all(&fs, args, err);
    if (r == 0) {
        printf("ready\n"); /* whoever started us waits for it */
        fflush(stdout);
        fclose(stdout);
        r = loop_run(fs.loop);
    }
    close_all(&fs);
    return r;
}

enum option_id {
    OPTION_SOURCE = 1,
    OPTION_DIR,
    OPTION_ID,
    OPTION_VM,
    OPTION_CACHE,
    OPTION_WRITABLE,
    OPTION_SFTP,
    OPTION_FOLLOW,
    OPTION_WATCH,
    OPTION_WITHOUT,
    OPTION_SHARE,
    OPTION_FOLDERS,
    OPTION_SINCE,
};

static const struct option options[] = {
    {"source", required_argument, NULL, OPTION_SOURCE},
    {"dir", required_argument, NULL, OPTION_DIR},
    {"id", required_argument, NULL, OPTION_ID},
    {"vm", required_argument, NULL, OPTION_VM},
    {"cache-ms", required_argument, NULL, OPTION_CACHE},
    {"writable", no_argument, NULL, OPTION_WRITABLE},
    {"sftp", no_argument, NULL, OPTION_SFTP},
    {"follow-symlinks", no_argument, NULL, OPTION_FOLLOW},
    {"watch", no_argument, NULL, OPTION_WATCH},
    {"without", required_argument, NULL, OPTION_WITHOUT},
    {"share", required_argument, NULL, OPTION_SHARE},
    {"folders", required_argument, NULL, OPTION_FOLDERS},
    {"since-ns", required_argument, NULL, OPTION_SINCE},
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct arguments *ret)
{
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case OPTION_SOURCE:
            ret->source = optarg;
            break;
        case OPTION_DIR:
            ret->dir = optarg;
            break;
        case OPTION_ID:
            ret->id = optarg;
            break;
        case OPTION_VM:
            ret->vm = (pid_t)strtol(optarg, NULL, 10);
            break;
        case OPTION_CACHE:
            ret->cache_ms = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case OPTION_WRITABLE:
            ret->writable = true;
            break;
        case OPTION_SFTP:
            ret->sftp = true;
            break;
        case OPTION_FOLLOW:
            ret->follow = true;
            break;
        case OPTION_WATCH:
            ret->watch = true;
            break;
        case OPTION_WITHOUT:
            ret->watcher.without = optarg;
            break;
        case OPTION_SHARE:
            ret->watcher.share = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case OPTION_FOLDERS:
            ret->watcher.folders = strtoul(optarg, NULL, 10);
            break;
        case OPTION_SINCE:
            ret->watcher.since_ns = strtoll(optarg, NULL, 10);
            break;
        default:
            return -EINVAL;
        }
    }
    ret->watcher.source = ret->source;
    return optind == argc && ret->source && (ret->watch || (ret->dir && ret->id)) ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct arguments args = {.watcher = {.share = 100}};
    int r;

    log_set_level(LOG_LEVEL_DEBUG);
    log_set_format(LOG_FORMAT_JSON);
    if (parse(argc, argv, &args) < 0) {
        fprintf(stderr, "usage: lima-fileserver --source FOLDER --dir FOLDER --id HEX32 "
                        "[--vm PID] [--cache-ms N] [--writable] [--sftp [--follow-symlinks]]\n"
                        "       lima-fileserver --watch --source FOLDER [--without FOLDER] "
                        "[--share PERCENT] [--folders N] [--since-ns N]\n");
        return 2;
    }
    r = args.watch ? watcher_run(&args.watcher, &err) : run(&args, &err);
    if (r < 0) {
        log_error_of(LOG_LEVEL_FATAL, &err, "the file server of '%s' ends", args.source);
        return 1;
    }
    return 0;
}
