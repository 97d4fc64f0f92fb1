/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/fuse_server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mount/coherence.h"
#include "mount/fuse_wire.h"
#include "mount/nodes.h"

#define MAX_BACKGROUND  64
#define COPY_MAX        (64u << 20) /* in one COPY_FILE_RANGE: others wait */
#define XATTR_PREFIX    "user."
#define FALLOCATE_MODES (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)
#define STREAM_BUF      32768
#define STREAMS         32 /* folders that are being read */
#define OP_SYNCFS       50
#define OP_TMPFILE      51

/* What getdents64(2) has read ahead of a folder's reader. */
struct stream {
    uint64_t node, generation; /* 0: unused */
    int fd;
    uint64_t used; /* when, for the choice of whose place is taken */
    uint64_t at;   /* cookie of the entry at @pos */
    size_t pos, len;
    char *data;
};

struct fuse_server {
    const struct tree *tree;
    struct nodes *nodes;
    struct journal *journal;
    struct journal_session session; /* minor 0: no INIT yet */
    uid_t uid;
    gid_t gid;
    struct coherence *coherence;
    struct stream streams[STREAMS];
    uint64_t clock;
    struct buf news; /* notifications that go behind the answer */
    bool again;      /* the request may have been done before by a process that was killed */
    uint8_t *io;     /* FUSE_WRITE_MAX, for reading */
};

/* One request while it is served. */
struct job {
    struct fuse_server *server;
    const struct fuse_request *req;
    struct buf *out;
    struct node *node;
};

typedef int serve_fn(struct job *job); /* 0: answered; -errno: to be answered so; NO_ANSWER */

#define NO_ANSWER 1

/* --- what files look like to the guest --- */

static void fill_attr(const struct fuse_server *server, const struct node_stat *st,
                      struct fuse_attr *attr)
{
    *attr = (struct fuse_attr){
        .ino = st->st.st_ino,
        .size = (uint64_t)st->st.st_size,
        .blocks = (uint64_t)st->st.st_blocks,
        .atime = (uint64_t)st->st.st_atim.tv_sec,
        .mtime = (uint64_t)st->st.st_mtim.tv_sec,
        .ctime = (uint64_t)st->st.st_ctim.tv_sec,
        .atimensec = (uint32_t)st->st.st_atim.tv_nsec,
        .mtimensec = (uint32_t)st->st.st_mtim.tv_nsec,
        .ctimensec = (uint32_t)st->st.st_ctim.tv_nsec,
        .mode = st->st.st_mode,
        .nlink = (uint32_t)st->st.st_nlink,
        .uid = server->uid,
        .gid = server->gid,
        .rdev = (uint32_t)makedev(major(st->st.st_rdev), minor(st->st.st_rdev)),
        .blksize = (uint32_t)st->st.st_blksize,
    };
}

/* @dir: the folder it was found in. */
static void fill_entry(const struct fuse_server *server, const struct node *dir,
                       const struct node *node, const struct node_stat *st,
                       struct fuse_entry_out *entry)
{
    struct coherence_validity valid =
        coherence_validity(server->coherence, dir, node, st->st.st_nlink);

    *entry = (struct fuse_entry_out){.nodeid = node->id,
                                     .generation = node->generation,
                                     .entry_valid = valid.entry / 1000,
                                     .attr_valid = valid.attributes / 1000,
                                     .entry_valid_nsec = valid.entry % 1000 * 1000000,
                                     .attr_valid_nsec = valid.attributes % 1000 * 1000000};
    fill_attr(server, st, &entry->attr);
}

static int answer(struct job *job, const void *body, size_t len)
{
    fuse_reply(job->out, job->req->unique, body, len);
    return 0;
}

static int answer_attr(struct job *job, const struct node_stat *st)
{
    struct coherence_validity valid =
        coherence_validity(job->server->coherence, NULL, job->node, st->st.st_nlink);
    struct fuse_attr_out body = {.attr_valid = valid.attributes / 1000,
                                 .attr_valid_nsec = valid.attributes % 1000 * 1000000};

    fill_attr(job->server, st, &body.attr);
    return answer(job, &body, sizeof(body));
}

/* Of @name in the folder @dir, as a lookup: one reference more. */
static int enter(struct job *job, struct node *dir, const char *name, struct fuse_entry_out *ret,
                 struct node **ret_node)
{
    struct fuse_server *server = job->server;
    struct node_stat st;
    struct node *node;
    int dir_fd = nodes_path_fd(server->nodes, dir);
    int r = dir_fd < 0 ? dir_fd : nodes_stat_at(server->nodes, dir_fd, name, &st);

    r = r < 0 ? r : nodes_enter(server->nodes, dir, name, &st, &node);
    if (r < 0) {
        return r;
    }
    fill_entry(server, dir, node, &st, ret);
    if (ret_node) {
        *ret_node = node;
    }
    return 0;
}

static int answer_entry(struct job *job, struct node *dir, const char *name)
{
    struct fuse_entry_out body;
    int r = enter(job, dir, name, &body, NULL);

    return r < 0 ? r : answer(job, &body, sizeof(body));
}

/* --- life --- */

static void say_unkept(int r)
{
    if (r < 0) {
        log_warn("the state of the mount cannot be kept: %s; it will not survive the death of its "
                 "server, ignoring",
                 strerror(-r));
    }
}

#define WANTED                                                                                     \
    (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |              \
     FUSE_PARALLEL_DIROPS | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_CACHE_SYMLINKS | \
     FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2)

static int serve_init(struct job *job)
{
    const struct fuse_init_in *in = job->req->arg;
    struct fuse_server *server = job->server;
    struct fuse_init_out body = {
        .major = FUSE_KERNEL_VERSION,
        .minor = MIN(in->minor, (uint32_t)FUSE_KERNEL_MINOR_VERSION),
        .max_readahead = FUSE_WRITE_MAX, /* the guest agent says how much it shall be */
        .flags = in->flags & WANTED,
        .max_background = MAX_BACKGROUND,
        .congestion_threshold = MAX_BACKGROUND * 3 / 4,
        .max_write = FUSE_WRITE_MAX,
        .time_gran = 1,
        .max_pages = FUSE_WRITE_MAX / 4096,
    };

    if (in->major != FUSE_KERNEL_VERSION || in->minor < 31) {
        log_warn("the guest's kernel speaks FUSE %u.%u, which is too old", in->major, in->minor);
        return -EPROTO;
    }
    for (size_t i = 0; i < STREAMS; i++) {
        server->streams[i].node = 0;
    }
    nodes_reset(server->nodes);
    coherence_reset(server->coherence);
    server->session = (struct journal_session){.minor = body.minor, .flags = body.flags};
    if (server->journal) {
        say_unkept(journal_restart(server->journal, &server->session));
    }
    return answer(job, &body, sizeof(body));
}

static int serve_forget(struct job *job)
{
    const struct fuse_forget_in *in = job->req->arg;

    if (job->node) {
        nodes_forget(job->server->nodes, job->node, in->nlookup);
    }
    return 0;
}

static int serve_batch_forget(struct job *job)
{
    const struct fuse_batch_forget_in *in = job->req->arg;
    struct fuse_forget_one one;

    for (uint32_t i = 0; i < in->count; i++) {
        struct node *node;

        memcpy(&one, job->req->data + i * sizeof(one), sizeof(one));
        node = nodes_find(job->server->nodes, one.nodeid);
        if (node) {
            nodes_forget(job->server->nodes, node, one.nlookup);
        }
    }
    return 0;
}

/* The kernel goes on by itself from now on, and never asks again. */
static int serve_not_needed(struct job *job)
{
    return -ENOSYS;
}

static int serve_nothing(struct job *job)
{
    return answer(job, NULL, 0);
}

/* --- looking --- */

static int serve_lookup(struct job *job)
{
    coherence_look(job->server->coherence, job->node);
    return answer_entry(job, job->node, job->req->name);
}

static int serve_getattr(struct job *job)
{
    struct node_stat st;
    int r = nodes_stat(job->server->nodes, job->node, &st);

    return r < 0 ? r : answer_attr(job, &st);
}

static int serve_readlink(struct job *job)
{
    char target[PATH_MAX];
    int fd = nodes_path_fd(job->server->nodes, job->node);
    ssize_t n = fd < 0 ? 0 : readlinkat(fd, "", target, sizeof(target));

    if (fd < 0) {
        return fd;
    }
    return n < 0 ? (errno == ENOENT ? -EINVAL : -errno) : answer(job, target, (size_t)n);
}

static int serve_statfs(struct job *job)
{
    struct fuse_statfs_out body = {0};
    int fd = nodes_path_fd(job->server->nodes, job->node);
    struct statfs fs;

    if (fd < 0) {
        return fd;
    }
    if (fstatfs(fd, &fs) < 0) {
        return -errno;
    }
    body.st = (struct fuse_kstatfs){.blocks = fs.f_blocks,
                                    .bfree = fs.f_bfree,
                                    .bavail = fs.f_bavail,
                                    .files = fs.f_files,
                                    .ffree = fs.f_ffree,
                                    .bsize = (uint32_t)fs.f_bsize,
                                    .namelen = (uint32_t)fs.f_namelen,
                                    .frsize = (uint32_t)fs.f_frsize};
    return answer(job, &body, sizeof(body));
}

/* --- folders --- */

struct linux_dirent64 {
    uint64_t d_ino;
    int64_t d_off;
    uint16_t d_reclen;
    uint8_t d_type;
    char d_name[];
};

static void stream_close(struct stream *stream)
{
    if (stream->data) {
        fd_close(stream->fd);
        free(stream->data);
        *stream = (struct stream){0};
    }
}

/* That of @node which stands at @offset, or another that is led there. */
static int stream_find(struct fuse_server *server, struct node *node, uint64_t offset,
                       struct stream **ret)
{
    struct stream *oldest = &server->streams[0];
    int path_fd, fd;

    for (size_t i = 0; i < STREAMS; i++) {
        struct stream *stream = &server->streams[i];

        if (offset && stream->node == node->id && stream->generation == node->generation &&
            stream->at == offset) {
            stream->used = ++server->clock;
            *ret = stream;
            return 0;
        }
        oldest = stream->used < oldest->used ? stream : oldest;
    }
    path_fd = nodes_path_fd(server->nodes, node);
    fd = path_fd < 0 ? path_fd : tree_reopen(path_fd, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return fd;
    }
    if (offset && lseek(fd, (off_t)offset, SEEK_SET) < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    stream_close(oldest);
    *oldest = (struct stream){.node = node->id,
                              .generation = node->generation,
                              .fd = fd,
                              .used = ++server->clock,
                              .at = offset,
                              .data = xmalloc(STREAM_BUF)};
    *ret = oldest;
    return 0;
}

/* The next entry; 0: there is none. */
static int stream_peek(struct stream *stream, const struct linux_dirent64 **ret)
{
    if (stream->pos == stream->len) {
        long n = syscall(SYS_getdents64, stream->fd, stream->data, STREAM_BUF);

        if (n <= 0) {
            return n < 0 ? -errno : 0;
        }
        stream->pos = 0;
        stream->len = (size_t)n;
    }
    *ret = (const struct linux_dirent64 *)(stream->data + stream->pos);
    return 1;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* False: no room. What has gone since is passed over; what cannot be looked at has no attributes.
 */
static bool put_entry(struct job *job, size_t begin, size_t max, const struct linux_dirent64 *entry)
{
    struct fuse_entry_out plus = {0};
    bool wants_plus = job->req->opcode == FUSE_READDIRPLUS;
    size_t need = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + strlen(entry->d_name) +
                                    (wants_plus ? sizeof(plus) : 0));
    uint64_t ino = entry->d_ino;

    if (job->out->len - begin + need > max) {
        return false;
    }
    if (wants_plus && !is_dots(entry->d_name)) {
        int r = enter(job, job->node, entry->d_name, &plus, NULL);

        if (r == -ENOENT) {
            return true;
        }
        ino = r < 0 ? ino : plus.attr.ino;
    }
    return fuse_put_dirent(job->out, begin, max, wants_plus ? &plus : NULL, ino,
                           (uint64_t)entry->d_off, entry->d_type, entry->d_name);
}

static int serve_readdir(struct job *job)
{
    const struct fuse_read_in *in = job->req->arg;
    size_t max = MIN(in->size, FUSE_WRITE_MAX) + sizeof(struct fuse_out_header);
    const struct linux_dirent64 *entry = NULL;
    struct stream *stream = NULL;
    size_t begin;
    int r;

    coherence_look(job->server->coherence, job->node);
    r = stream_find(job->server, job->node, in->offset, &stream);
    if (r < 0) {
        return r;
    }
    begin = fuse_reply_begin(job->out, job->req->unique);
    while ((r = stream_peek(stream, &entry)) > 0 && put_entry(job, begin, max, entry)) {
        stream->at = (uint64_t)entry->d_off;
        stream->pos += entry->d_reclen;
    }
    if (r < 0 && job->out->len - begin == sizeof(struct fuse_out_header)) {
        buf_truncate(job->out, begin);
        return r;
    }
    fuse_reply_end(job->out, begin);
    return 0;
}

/* --- making, naming, removing --- */

/* Has what a killed process may have done already been done? Then it was done. */
static int made(const struct job *job, int r, int error)
{
    return r < 0 && errno == error && job->server->again ? 0 : r < 0 ? -errno : 0;
}

static int serve_mknod(struct job *job)
{
    const struct fuse_mknod_in *in = job->req->arg;
    int fd = nodes_path_fd(job->server->nodes, job->node);
    mode_t type = in->mode & S_IFMT;
    int r;

    if (fd < 0) {
        return fd;
    }
    if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK) {
        return -EPERM; /* devices of the host are none of the guest's business */
    }
    r = made(job, mknodat(fd, job->req->name, in->mode & ~in->umask, 0), EEXIST);
    return r < 0 ? r : answer_entry(job, job->node, job->req->name);
}

static int serve_mkdir(struct job *job)
{
    const struct fuse_mkdir_in *in = job->req->arg;
    int fd = nodes_path_fd(job->server->nodes, job->node);
    int r;

    if (fd < 0) {
        return fd;
    }
    r = made(job, mkdirat(fd, job->req->name, in->mode & 07777 & ~in->umask), EEXIST);
    if (r == 0 && in->mode & S_ISVTX) { /* mkdir(2) may leave it out */
        fchmodat(fd, job->req->name, in->mode & 07777 & ~in->umask, 0);
    }
    return r < 0 ? r : answer_entry(job, job->node, job->req->name);
}

static int serve_symlink(struct job *job)
{
    int fd = nodes_path_fd(job->server->nodes, job->node);
    int r;

    if (fd < 0) {
        return fd;
    }
    r = made(job, symlinkat(job->req->name2, fd, job->req->name), EEXIST);
    return r < 0 ? r : answer_entry(job, job->node, job->req->name);
}

/* Somebody else has made it in between: as open(2) without O_EXCL. */
static int open_existing(struct job *job, struct node *node, uint32_t flags)
{
    int fd =
        S_ISREG(node->mode) && flags & O_TRUNC ? nodes_io_fd(job->server->nodes, node, true) : 0;

    return fd < 0 ? fd : fd > 0 && ftruncate(fd, 0) < 0 ? -errno : 0;
}

static int serve_create(struct job *job)
{
    const struct fuse_create_in *in = job->req->arg;
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } body = {.open.open_flags = FOPEN_KEEP_CACHE};
    struct fuse_server *server = job->server;
    int dir_fd = nodes_path_fd(server->nodes, job->node);
    bool exclusive = in->flags & O_EXCL && !server->again;
    struct node *node;
    int fd, r;

    if (dir_fd < 0) {
        return dir_fd;
    }
    fd = tree_open_at(server->tree, dir_fd, job->req->name, O_RDWR | O_CREAT | O_EXCL,
                      in->mode & 07777 & ~in->umask);
    if (fd < 0 && (fd != -EEXIST || exclusive)) {
        return fd;
    }
    r = enter(job, job->node, job->req->name, &body.entry, &node);
    if (r < 0) {
        fd_close(fd);
        return r;
    }
    if (fd >= 0) {
        nodes_give_io_fd(server->nodes, node, fd, true);
    } else if (!server->again) {
        r = open_existing(job, node, in->flags);
    }
    return r < 0 ? r : answer(job, &body, sizeof(body));
}

/* A name that goes: the file behind it stays reachable while the kernel knows it. */
static void pin_at(struct job *job, int dir_fd, const char *name)
{
    struct node_stat st;
    struct node *node;

    if (nodes_stat_at(job->server->nodes, dir_fd, name, &st) == 0) {
        node = nodes_find_file(job->server->nodes, &st);
        if (node) {
            nodes_pin(job->server->nodes, node);
        }
    }
}

static int remove_name(struct job *job, int flags)
{
    int fd = nodes_path_fd(job->server->nodes, job->node);
    int r;

    if (fd < 0) {
        return fd;
    }
    pin_at(job, fd, job->req->name);
    fd = nodes_path_fd(job->server->nodes, job->node);
    if (fd < 0) {
        return fd;
    }
    r = made(job, unlinkat(fd, job->req->name, flags), ENOENT);
    return r < 0 ? r : answer(job, NULL, 0);
}

static int serve_unlink(struct job *job)
{
    return remove_name(job, 0);
}

static int serve_rmdir(struct job *job)
{
    return remove_name(job, AT_REMOVEDIR);
}

static int rename_to(struct job *job, uint64_t new_dir, uint32_t flags)
{
    struct nodes *nodes = job->server->nodes;
    struct node *to = nodes_find(nodes, new_dir);
    const char *name = job->req->name, *new_name = job->req->name2;
    struct node_stat st, other;
    struct node *moved = NULL, *swapped = NULL;
    int from_fd, to_fd, r;

    if (!to || !tree_is_name(new_name)) {
        return to ? -EINVAL : -ESTALE;
    }
    if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
        return -EINVAL; /* a white-out is a device, which the guest does not make */
    }
    to_fd = nodes_path_fd(nodes, to);
    if (to_fd < 0) {
        return to_fd;
    }
    if (flags & RENAME_EXCHANGE) {
        swapped = nodes_stat_at(nodes, to_fd, new_name, &other) == 0
                      ? nodes_find_file(nodes, &other)
                      : NULL;
    } else {
        pin_at(job, to_fd, new_name);
    }
    from_fd = nodes_path_fd(nodes, job->node);
    if (from_fd < 0) {
        return from_fd;
    }
    if (nodes_stat_at(nodes, from_fd, name, &st) == 0) {
        moved = nodes_find_file(nodes, &st);
    }
    to_fd = nodes_path_fd(nodes, to);
    if (to_fd < 0) {
        return to_fd;
    }
    r = made(job, renameat2(from_fd, name, to_fd, new_name, flags), ENOENT);
    if (r < 0) {
        return r;
    }
    if (moved) {
        nodes_renamed(nodes, moved, to, new_name);
    }
    if (swapped && swapped != moved) {
        nodes_renamed(nodes, swapped, job->node, name);
    }
    return answer(job, NULL, 0);
}

static int serve_rename(struct job *job)
{
    return rename_to(job, ((const struct fuse_rename_in *)job->req->arg)->newdir, 0);
}

static int serve_rename2(struct job *job)
{
    const struct fuse_rename2_in *in = job->req->arg;

    return rename_to(job, in->newdir, in->flags);
}

static int serve_link(struct job *job)
{
    const struct fuse_link_in *in = job->req->arg;
    struct nodes *nodes = job->server->nodes;
    struct node *old = nodes_find(nodes, in->oldnodeid);
    char path[TREE_FD_PATH_MAX];
    int old_fd = old ? nodes_path_fd(nodes, old) : -ESTALE;
    int dir_fd, r;

    if (old_fd < 0) {
        return old_fd;
    }
    tree_fd_path(old_fd, path);
    dir_fd = nodes_path_fd(nodes, job->node);
    if (dir_fd < 0) {
        return dir_fd;
    }
    r = made(job, linkat(AT_FDCWD, path, dir_fd, job->req->name, AT_SYMLINK_FOLLOW), EEXIST);
    return r < 0 ? r : answer_entry(job, job->node, job->req->name);
}

/* --- attributes --- */

static int set_mode(struct job *job, int fd, mode_t mode)
{
    char path[TREE_FD_PATH_MAX];

    if (job->node->mode == S_IFLNK) {
        return -EOPNOTSUPP;
    }
    tree_fd_path(fd, path);
    return chmod(path, mode & 07777) < 0 ? -errno : 0;
}

/* Everything belongs to the guest's user, and cannot be given away. */
static int set_owner(const struct job *job, const struct fuse_setattr_in *in)
{
    bool uid_ok = !(in->valid & FATTR_UID) || in->uid == job->server->uid;
    bool gid_ok = !(in->valid & FATTR_GID) || in->gid == job->server->gid;

    return uid_ok && gid_ok ? 0 : -EPERM;
}

static int set_size(struct job *job, uint64_t size)
{
    int fd;

    if (size > INT64_MAX) {
        return -EFBIG;
    }
    fd = nodes_io_fd(job->server->nodes, job->node, true);
    if (fd < 0) {
        return fd;
    }
    return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static struct timespec wanted_time(uint32_t valid, uint32_t set, uint32_t now, uint64_t s,
                                   uint32_t ns)
{
    if (valid & now) {
        return (struct timespec){.tv_nsec = UTIME_NOW};
    }
    return valid & set ? (struct timespec){(time_t)s, (long)MIN(ns, 999999999u)}
                       : (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int set_times(int fd, const struct fuse_setattr_in *in)
{
    struct timespec times[2] = {
        wanted_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
        wanted_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
    };
    char path[TREE_FD_PATH_MAX];

    tree_fd_path(fd, path);
    return utimensat(AT_FDCWD, path, times, 0) < 0 ? -errno : 0;
}

/* As the kernel does for a write by who is not root; the host's server may be root. */
static void drop_privileges(struct job *job, int fd)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        (st.st_mode & S_ISUID || (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))) {
        mode_t keep = st.st_mode & 07777 & ~(mode_t)S_ISUID;

        if (st.st_mode & S_IXGRP) {
            keep &= ~(mode_t)S_ISGID;
        }
        set_mode(job, fd, keep);
    }
}

#ifndef FATTR_KILL_SUIDGID
#define FATTR_KILL_SUIDGID (1 << 11)
#endif

static int serve_setattr(struct job *job)
{
    const struct fuse_setattr_in *in = job->req->arg;
    struct nodes *nodes = job->server->nodes;
    struct node_stat st;
    int r = set_owner(job, in);
    int fd;

    if (r == 0 && in->valid & FATTR_SIZE) {
        r = set_size(job, in->size);
    }
    fd = r < 0 ? r : nodes_path_fd(nodes, job->node);
    r = fd < 0 ? fd : 0;
    if (r == 0 && in->valid & FATTR_MODE) {
        r = set_mode(job, fd, in->mode);
    }
    if (r == 0 && in->valid & FATTR_KILL_SUIDGID) {
        drop_privileges(job, fd);
    }
    if (r == 0 && in->valid & (FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_MTIME_NOW)) {
        r = set_times(fd, in);
    }
    r = r < 0 ? r : nodes_stat(nodes, job->node, &st);
    return r < 0 ? r : answer_attr(job, &st);
}

/* --- extended attributes: the guest's user's, none that mean something to the host --- */

static int xattr_path(struct job *job, char path[TREE_FD_PATH_MAX])
{
    int fd = nodes_path_fd(job->server->nodes, job->node);

    if (fd < 0) {
        return fd;
    }
    if (job->req->name && strncmp(job->req->name, XATTR_PREFIX, strlen(XATTR_PREFIX)) != 0) {
        return -EOPNOTSUPP;
    }
    tree_fd_path(fd, path);
    return 0;
}

static int answer_sized(struct job *job, uint32_t asked, const void *data, size_t len)
{
    struct fuse_getxattr_out size = {.size = (uint32_t)len};

    if (!asked) {
        return answer(job, &size, sizeof(size));
    }
    return len > asked ? -ERANGE : answer(job, data, len);
}

static int serve_getxattr(struct job *job)
{
    const struct fuse_getxattr_in *in = job->req->arg;
    char path[TREE_FD_PATH_MAX];
    ssize_t n;
    int r = xattr_path(job, path);

    if (r < 0) {
        return r == -EOPNOTSUPP ? -ENODATA : r;
    }
    n = getxattr(path, job->req->name, job->server->io, XATTR_SIZE_MAX);
    return n < 0 ? -errno : answer_sized(job, in->size, job->server->io, (size_t)n);
}

static size_t keep_ours(char *list, size_t len)
{
    size_t kept = 0;

    for (size_t at = 0; at < len;) {
        size_t one = strnlen(list + at, len - at) + 1;

        if (at + one <= len && strncmp(list + at, XATTR_PREFIX, strlen(XATTR_PREFIX)) == 0) {
            memmove(list + kept, list + at, one);
            kept += one;
        }
        at += one;
    }
    return kept;
}

static int serve_listxattr(struct job *job)
{
    const struct fuse_getxattr_in *in = job->req->arg;
    char *list = (char *)job->server->io;
    char path[TREE_FD_PATH_MAX];
    ssize_t n;
    int r = xattr_path(job, path);

    if (r < 0) {
        return r;
    }
    n = listxattr(path, list, XATTR_LIST_MAX);
    if (n < 0) {
        return errno == EOPNOTSUPP ? answer_sized(job, in->size, list, 0) : -errno;
    }
    return answer_sized(job, in->size, list, keep_ours(list, (size_t)n));
}

static int serve_setxattr(struct job *job)
{
    const struct fuse_setxattr_in *in = job->req->arg;
    char path[TREE_FD_PATH_MAX];
    int r = xattr_path(job, path);

    if (r < 0) {
        return r;
    }
    return setxattr(path, job->req->name, job->req->data, in->size, (int)in->flags) < 0
               ? -errno
               : answer(job, NULL, 0);
}

static int serve_removexattr(struct job *job)
{
    char path[TREE_FD_PATH_MAX];
    int r = xattr_path(job, path);

    if (r < 0) {
        return r;
    }
    r = made(job, removexattr(path, job->req->name), ENODATA);
    return r < 0 ? r : answer(job, NULL, 0);
}

/* --- contents --- */

static int serve_read(struct job *job)
{
    const struct fuse_read_in *in = job->req->arg;
    int fd = nodes_io_fd(job->server->nodes, job->node, false);
    size_t size = MIN(in->size, FUSE_WRITE_MAX);
    size_t begin;
    ssize_t n;
    void *room;

    if (fd < 0) {
        return fd;
    }
    begin = fuse_reply_begin(job->out, job->req->unique);
    room = buf_reserve(job->out, size);
    n = room ? pread(fd, room, size, (off_t)in->offset) : -1;
    if (n < 0) {
        int r = room ? -errno : -ENOMEM;

        buf_truncate(job->out, begin);
        return r;
    }
    buf_commit(job->out, (size_t)n);
    fuse_reply_end(job->out, begin);
    return 0;
}

static int write_all(int fd, const uint8_t *data, size_t len, off_t offset, size_t *ret)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pwrite(fd, data + done, len - done, offset + (off_t)done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            if (!done) {
                return n < 0 ? -errno : -EIO;
            }
            break;
        }
        done += (size_t)n;
    }
    *ret = done;
    return 0;
}

static int serve_write(struct job *job)
{
    const struct fuse_write_in *in = job->req->arg;
    struct fuse_write_out body = {0};
    int fd = nodes_io_fd(job->server->nodes, job->node, true);
    size_t done = 0;
    int r;

    if (fd < 0) {
        return fd;
    }
    r = write_all(fd, job->req->data, in->size, (off_t)in->offset, &done);
    if (r < 0) {
        return r;
    }
    if (in->write_flags & FUSE_WRITE_KILL_PRIV) {
        drop_privileges(job, fd);
    }
    body.size = (uint32_t)done;
    return answer(job, &body, sizeof(body));
}

static int serve_fsync(struct job *job)
{
    const struct fuse_fsync_in *in = job->req->arg;
    int fd = job->node->io_fd >= 0 ? job->node->io_fd
                                   : nodes_io_fd(job->server->nodes, job->node, false);

    if (fd < 0) {
        return fd;
    }
    return (in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(fd) : fsync(fd)) < 0
               ? -errno
               : answer(job, NULL, 0);
}

static int serve_fsyncdir(struct job *job)
{
    int path_fd = nodes_path_fd(job->server->nodes, job->node);
    scoped(fd_close) int fd = path_fd < 0 ? -1 : tree_reopen(path_fd, O_RDONLY | O_DIRECTORY);

    if (fd < 0) {
        return path_fd < 0 ? path_fd : fd;
    }
    return fsync(fd) < 0 ? -errno : answer(job, NULL, 0);
}

static int serve_fallocate(struct job *job)
{
    const struct fuse_fallocate_in *in = job->req->arg;
    int fd;

    if (in->mode & ~(uint32_t)FALLOCATE_MODES) {
        return -EOPNOTSUPP;
    }
    fd = nodes_io_fd(job->server->nodes, job->node, true);
    if (fd < 0) {
        return fd;
    }
    return fallocate(fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0
               ? -errno
               : answer(job, NULL, 0);
}

static int serve_lseek(struct job *job)
{
    const struct fuse_lseek_in *in = job->req->arg;
    struct fuse_lseek_out body;
    int fd;
    off_t at;

    if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE) {
        return -EINVAL;
    }
    fd = nodes_io_fd(job->server->nodes, job->node, false);
    if (fd < 0) {
        return fd;
    }
    at = lseek(fd, (off_t)in->offset, (int)in->whence);
    if (at < 0) {
        return -errno;
    }
    body.offset = (uint64_t)at;
    return answer(job, &body, sizeof(body));
}

static int serve_copy_file_range(struct job *job)
{
    const struct fuse_copy_file_range_in *in = job->req->arg;
    struct nodes *nodes = job->server->nodes;
    struct node *to = nodes_find(nodes, in->nodeid_out);
    struct fuse_write_out body = {0};
    off_t from_at = (off_t)in->off_in, to_at = (off_t)in->off_out;
    int to_fd = to ? nodes_io_fd(nodes, to, true) : -ESTALE;
    int from_fd = to_fd < 0 ? to_fd : nodes_io_fd(nodes, job->node, to == job->node);
    ssize_t n;

    if (from_fd < 0) {
        return from_fd;
    }
    n = copy_file_range(from_fd, &from_at, to_fd, &to_at, MIN(in->len, COPY_MAX), 0);
    if (n < 0) {
        return errno == ENOSYS || errno == EOPNOTSUPP ? -EXDEV : -errno; /* the guest copies */
    }
    if (n > 0) {
        drop_privileges(job, to_fd);
    }
    body.size = (uint32_t)n;
    return answer(job, &body, sizeof(body));
}

/* --- dispatch --- */

static const struct {
    uint32_t opcode;
    serve_fn *serve;
    bool no_node; /* the header's node means nothing, or may be unknown */
} table[] = {
    {FUSE_LOOKUP, serve_lookup},
    {FUSE_FORGET, serve_forget, .no_node = true},
    {FUSE_GETATTR, serve_getattr},
    {FUSE_SETATTR, serve_setattr},
    {FUSE_READLINK, serve_readlink},
    {FUSE_SYMLINK, serve_symlink},
    {FUSE_MKNOD, serve_mknod},
    {FUSE_MKDIR, serve_mkdir},
    {FUSE_UNLINK, serve_unlink},
    {FUSE_RMDIR, serve_rmdir},
    {FUSE_RENAME, serve_rename},
    {FUSE_LINK, serve_link},
    {FUSE_OPEN, serve_not_needed},
    {FUSE_READ, serve_read},
    {FUSE_WRITE, serve_write},
    {FUSE_STATFS, serve_statfs},
    {FUSE_RELEASE, serve_nothing, .no_node = true},
    {FUSE_FSYNC, serve_fsync},
    {FUSE_SETXATTR, serve_setxattr},
    {FUSE_GETXATTR, serve_getxattr},
    {FUSE_LISTXATTR, serve_listxattr},
    {FUSE_REMOVEXATTR, serve_removexattr},
    {FUSE_FLUSH, serve_not_needed},
    {FUSE_INIT, serve_init, .no_node = true},
    {FUSE_OPENDIR, serve_not_needed},
    {FUSE_READDIR, serve_readdir},
    {FUSE_RELEASEDIR, serve_nothing, .no_node = true},
    {FUSE_FSYNCDIR, serve_fsyncdir},
    {FUSE_ACCESS, serve_not_needed},
    {FUSE_CREATE, serve_create},
    {FUSE_DESTROY, serve_nothing, .no_node = true},
    {FUSE_BATCH_FORGET, serve_batch_forget, .no_node = true},
    {FUSE_FALLOCATE, serve_fallocate},
    {FUSE_READDIRPLUS, serve_readdir},
    {FUSE_RENAME2, serve_rename2},
    {FUSE_LSEEK, serve_lseek},
    {FUSE_COPY_FILE_RANGE, serve_copy_file_range},
};

static bool names_are_fine(const struct fuse_request *req)
{
    bool is_attribute = req->opcode == FUSE_GETXATTR || req->opcode == FUSE_SETXATTR ||
                        req->opcode == FUSE_REMOVEXATTR;

    return !req->name || is_attribute || tree_is_name(req->name);
}

/* The second name of a request, with the folder it is in. */
static struct node *second_folder(const struct job *job)
{
    const struct nodes *nodes = job->server->nodes;

    switch (job->req->opcode) {
    case FUSE_RENAME:
        return nodes_find(nodes, ((const struct fuse_rename_in *)job->req->arg)->newdir);
    case FUSE_RENAME2:
        return nodes_find(nodes, ((const struct fuse_rename2_in *)job->req->arg)->newdir);
    default:
        return NULL;
    }
}

/* With what happens meanwhile told apart from what it does itself. The answer comes first. */
static int serve_change(struct job *job, serve_fn *fn)
{
    struct coherence *coherence = job->server->coherence;
    struct buf *news = &job->server->news;
    const struct fuse_request *req = job->req;
    bool attribute = req->opcode == FUSE_SETXATTR || req->opcode == FUSE_REMOVEXATTR;
    struct nodes *nodes = job->server->nodes;
    struct node *changed = req->name && !attribute ? NULL : job->node;
    struct node *second = second_folder(job);
    int r;

    if (req->opcode == FUSE_COPY_FILE_RANGE) {
        changed = nodes_find(nodes, ((const struct fuse_copy_file_range_in *)req->arg)->nodeid_out);
    }
    nodes_hold(nodes, job->node);
    nodes_hold(nodes, second);
    nodes_hold(nodes, changed);
    coherence_begin_own(coherence, news);
    r = fn(job);
    coherence_end_own(coherence, changed ? NULL : job->node, req->name, second, req->name2, changed,
                      news);
    nodes_release(nodes, changed);
    nodes_release(nodes, second);
    nodes_release(nodes, job->node);
    return r;
}

static int dispatch(struct job *job, const struct fuse_op *op)
{
    size_t i = 0;

    while (i < ARRAY_LEN(table) && table[i].opcode != op->opcode) {
        i++;
    }
    if (i == ARRAY_LEN(table)) {
        return op->opcode == OP_TMPFILE ? -EOPNOTSUPP : -ENOSYS;
    }
    if (op->changes && !tree_writable(job->server->tree)) {
        return -EROFS;
    }
    if (!names_are_fine(job->req)) {
        return -EINVAL;
    }
    job->node = nodes_find(job->server->nodes, job->req->node);
    if (!job->node && !table[i].no_node) {
        return -ESTALE;
    }
    return op->changes ? serve_change(job, table[i].serve) : table[i].serve(job);
}

static void save_all(struct fuse_server *server)
{
    journal_rewrite_begin(server->journal);
    nodes_save(server->nodes, server->journal);
    journal_rewrite_end(server->journal);
}

static void flush_journal(struct fuse_server *server)
{
    int r;

    if (!server->journal) {
        return;
    }
    r = journal_is_long(server->journal, nodes_count(server->nodes))
            ? (save_all(server), 0)
            : journal_flush(server->journal);
    say_unkept(r);
}

static void serve(struct fuse_server *server, const struct fuse_request *req,
                  const struct fuse_op *op, struct buf *out)
{
    struct job job = {.server = server, .req = req, .out = out};
    bool keeps = op->once && server->journal && req->unique;
    const void *known;
    size_t begin = out->len, known_len;
    enum journal_seen seen = JOURNAL_NEW;
    int r;

    if (keeps) {
        seen = journal_look(server->journal, req->unique, &known, &known_len);
        if (seen == JOURNAL_DONE) {
            buf_put(out, known, known_len);
            return;
        }
        journal_put_begun(server->journal, req->unique);
        if (!op->silent) {
            flush_journal(server);
        }
    }
    server->again = seen == JOURNAL_BEGUN;
    r = dispatch(&job, op);
    if (r < 0 || out->len == begin) {
        fuse_reply_error(out, req->unique, MIN(r, 0));
    }
    if (keeps) {
        journal_put_done(server->journal, req->unique, out->data + begin, out->len - begin);
    }
    flush_journal(server);
    buf_put(out, server->news.data, server->news.len);
    buf_drop(&server->news, server->news.len);
}

static void take_ack(struct fuse_server *server, const void *data, size_t len, struct buf *out)
{
    uint64_t count = 0;

    if (len >= sizeof(struct fuse_in_header) + sizeof(count)) {
        memcpy(&count, (const uint8_t *)data + sizeof(struct fuse_in_header), sizeof(count));
    }
    coherence_acked(server->coherence, count, out);
}

void fuse_server_restart(struct fuse_server *server)
{
    coherence_restart(server->coherence);
}

int fuse_server_watch_fd(const struct fuse_server *server)
{
    return coherence_fd(server->coherence);
}

void fuse_server_changed(struct fuse_server *server, struct buf *out)
{
    coherence_run(server->coherence, out);
}

int fuse_server_message(struct fuse_server *server, const void *data, size_t len, struct buf *out)
{
    const struct fuse_op *op;
    struct fuse_request req;
    int r = fuse_request_parse(data, len, &req);

    op = fuse_op_find(req.opcode);
    if (req.opcode == COHERENCE_ACK_OPCODE) {
        take_ack(server, data, len, out);
        return 0;
    }
    if (!server->session.minor && req.opcode != FUSE_INIT) {
        return -ENOTCONN;
    }
    if (op && op->opcode == FUSE_INTERRUPT) {
        return 0; /* what it is about is being done, or was */
    }
    if (r < 0 || !op) {
        fuse_reply_error(out, req.unique, r == -EBADMSG ? -EIO : r < 0 ? r : -ENOSYS);
        return 0;
    }
    serve(server, &req, op, out);
    return 0;
}

bool fuse_server_idle(struct fuse_server *server)
{
    return nodes_end_writing(server->nodes);
}

void fuse_server_set_owner(struct fuse_server *server, uid_t uid, gid_t gid)
{
    server->uid = uid;
    server->gid = gid;
}

static void on_journal_session(const struct journal_session *session, void *arg)
{
    struct fuse_server *server = arg;

    server->session = *session;
    nodes_reset(server->nodes);
}

static void on_journal_node(const struct journal_node *node, void *arg)
{
    struct fuse_server *server = arg;

    nodes_restore_node(server->nodes, node);
}

static void on_journal_lookups(uint64_t id, int64_t change, void *arg)
{
    struct fuse_server *server = arg;

    nodes_restore_lookups(server->nodes, id, change);
}

/* A file that is broken is worth nothing: a guest that goes by it has to mount anew. */
static int open_journal(struct fuse_server *server, const struct fuse_server_options *options,
                        struct error *err)
{
    static const struct journal_events events = {
        .session = on_journal_session, .node = on_journal_node, .lookups = on_journal_lookups};
    scoped(error_done) struct error broken = ERROR_INIT;
    int r = journal_open(options->state, options->id, &events, server, &server->journal, &broken);

    if (r != -EBADMSG) {
        return r < 0 ? error_move(err, &broken) : 0;
    }
    log_error_of(LOG_LEVEL_WARN, &broken, "the state of a mount, ignoring it");
    unlink(options->state);
    nodes_reset(server->nodes);
    server->session = (struct journal_session){0};
    return journal_open(options->state, options->id, &events, server, &server->journal, err);
}

int fuse_server_new(const struct fuse_server_options *options, struct fuse_server **ret,
                    struct error *err)
{
    scoped(fuse_server_free) struct fuse_server *server = xnew(struct fuse_server);
    int r;

    server->tree = options->tree;
    server->io = xmalloc(MAX(XATTR_SIZE_MAX, XATTR_LIST_MAX));
    server->nodes = nodes_new(options->tree);
    server->coherence = coherence_new(server->nodes, options->cache_ms);
    if (options->fd_max) {
        nodes_set_fd_max(server->nodes, options->fd_max);
    }
    if (options->state) {
        r = open_journal(server, options, err);
        if (r < 0) {
            return r;
        }
        nodes_restore_end(server->nodes);
        nodes_set_journal(server->nodes, server->journal);
    }
    *ret = steal(server);
    return 0;
}

void fuse_server_free(struct fuse_server *server)
{
    if (!server) {
        return;
    }
    for (size_t i = 0; i < STREAMS; i++) {
        stream_close(&server->streams[i]);
    }
    coherence_free(server->coherence);
    nodes_free(server->nodes);
    buf_done(&server->news);
    journal_free(server->journal);
    free(server->io);
    free(server);
}
