/* SPDX-License-Identifier: Apache-2.0 */
/* Files: their attributes and contents. */
#include "mount/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "base/alloc.h"
#include "mount/contents.h"

#define COPY_MAX        (64u << 20) /* in one COPY_FILE_RANGE: others wait */
#define XATTR_PREFIX    "user."
#define FALLOCATE_MODES (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)

/* --- attributes --- */

static int set_mode(struct fuse_job *job, int fd, mode_t mode)
{
    char path[TREE_FD_PATH_MAX];

    if (job->node->mode == S_IFLNK) {
        return -EOPNOTSUPP;
    }
    tree_fd_path(fd, path);
    return chmod(path, mode & 07777) < 0 ? -errno : 0;
}

static int set_size(struct fuse_job *job, uint64_t size)
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

static int set_owner(struct fuse_job *job, int fd, const struct fuse_setattr_in *in)
{
    const struct fuse_server *server = job->server;
    struct owners *owners = nodes_owners(server->nodes);
    struct node_stat st;
    struct owner owner;
    int r = nodes_stat(server->nodes, job->node, &st);

    if (r < 0) {
        return r;
    }
    owner = st.owned ? st.owner : (struct owner){.uid = server->uid, .gid = server->gid};
    owner.uid = in->valid & FATTR_UID ? in->uid : owner.uid;
    owner.gid = in->valid & FATTR_GID ? in->gid : owner.gid;
    if (owner.uid == server->uid && owner.gid == server->gid && !owner.type) {
        r = owners_unset(owners, fd, "", st.st.st_mode);
    } else {
        r = owners_set(owners, fd, "", owner.type ? S_IFREG : st.st.st_mode, &owner);
    }
    if (r == 0) {
        contents_drop_privileges(fd);
    }
    return r;
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

#ifndef FATTR_KILL_SUIDGID
#define FATTR_KILL_SUIDGID (1 << 11)
#endif

int fuse_serve_setattr(struct fuse_job *job)
{
    const struct fuse_setattr_in *in = job->req->arg;
    struct nodes *nodes = job->server->nodes;
    struct node_stat st;
    int r = 0;
    int fd;

    if (in->valid & FATTR_SIZE) {
        r = set_size(job, in->size);
    }
    fd = r < 0 ? r : nodes_path_fd(nodes, job->node);
    r = fd < 0 ? fd : 0;
    if (r == 0 && in->valid & (FATTR_UID | FATTR_GID)) {
        r = set_owner(job, fd, in);
    }
    if (r == 0 && in->valid & FATTR_MODE) {
        r = set_mode(job, fd, in->mode);
    }
    if (r == 0 && in->valid & FATTR_KILL_SUIDGID) {
        contents_drop_privileges(fd);
    }
    if (r == 0 && in->valid & (FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_MTIME_NOW)) {
        r = set_times(fd, in);
    }
    r = r < 0 ? r : nodes_stat(nodes, job->node, &st);
    return r < 0 ? r : fuse_answer_attr(job, &st);
}

/* --- extended attributes: the guest's user's, none that mean something to the host --- */

static bool is_hidden(const char *name)
{
    return strncmp(name, OWNERS_PREFIX, strlen(OWNERS_PREFIX)) == 0;
}

static int xattr_path(struct fuse_job *job, char path[TREE_FD_PATH_MAX])
{
    int fd = nodes_path_fd(job->server->nodes, job->node);

    if (fd < 0) {
        return fd;
    }
    if (job->req->name && strncmp(job->req->name, XATTR_PREFIX, strlen(XATTR_PREFIX)) != 0) {
        return -EOPNOTSUPP;
    }
    if (job->req->name && is_hidden(job->req->name)) {
        return -EOPNOTSUPP;
    }
    tree_fd_path(fd, path);
    return 0;
}

static int answer_sized(struct fuse_job *job, uint32_t asked, const void *data, size_t len)
{
    struct fuse_getxattr_out size = {.size = (uint32_t)len};

    if (!asked) {
        return fuse_answer(job, &size, sizeof(size));
    }
    return len > asked ? -ERANGE : fuse_answer(job, data, len);
}

int fuse_serve_getxattr(struct fuse_job *job)
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

        if (at + one <= len && strncmp(list + at, XATTR_PREFIX, strlen(XATTR_PREFIX)) == 0 &&
            !is_hidden(list + at)) {
            memmove(list + kept, list + at, one);
            kept += one;
        }
        at += one;
    }
    return kept;
}

int fuse_serve_listxattr(struct fuse_job *job)
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

int fuse_serve_setxattr(struct fuse_job *job)
{
    const struct fuse_setxattr_in *in = job->req->arg;
    char path[TREE_FD_PATH_MAX];
    int r = xattr_path(job, path);

    if (r < 0) {
        return r;
    }
    r = setxattr(path, job->req->name, job->req->data, in->size, (int)in->flags);
    r = fuse_made(job, r, EEXIST);
    return r < 0 ? r : fuse_answer(job, NULL, 0);
}

int fuse_serve_removexattr(struct fuse_job *job)
{
    char path[TREE_FD_PATH_MAX];
    int r = xattr_path(job, path);

    if (r < 0) {
        return r;
    }
    r = fuse_made(job, removexattr(path, job->req->name), ENODATA);
    return r < 0 ? r : fuse_answer(job, NULL, 0);
}

/* --- contents --- */

/* It was asked for by an earlier connection, and is being done, or is done. */
static bool is_under_way(const struct fuse_job *job)
{
    return job->server->disk && disk_adopt(job->server->disk, job->req->unique);
}

static bool may_be_later(const struct fuse_job *job)
{
    return job->server->disk && disk_has_room(job->server->disk);
}

/* Takes @take_fd, which may be -1 with errno set: that is what is returned then. */
static int do_later(struct fuse_job *job, enum disk_kind kind, int take_fd, size_t size,
                    off_t offset)
{
    struct disk_job *later;

    if (take_fd < 0) {
        return -errno;
    }
    later = xnew(struct disk_job);
    *later = (struct disk_job){.kind = kind,
                               .id = job->req->unique,
                               .node = job->node->id,
                               .fd = take_fd,
                               .size = size,
                               .offset = offset,
                               .data = size ? xmalloc(size) : NULL};
    disk_put(job->server->disk, later);
    return FUSE_LATER;
}

/*
 * pread(2) of all there is, without waiting for the disk: -EAGAIN. What cannot tell whether it
 * would wait, such as a network's file system, may well do so.
 */
static ssize_t read_at_once(int fd, uint8_t *room, size_t size, off_t offset)
{
    size_t done = 0;

    while (done < size) {
        const struct iovec rest = {.iov_base = room + done, .iov_len = size - done};
        ssize_t n = preadv2(fd, &rest, 1, offset + (off_t)done, RWF_NOWAIT);

        if (n == 0) {
            break;
        }
        if (n < 0) {
            return errno == EOPNOTSUPP || errno == ENOSYS || errno == EPERM ? -EAGAIN : -errno;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static ssize_t read_and_wait(int fd, uint8_t *room, size_t size, off_t offset)
{
    ssize_t n = pread(fd, room, size, offset);

    return n < 0 ? -errno : n;
}

int fuse_serve_read(struct fuse_job *job)
{
    const struct fuse_read_in *in = job->req->arg;
    size_t size = MIN(in->size, FUSE_WRITE_MAX);
    bool later = may_be_later(job);
    size_t begin;
    ssize_t n;
    uint8_t *room;
    int fd;

    if (is_under_way(job)) {
        return FUSE_LATER;
    }
    fd = nodes_io_fd(job->server->nodes, job->node, false);
    if (fd < 0) {
        return fd;
    }
    begin = fuse_reply_begin(job->out, job->req->unique);
    room = buf_reserve(job->out, size);
    n = !room   ? -ENOMEM
        : later ? read_at_once(fd, room, size, (off_t)in->offset)
                : read_and_wait(fd, room, size, (off_t)in->offset);
    if (n < 0) {
        buf_truncate(job->out, begin);
        return n == -EAGAIN && later ? do_later(job, DISK_READ, fcntl(fd, F_DUPFD_CLOEXEC, 0), size,
                                                (off_t)in->offset)
                                     : (int)n;
    }
    buf_commit(job->out, (size_t)n);
    fuse_reply_end(job->out, begin);
    return 0;
}

int fuse_serve_write(struct fuse_job *job)
{
    const struct fuse_write_in *in = job->req->arg;
    struct fuse_write_out body = {0};
    int fd = nodes_io_fd(job->server->nodes, job->node, true);
    size_t done = 0;
    int r;

    if (fd < 0) {
        return fd;
    }
    r = contents_write(fd, job->req->data, in->size, (off_t)in->offset, &done);
    if (r < 0) {
        return r;
    }
    if (in->write_flags & FUSE_WRITE_KILL_PRIV) {
        contents_drop_privileges(fd);
    }
    body.size = (uint32_t)done;
    return fuse_answer(job, &body, sizeof(body));
}

int fuse_serve_fsync(struct fuse_job *job)
{
    const struct fuse_fsync_in *in = job->req->arg;
    bool data_only = in->fsync_flags & FUSE_FSYNC_FDATASYNC;
    int fd;

    if (is_under_way(job)) {
        return FUSE_LATER;
    }
    fd = job->node->io_fd >= 0 ? job->node->io_fd
                               : nodes_io_fd(job->server->nodes, job->node, false);
    if (fd < 0) {
        return fd;
    }
    if (may_be_later(job)) {
        return do_later(job, data_only ? DISK_FDATASYNC : DISK_FSYNC, fcntl(fd, F_DUPFD_CLOEXEC, 0),
                        0, 0);
    }
    return (data_only ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : fuse_answer(job, NULL, 0);
}

int fuse_serve_fsyncdir(struct fuse_job *job)
{
    scoped(fd_close) int fd = -1;
    int path_fd;

    if (is_under_way(job)) {
        return FUSE_LATER;
    }
    path_fd = nodes_path_fd(job->server->nodes, job->node);
    fd = path_fd < 0 ? path_fd : tree_reopen(path_fd, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return fd;
    }
    if (may_be_later(job)) {
        return do_later(job, DISK_FSYNC, steal_fd(&fd), 0, 0);
    }
    return fsync(fd) < 0 ? -errno : fuse_answer(job, NULL, 0);
}

int fuse_serve_fallocate(struct fuse_job *job)
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
               : fuse_answer(job, NULL, 0);
}

int fuse_serve_lseek(struct fuse_job *job)
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
    return fuse_answer(job, &body, sizeof(body));
}

int fuse_serve_copy_file_range(struct fuse_job *job)
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
        contents_drop_privileges(to_fd);
    }
    body.size = (uint32_t)n;
    return fuse_answer(job, &body, sizeof(body));
}
