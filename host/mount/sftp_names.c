/* SPDX-License-Identifier: Apache-2.0 */
/* Names: looked up, listed, made, changed and removed. */
#include "mount/sftp_internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"

#define NAMES_MAX   256         /* in one answer */
#define NAMES_BYTES (64u << 10) /* then no more are added */
#define FOLDER_MODE 0755        /* where the guest does not say */

/* --- looking --- */

/* Seconds of 32 bits: what does not fit is shown as the nearest. */
static uint32_t seconds(time_t time)
{
    return (uint32_t)(time < 0 ? 0 : time > (time_t)UINT32_MAX ? UINT32_MAX : time);
}

int sftp_look(const struct sftp_server *server, int dir_fd, const char *name,
              struct sftp_attrs *ret, struct stat *ret_st)
{
    struct owner owner = {.uid = server->uid, .gid = server->gid};
    struct stat st;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH) < 0) {
        return -errno;
    }
    if (owners_get(server->owners, dir_fd, name, st.st_mode, &owner) && owner.type) {
        st.st_mode = owner.type | (st.st_mode & 07777);
    }
    *ret = (struct sftp_attrs){
        .flags = SFTP_ATTR_SIZE | SFTP_ATTR_OWNER | SFTP_ATTR_MODE | SFTP_ATTR_TIMES,
        .size = (uint64_t)st.st_size,
        .uid = owner.uid,
        .gid = owner.gid,
        .mode = st.st_mode,
        .atime = seconds(st.st_atime),
        .mtime = seconds(st.st_mtime),
    };
    if (ret_st) {
        *ret_st = st;
    }
    return 0;
}

int sftp_answer_attrs(struct sftp_job *job, int fd)
{
    struct sftp_attrs attrs;
    int r = sftp_look(job->server, fd, "", &attrs, NULL);
    size_t begin;

    if (r < 0) {
        return r;
    }
    begin = sftp_reply_begin(job->out, SFTP_ATTRS, job->req->id);
    sftp_put_attrs(job->out, &attrs);
    sftp_reply_end(job->out, begin);
    return 1;
}

/* O_PATH, of the link itself. */
static int open_itself(struct sftp_job *job, const char *path)
{
    return tree_open_path(job->server->tree, path, O_PATH | O_NOFOLLOW, job->server->follow);
}

int sftp_serve_lstat(struct sftp_job *job)
{
    scoped(fd_close) int fd = open_itself(job, job->req->path);

    return fd < 0 ? fd : sftp_answer_attrs(job, fd);
}

int sftp_serve_stat(struct sftp_job *job)
{
    struct sftp_server *server = job->server;
    scoped(fd_close) int fd = tree_open_path(server->tree, job->req->path, O_PATH, server->follow);

    return fd < 0 ? fd : sftp_answer_attrs(job, fd);
}

static int answer_name(struct sftp_job *job, const char *name, size_t len)
{
    const struct sftp_attrs none = {0};
    size_t begin = sftp_reply_begin(job->out, SFTP_NAME, job->req->id);

    sftp_put_u32(job->out, 1);
    sftp_put_string(job->out, name, len);
    sftp_put_string(job->out, name, len);
    sftp_put_attrs(job->out, &none);
    sftp_reply_end(job->out, begin);
    return 1;
}

int sftp_serve_realpath(struct sftp_job *job)
{
    scoped(free) char *path = xasprintf("/%s", job->req->path);

    return answer_name(job, path, strlen(path));
}

int sftp_serve_readlink(struct sftp_job *job)
{
    scoped(fd_close) int fd = open_itself(job, job->req->path);
    char target[PATH_MAX];
    ssize_t n = fd < 0 ? 0 : readlinkat(fd, "", target, sizeof(target));

    if (fd < 0) {
        return fd;
    }
    return n < 0 ? (errno == ENOENT ? -EINVAL : -errno) : answer_name(job, target, (size_t)n);
}

/* --- folders --- */

int sftp_serve_opendir(struct sftp_job *job)
{
    struct sftp_server *server = job->server;
    int fd = tree_open_path(server->tree, job->req->path, O_RDONLY | O_DIRECTORY, server->follow);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (!dir) {
        int r = fd < 0 ? fd : -errno;

        fd_close(fd);
        return r;
    }
    return sftp_open_handle(job, -1, dir);
}

/* As `ls -l` shows it, for people. */
static char *long_name(const char *name, const struct sftp_attrs *attrs, const struct stat *st)
{
    static const char bits[] = "rwxrwxrwx";
    const char type = S_ISDIR(attrs->mode)    ? 'd'
                      : S_ISLNK(attrs->mode)  ? 'l'
                      : S_ISFIFO(attrs->mode) ? 'p'
                      : S_ISSOCK(attrs->mode) ? 's'
                      : S_ISCHR(attrs->mode)  ? 'c'
                      : S_ISBLK(attrs->mode)  ? 'b'
                                              : '-';
    char mode[sizeof(bits)], date[sizeof("1970-01-01 00:00")] = "";
    time_t time = (time_t)attrs->mtime;
    struct tm tm;

    for (size_t i = 0; i < sizeof(bits); i++) {
        mode[i] = i == sizeof(bits) - 1 ? '\0' : attrs->mode >> (8 - i) & 1 ? bits[i] : '-';
    }
    if (gmtime_r(&time, &tm)) {
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &tm);
    }
    return xasprintf("%c%s %4lu %-8u %-8u %10llu %s %s", type, mode, (unsigned long)st->st_nlink,
                     attrs->uid, attrs->gid, (unsigned long long)attrs->size, date, name);
}

/* False: it has gone since. */
static bool put_name(struct sftp_job *job, int dir_fd, const char *name)
{
    scoped(free) char *text = NULL;
    struct sftp_attrs attrs;
    struct stat st;
    bool up = strcmp(name, "..") == 0; /* of the shared folder: out of it */

    if (sftp_look(job->server, dir_fd, up ? "" : name, &attrs, &st) < 0) {
        return false;
    }
    text = long_name(name, &attrs, &st);
    sftp_put_string(job->out, name, strlen(name));
    sftp_put_string(job->out, text, strlen(text));
    sftp_put_attrs(job->out, &attrs);
    return true;
}

int sftp_serve_readdir(struct sftp_job *job)
{
    struct sftp_handle *handle = sftp_find_handle(job);
    size_t begin = sftp_reply_begin(job->out, SFTP_NAME, job->req->id);
    size_t count_at = job->out->len;
    uint32_t count = 0;

    if (!handle || !handle->dir) {
        return -EBADF;
    }
    sftp_put_u32(job->out, 0);
    while (count < NAMES_MAX && job->out->len - begin < NAMES_BYTES) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(handle->dir);
        if (!entry && errno && count == 0) {
            return -errno;
        }
        if (!entry) {
            break;
        }
        count += put_name(job, dirfd(handle->dir), entry->d_name);
    }
    if (count == 0) {
        buf_truncate(job->out, begin);
        sftp_reply_status(job->out, job->req->id, SFTP_EOF, "");
        return 1;
    }
    count = htobe32(count);
    memcpy(job->out->data + count_at, &count, sizeof(count));
    sftp_reply_end(job->out, begin);
    return 1;
}

/* --- making, naming, removing --- */

/* The folder that @path's last name is in, and that name. */
static int open_parent(struct sftp_job *job, const char *path, const char **ret_name)
{
    return tree_open_parent(job->server->tree, path, job->server->follow, ret_name);
}

static int remove_name(struct sftp_job *job, int flags)
{
    const char *name;
    scoped(fd_close) int dir = open_parent(job, job->req->path, &name);

    return dir < 0 ? dir : unlinkat(dir, name, flags) < 0 ? -errno : 0;
}

int sftp_serve_remove(struct sftp_job *job)
{
    return remove_name(job, 0);
}

int sftp_serve_rmdir(struct sftp_job *job)
{
    return remove_name(job, AT_REMOVEDIR);
}

int sftp_serve_mkdir(struct sftp_job *job)
{
    const struct sftp_attrs *attrs = &job->req->attrs;
    mode_t mode = attrs->flags & SFTP_ATTR_MODE ? attrs->mode & 07777 : FOLDER_MODE;
    const char *name;
    scoped(fd_close) int dir = open_parent(job, job->req->path, &name);

    return dir < 0 ? dir : mkdirat(dir, name, mode) < 0 ? -errno : 0;
}

int sftp_serve_symlink(struct sftp_job *job)
{
    const char *name;
    scoped(fd_close) int dir = open_parent(job, job->req->path, &name);

    return dir < 0 ? dir : symlinkat(job->req->path2, dir, name) < 0 ? -errno : 0;
}

static int rename_to(struct sftp_job *job, unsigned flags)
{
    const char *from_name, *to_name;
    scoped(fd_close) int from = open_parent(job, job->req->path, &from_name);
    scoped(fd_close) int to = from < 0 ? from : open_parent(job, job->req->path2, &to_name);

    if (to < 0) {
        return to;
    }
    return renameat2(from, from_name, to, to_name, flags) < 0 ? -errno : 0;
}

/* Version 3 of the protocol: what is there already stays. */
int sftp_serve_rename(struct sftp_job *job)
{
    return rename_to(job, RENAME_NOREPLACE);
}

int sftp_serve_posix_rename(struct sftp_job *job)
{
    return rename_to(job, 0);
}

int sftp_serve_hardlink(struct sftp_job *job)
{
    scoped(fd_close) int fd = open_itself(job, job->req->path);
    char path[TREE_FD_PATH_MAX];
    const char *name;
    scoped(fd_close) int dir = fd < 0 ? fd : open_parent(job, job->req->path2, &name);

    if (dir < 0) {
        return dir;
    }
    tree_fd_path(fd, path);
    return linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}
