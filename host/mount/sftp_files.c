/* SPDX-License-Identifier: Apache-2.0 */
/* Files: their contents and attributes. */
#include "mount/sftp_internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "base/alloc.h"
#include "mount/contents.h"

#define FILE_MODE    0644       /* where the guest does not say */
#define CREATE_TRIES 10000      /* against somebody who makes and removes it all the time */
#define NOBODY       UINT32_MAX /* as for chown(2): not to be changed */

/* --- opening --- */

static int open_flags(uint32_t asked)
{
    int access = asked & SFTP_OPEN_WRITE ? (asked & SFTP_OPEN_READ ? O_RDWR : O_WRONLY) : O_RDONLY;

    return access | (asked & SFTP_OPEN_APPEND ? O_APPEND : 0);
}

static bool open_changes(uint32_t asked)
{
    return asked & (SFTP_OPEN_WRITE | SFTP_OPEN_APPEND | SFTP_OPEN_CREAT | SFTP_OPEN_TRUNC |
                    SFTP_OPEN_EXCL);
}

static int check_regular(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    return S_ISREG(st.st_mode) ? 0 : S_ISDIR(st.st_mode) ? -EISDIR : -EACCES;
}

/* What else a name may lead to is nothing to be opened here: pipes wait, devices act. */
static int open_file(struct sftp_job *job, int flags)
{
    struct sftp_server *server = job->server;
    scoped(fd_close) int path_fd =
        tree_open_path(server->tree, job->req->path, O_PATH, server->follow);
    int r = path_fd < 0 ? path_fd : check_regular(path_fd);

    return r < 0 ? r : contents_open(path_fd, flags, tree_writable(server->tree));
}

static bool is_link(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

static int create_file(struct sftp_job *job, int flags)
{
    const struct sftp_attrs *attrs = &job->req->attrs;
    mode_t mode = attrs->flags & SFTP_ATTR_MODE ? attrs->mode & 07777 : FILE_MODE;
    unsigned tries = CREATE_TRIES;
    const char *name;
    scoped(fd_close) int dir =
        tree_open_parent(job->server->tree, job->req->path, job->server->follow, &name);
    int fd;

    if (dir < 0) {
        return dir == -EBUSY ? -EISDIR : dir;
    }
    do { /* what is there may have gone when it is opened */
        fd = tree_open_at(job->server->tree, dir, name, flags | O_CREAT | O_EXCL, mode);
        if (fd != -EEXIST || job->req->number & SFTP_OPEN_EXCL) {
            return fd;
        }
        fd = open_file(job, flags);
    } while (fd == -ENOENT && !is_link(dir, name) && --tries);
    return fd;
}

int sftp_serve_open(struct sftp_job *job)
{
    uint32_t asked = job->req->number;
    int flags = open_flags(asked);
    scoped(fd_close) int fd = -1;

    if (open_changes(asked) && !tree_writable(job->server->tree)) {
        return -EROFS;
    }
    if (sftp_is_full(job->server)) { /* before anything is made, or truncated */
        return -EMFILE;
    }
    fd = asked & SFTP_OPEN_CREAT ? create_file(job, flags) : open_file(job, flags);
    if (fd < 0) {
        return fd;
    }
    if (asked & SFTP_OPEN_TRUNC && ftruncate(fd, 0) < 0) {
        return -errno;
    }
    return sftp_open_handle(job, steal_fd(&fd), NULL);
}

/* --- contents --- */

static struct sftp_handle *find_file(struct sftp_job *job)
{
    struct sftp_handle *handle = sftp_find_handle(job);

    return handle && !handle->dir ? handle : NULL;
}

int sftp_serve_read(struct sftp_job *job)
{
    const struct sftp_handle *handle = find_file(job);
    size_t size = MIN(job->req->number, SFTP_DATA_MAX);
    size_t begin, at;
    uint32_t len;
    ssize_t n;

    if (!handle) {
        return -EBADF;
    }
    begin = sftp_reply_begin(job->out, SFTP_DATA, job->req->id);
    at = job->out->len;
    sftp_put_u32(job->out, 0);
    n = pread(handle->fd, buf_reserve(job->out, size), size, (off_t)job->req->offset);
    if (n < 0) {
        return -errno;
    }
    if (n == 0 && size > 0) {
        buf_truncate(job->out, begin);
        sftp_reply_status(job->out, job->req->id, SFTP_EOF, "");
        return 1;
    }
    buf_commit(job->out, (size_t)n);
    len = htobe32((uint32_t)n);
    memcpy(job->out->data + at, &len, sizeof(len));
    sftp_reply_end(job->out, begin);
    return 1;
}

int sftp_serve_write(struct sftp_job *job)
{
    const struct sftp_handle *handle = find_file(job);
    size_t done;
    int r;

    if (!handle) {
        return -EBADF;
    }
    r = contents_write(handle->fd, job->req->data, job->req->data_len, (off_t)job->req->offset,
                       &done);
    return r < 0 ? r : done < job->req->data_len ? -ENOSPC : 0;
}

int sftp_serve_fsync(struct sftp_job *job)
{
    int fd = sftp_handle_fd(job);

    return fd < 0 ? fd : fsync(fd) < 0 ? -errno : 0;
}

/* --- attributes --- */

int sftp_serve_fstat(struct sftp_job *job)
{
    int fd = sftp_handle_fd(job);

    return fd < 0 ? fd : sftp_answer_attrs(job, fd);
}

static int set_size(int fd, uint64_t size)
{
    scoped(fd_close) int io = -1;
    int r = check_regular(fd);

    if (r < 0) {
        return r;
    }
    if (size > INT64_MAX) {
        return -EFBIG;
    }
    io = contents_open(fd, O_WRONLY, true);
    return io < 0 ? io : ftruncate(io, (off_t)size) < 0 ? -errno : 0;
}

static int set_owner(struct sftp_server *server, int fd, const struct sftp_attrs *attrs)
{
    struct owner owner = {.uid = server->uid, .gid = server->gid};
    struct stat st;
    int r;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    (void)owners_get(server->owners, fd, "", st.st_mode, &owner);
    owner.uid = attrs->uid == NOBODY ? owner.uid : attrs->uid;
    owner.gid = attrs->gid == NOBODY ? owner.gid : attrs->gid;
    if (owner.uid == server->uid && owner.gid == server->gid && !owner.type) {
        r = owners_unset(server->owners, fd, "", st.st_mode);
    } else {
        r = owners_set(server->owners, fd, "", st.st_mode, &owner);
    }
    if (r == 0) {
        contents_drop_privileges(fd);
    }
    return r;
}

static int set_mode(int fd, mode_t mode)
{
    char path[TREE_FD_PATH_MAX];
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISLNK(st.st_mode)) {
        return -EOPNOTSUPP;
    }
    tree_fd_path(fd, path);
    return chmod(path, mode & 07777) < 0 ? -errno : 0;
}

static int set_times(int fd, const struct sftp_attrs *attrs)
{
    const struct timespec times[2] = {{.tv_sec = attrs->atime}, {.tv_sec = attrs->mtime}};
    char path[TREE_FD_PATH_MAX];

    tree_fd_path(fd, path);
    return utimensat(AT_FDCWD, path, times, 0) < 0 ? -errno : 0;
}

static int set_all(struct sftp_job *job, int fd)
{
    const struct sftp_attrs *attrs = &job->req->attrs;
    int r = fd < 0 ? fd : 0;

    if (r == 0 && attrs->flags & SFTP_ATTR_SIZE) {
        r = set_size(fd, attrs->size);
    }
    if (r == 0 && attrs->flags & SFTP_ATTR_OWNER) {
        r = set_owner(job->server, fd, attrs);
    }
    if (r == 0 && attrs->flags & SFTP_ATTR_MODE) {
        r = set_mode(fd, attrs->mode);
    }
    if (r == 0 && attrs->flags & SFTP_ATTR_TIMES) {
        r = set_times(fd, attrs);
    }
    return r;
}

int sftp_serve_setstat(struct sftp_job *job)
{
    struct sftp_server *server = job->server;
    scoped(fd_close) int fd = tree_open_path(server->tree, job->req->path, O_PATH, server->follow);

    return set_all(job, fd);
}

int sftp_serve_lsetstat(struct sftp_job *job)
{
    struct sftp_server *server = job->server;
    scoped(fd_close) int fd =
        tree_open_path(server->tree, job->req->path, O_PATH | O_NOFOLLOW, server->follow);

    return set_all(job, fd);
}

int sftp_serve_fsetstat(struct sftp_job *job)
{
    return set_all(job, sftp_handle_fd(job));
}

/* --- the file system --- */

static int answer_statvfs(struct sftp_job *job, int fd)
{
    struct statvfs fs;
    size_t begin;

    if (fstatvfs(fd, &fs) < 0) {
        return -errno;
    }
    begin = sftp_reply_begin(job->out, SFTP_EXTENDED_REPLY, job->req->id);
    sftp_put_u64(job->out, fs.f_bsize);
    sftp_put_u64(job->out, fs.f_frsize);
    sftp_put_u64(job->out, fs.f_blocks);
    sftp_put_u64(job->out, fs.f_bfree);
    sftp_put_u64(job->out, fs.f_bavail);
    sftp_put_u64(job->out, fs.f_files);
    sftp_put_u64(job->out, fs.f_ffree);
    sftp_put_u64(job->out, fs.f_favail);
    sftp_put_u64(job->out, 0); /* the host's number of it is none of the guest's business */
    sftp_put_u64(job->out,
                 tree_writable(job->server->tree) ? 0 : 1); /* SSH2_FXE_STATVFS_ST_RDONLY */
    sftp_put_u64(job->out, fs.f_namemax);
    sftp_reply_end(job->out, begin);
    return 1;
}

int sftp_serve_statvfs(struct sftp_job *job)
{
    struct sftp_server *server = job->server;
    scoped(fd_close) int fd = tree_open_path(server->tree, job->req->path, O_PATH, server->follow);

    return fd < 0 ? fd : answer_statvfs(job, fd);
}

int sftp_serve_fstatvfs(struct sftp_job *job)
{
    int fd = sftp_handle_fd(job);

    return fd < 0 ? fd : answer_statvfs(job, fd);
}
