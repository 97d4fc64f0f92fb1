/* SPDX-License-Identifier: Apache-2.0 */
/* Names: looked up, listed, made, changed and removed. */
#include "mount/fuse_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/alloc.h"

#define STREAM_BUF 32768

/* Names of one folder that are looked up before its reading is advised; each time twice as many. */
#define LOOKED_UP   4
#define ADVISED_MAX 5

/* --- looking --- */

/* Whoever looks up some names of a folder often goes on to all of them, in their order. */
static void advise_reading(struct fuse_server *server, struct node *dir)
{
    if (!coherence_hears(server->coherence, dir) || ++dir->looked_up < LOOKED_UP << dir->advised) {
        return;
    }
    dir->looked_up = 0;
    dir->advised = MIN(dir->advised + 1, ADVISED_MAX);
    ahead_say_read(&server->ahead, dir);
}

int fuse_serve_lookup(struct fuse_job *job)
{
    int r;

    coherence_look(job->server->coherence, job->node);
    r = fuse_answer_entry(job, job->node, job->req->name);
    if (r == 0 && !job->req->replayed) {
        advise_reading(job->server, job->node);
    }
    return r;
}

int fuse_serve_getattr(struct fuse_job *job)
{
    struct node_stat st;
    int r = nodes_stat(job->server->nodes, job->node, &st);

    return r < 0 ? r : fuse_answer_attr(job, &st);
}

int fuse_serve_readlink(struct fuse_job *job)
{
    char target[PATH_MAX];
    int fd = nodes_path_fd(job->server->nodes, job->node);
    ssize_t n = fd < 0 ? 0 : readlinkat(fd, "", target, sizeof(target));

    if (fd < 0) {
        return fd;
    }
    return n < 0 ? (errno == ENOENT ? -EINVAL : -errno) : fuse_answer(job, target, (size_t)n);
}

int fuse_serve_statfs(struct fuse_job *job)
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
    return fuse_answer(job, &body, sizeof(body));
}

/* --- folders --- */

struct linux_dirent64 {
    uint64_t d_ino;
    int64_t d_off;
    uint16_t d_reclen;
    uint8_t d_type;
    char d_name[];
};

void fuse_stream_close(struct fuse_stream *stream)
{
    if (stream->data) {
        fd_close(stream->fd);
        free(stream->data);
        *stream = (struct fuse_stream){0};
    }
}

/* That of @node which stands at @offset, or another that is led there. */
static int stream_find(struct fuse_server *server, struct node *node, uint64_t offset,
                       struct fuse_stream **ret)
{
    struct fuse_stream *oldest = &server->streams[0];
    int path_fd, fd;

    for (size_t i = 0; i < FUSE_STREAMS; i++) {
        struct fuse_stream *stream = &server->streams[i];

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
    fuse_stream_close(oldest);
    *oldest = (struct fuse_stream){.node = node->id,
                                   .generation = node->generation,
                                   .fd = fd,
                                   .used = ++server->clock,
                                   .at = offset,
                                   .data = xmalloc(STREAM_BUF)};
    *ret = oldest;
    return 0;
}

/* The next entry; 0: there is none. */
static int stream_peek(struct fuse_stream *stream, const struct linux_dirent64 **ret)
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
static bool put_entry(struct fuse_job *job, size_t begin, size_t max,
                      const struct linux_dirent64 *entry)
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
        int r = fuse_enter(job, job->node, entry->d_name, &plus, NULL);

        if (r == -ENOENT) {
            return true;
        }
        ino = r < 0 ? ino : plus.attr.ino;
    }
    return fuse_put_dirent(job->out, begin, max, wants_plus ? &plus : NULL, ino,
                           (uint64_t)entry->d_off, entry->d_type, entry->d_name);
}

int fuse_serve_readdir(struct fuse_job *job)
{
    const struct fuse_read_in *in = job->req->arg;
    size_t max = MIN(in->size, FUSE_WRITE_MAX) + sizeof(struct fuse_out_header);
    const struct linux_dirent64 *entry = NULL;
    struct fuse_stream *stream = NULL;
    size_t begin;
    int r;

    coherence_look(job->server->coherence, job->node);
    if (!in->offset) {
        job->node->looked_up = 0;
    }
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
    if (ahead_knows(&job->server->ahead, job->node)) {
        fuse_say_attr(job->server, job->node); /* it was read by now */
    }
    return 0;
}

/* --- making, naming, removing --- */

static int answer_made(struct fuse_job *job)
{
    fuse_own(job, job->req->name);
    return fuse_answer_entry(job, job->node, job->req->name);
}

/*
 * What is there may be the work of a process that was killed before it was done, or another's.
 * 1: its device whole, 0: what it is made from.
 */
static int look_half_made(struct fuse_job *job, int dir_fd, const struct owner *wanted)
{
    struct node_stat st;
    int r = nodes_stat_at(job->server->nodes, dir_fd, job->req->name, &st);

    if (r < 0) {
        return r;
    }
    if (st.owned && st.owner.type == wanted->type && st.owner.rdev == wanted->rdev) {
        return 1;
    }
    return st.owned || !S_ISREG(st.st.st_mode) || st.st.st_size ? -EEXIST : 0;
}

/* The guest's own: devices of the host are none of its business. */
static int make_device(struct fuse_job *job, int dir_fd, const struct fuse_mknod_in *in)
{
    const struct fuse_request *req = job->req;
    const struct owner owner = {
        .uid = req->uid, .gid = req->gid, .type = in->mode & S_IFMT, .rdev = in->rdev};
    mode_t mode = S_IFREG | (in->mode & 07777 & ~in->umask);
    bool made = mknodat(dir_fd, req->name, mode, 0) == 0;
    int r = made ? 0 : -errno;

    if (r == -EEXIST && job->server->again) {
        r = look_half_made(job, dir_fd, &owner);
    }
    if (r == 0) {
        r = owners_set(nodes_owners(job->server->nodes), dir_fd, req->name, S_IFREG, &owner);
    }
    if (r < 0) {
        if (made) {
            unlinkat(dir_fd, req->name, 0);
        }
        return r;
    }
    return fuse_answer_entry(job, job->node, req->name);
}

int fuse_serve_mknod(struct fuse_job *job)
{
    const struct fuse_mknod_in *in = job->req->arg;
    int fd = nodes_path_fd(job->server->nodes, job->node);
    mode_t type = in->mode & S_IFMT;
    int r;

    if (fd < 0) {
        return fd;
    }
    if (S_ISCHR(in->mode) || S_ISBLK(in->mode)) {
        return make_device(job, fd, in);
    }
    if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK) {
        return -EINVAL;
    }
    r = fuse_made(job, mknodat(fd, job->req->name, in->mode & ~in->umask, 0), EEXIST);
    return r < 0 ? r : answer_made(job);
}

/* mkdir(2) may leave it out. By descriptor: the name may lead elsewhere by now, even by a link. */
static void set_sticky(struct fuse_job *job, int dir_fd, mode_t mode)
{
    scoped(fd_close) int fd =
        tree_open_at(job->server->tree, dir_fd, job->req->name, O_PATH | O_DIRECTORY, 0);
    char path[TREE_FD_PATH_MAX];

    if (fd >= 0) {
        tree_fd_path(fd, path);
        (void)chmod(path, mode);
    }
}

static bool is_empty(struct fuse_server *server, struct node *dir)
{
    int path_fd = nodes_path_fd(server->nodes, dir);
    scoped(fd_close) int fd = path_fd < 0 ? -1 : tree_reopen(path_fd, O_RDONLY | O_DIRECTORY);
    char data[512] __attribute__((aligned(8)));
    long n;

    while (fd >= 0 && (n = syscall(SYS_getdents64, fd, data, sizeof(data))) >= 0) {
        if (n == 0) {
            return true;
        }
        for (long at = 0; at < n; at += ((struct linux_dirent64 *)(data + at))->d_reclen) {
            if (!is_dots(((struct linux_dirent64 *)(data + at))->d_name)) {
                return false;
            }
        }
    }
    return false;
}

/* What was just made there is in nobody's hands yet, unless the host was quick. */
static void say_empty(struct fuse_server *server, struct node *dir)
{
    if (!server->ahead.on) {
        return;
    }
    coherence_look(server->coherence, dir);
    if (coherence_hears(server->coherence, dir) && is_empty(server, dir)) {
        ahead_say_empty(&server->ahead, dir);
    }
}

int fuse_serve_mkdir(struct fuse_job *job)
{
    const struct fuse_mkdir_in *in = job->req->arg;
    int fd = nodes_path_fd(job->server->nodes, job->node);
    struct fuse_entry_out body;
    struct node *node;
    int r;

    if (fd < 0) {
        return fd;
    }
    r = fuse_made(job, mkdirat(fd, job->req->name, in->mode & 07777 & ~in->umask), EEXIST);
    if (r == 0 && in->mode & S_ISVTX) {
        set_sticky(job, fd, in->mode & 07777 & ~in->umask);
    }
    if (r < 0) {
        return r;
    }
    fuse_own(job, job->req->name);
    r = fuse_enter(job, job->node, job->req->name, &body, &node);
    if (r < 0) {
        return r;
    }
    if (S_ISDIR(node->mode)) {
        say_empty(job->server, node);
    }
    return fuse_answer(job, &body, sizeof(body));
}

int fuse_serve_symlink(struct fuse_job *job)
{
    int fd = nodes_path_fd(job->server->nodes, job->node);
    int r;

    if (fd < 0) {
        return fd;
    }
    r = fuse_made(job, symlinkat(job->req->name2, fd, job->req->name), EEXIST);
    return r < 0 ? r : fuse_answer_entry(job, job->node, job->req->name);
}

/* Somebody else has made it in between: as open(2) without O_EXCL. */
static int open_existing(struct fuse_job *job, struct node *node, uint32_t flags)
{
    int fd =
        S_ISREG(node->mode) && flags & O_TRUNC ? nodes_io_fd(job->server->nodes, node, true) : 0;

    return fd < 0 ? fd : fd > 0 && ftruncate(fd, 0) < 0 ? -errno : 0;
}

int fuse_serve_create(struct fuse_job *job)
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
    if (fd >= 0) {
        fuse_own(job, job->req->name);
    }
    r = fuse_enter(job, job->node, job->req->name, &body.entry, &node);
    if (r < 0) {
        fd_close(fd);
        return r;
    }
    if (fd >= 0) {
        nodes_give_io_fd(server->nodes, node, fd, true);
    } else if (!server->again) {
        r = open_existing(job, node, in->flags);
    }
    return r < 0 ? r : fuse_answer(job, &body, sizeof(body));
}

/*
 * A name that goes: the file behind it stays reachable while the kernel knows it. Of what it was
 * nothing is so any more.
 */
static void pin_at(struct fuse_job *job, int dir_fd, const char *name)
{
    struct node_stat st;
    struct node *node;

    if (nodes_stat_at(job->server->nodes, dir_fd, name, &st) == 0) {
        node = nodes_find_file(job->server->nodes, &st);
        if (node) {
            nodes_pin(job->server->nodes, node);
            ahead_void(&job->server->ahead, node);
        }
    }
}

static int remove_name(struct fuse_job *job, int flags)
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
    r = fuse_made(job, unlinkat(fd, job->req->name, flags), ENOENT);
    return r < 0 ? r : fuse_answer(job, NULL, 0);
}

int fuse_serve_unlink(struct fuse_job *job)
{
    return remove_name(job, 0);
}

int fuse_serve_rmdir(struct fuse_job *job)
{
    return remove_name(job, AT_REMOVEDIR);
}

static int rename_to(struct fuse_job *job, uint64_t new_dir, uint32_t flags)
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
    r = fuse_made(job, renameat2(from_fd, name, to_fd, new_name, flags), ENOENT);
    if (r < 0) {
        return r;
    }
    if (moved) {
        ahead_void(&job->server->ahead, moved);
        nodes_renamed(nodes, moved, to, new_name);
    }
    if (swapped && swapped != moved) {
        ahead_void(&job->server->ahead, swapped);
        nodes_renamed(nodes, swapped, job->node, name);
    }
    return fuse_answer(job, NULL, 0);
}

int fuse_serve_rename(struct fuse_job *job)
{
    return rename_to(job, ((const struct fuse_rename_in *)job->req->arg)->newdir, 0);
}

int fuse_serve_rename2(struct fuse_job *job)
{
    const struct fuse_rename2_in *in = job->req->arg;

    return rename_to(job, in->newdir, in->flags);
}

int fuse_serve_link(struct fuse_job *job)
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
    r = fuse_made(job, linkat(AT_FDCWD, path, dir_fd, job->req->name, AT_SYMLINK_FOLLOW), EEXIST);
    return r < 0 ? r : fuse_answer_entry(job, job->node, job->req->name);
}
