/* SPDX-License-Identifier: Apache-2.0 */
#include "util/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/path.h"

#define COPY_CHUNK (1u << 20)

int file_read(const char *path, size_t max, struct buf *ret, struct error *err)
{
    scoped(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t start = ret->len;

    if (fd < 0) {
        return error_errno(err, errno, "reading '%s'", path);
    }
    for (;;) {
        size_t chunk = MIN(max + 1 - (ret->len - start), 65536);
        void *room = buf_reserve(ret, chunk);
        ssize_t n = room ? read(fd, room, chunk) : 0;

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_errno(err, errno, "reading '%s'", path);
        }
        buf_commit(ret, (size_t)n);
        if (!room || ret->len - start > max) {
            return error_set(err, EFBIG, "reading '%s': larger than %zu bytes", path, max);
        }
        if (n == 0) {
            return 0;
        }
    }
}

int fd_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* Opens a temporary beside @path; its name goes to @ret_tmp. */
static int temporary_open(const char *path, mode_t mode, char **ret_tmp, struct error *err)
{
    scoped(free) char *tmp = xasprintf("%s.XXXXXX.tmp", path);
    int fd = mkostemps(tmp, 4, O_CLOEXEC);

    if (fd < 0) {
        return error_errno(err, errno, "creating a file beside '%s'", path);
    }
    if (fchmod(fd, mode) < 0) {
        int code = errno;

        unlink(tmp);
        fd_close(fd);
        return error_errno(err, code, "setting the mode of '%s'", tmp);
    }
    *ret_tmp = steal(tmp);
    return fd;
}

/* fsync, close and rename; removes the temporary when @r or any step failed. */
static int temporary_finish(int fd, const char *tmp, const char *path, int r, struct error *err)
{
    if (r == 0 && fsync(fd) < 0 && errno != EINVAL && errno != EROFS) {
        r = -errno;
    }
    if (close(fd) < 0 && r == 0) {
        r = -errno;
    }
    if (r == 0 && rename(tmp, path) < 0) {
        r = -errno;
    }
    if (r < 0) {
        unlink(tmp);
        return error_errno(err, -r, "writing '%s'", path);
    }
    return 0;
}

int file_write(const char *path, const void *data, size_t len, mode_t mode, struct error *err)
{
    scoped(free) char *tmp = NULL;
    int fd = temporary_open(path, mode, &tmp, err);

    if (fd < 0) {
        return fd;
    }
    return temporary_finish(fd, tmp, path, fd_write_all(fd, data, len), err);
}

int file_write_text(const char *path, const char *text, mode_t mode, struct error *err)
{
    return file_write(path, text, strlen(text), mode, err);
}

int file_mkdirs(const char *path, mode_t mode, struct error *err)
{
    scoped(free) char *copy = path_clean(path);

    for (char *slash = copy + 1;; slash++) {
        slash = strchrnul(slash, '/');
        char saved = *slash;

        *slash = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST) {
            return error_errno(err, errno, "creating folder '%s'", copy);
        }
        *slash = saved;
        if (!saved) {
            break;
        }
    }
    if (!file_is_dir(copy)) {
        return error_set(err, ENOTDIR, "'%s' is not a folder", copy);
    }
    return 0;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool file_is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int file_remove(const char *path, struct error *err)
{
    if (unlink(path) < 0 && errno != ENOENT) {
        return error_errno(err, errno, "removing '%s'", path);
    }
    return 0;
}

static int remove_below(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct dirent *entry;
    DIR *dir;
    int r = 0;

    if (fd < 0) {
        return -errno;
    }
    dir = fdopendir(fd);
    if (!dir) {
        fd_close(fd);
        return -errno;
    }
    while (r == 0 && (entry = readdir(dir))) {
        const char *item = entry->d_name;

        if (strcmp(item, ".") == 0 || strcmp(item, "..") == 0) {
            continue;
        }
        if (unlinkat(dirfd(dir), item, 0) == 0 || errno == ENOENT) {
            continue;
        }
        r = errno == EISDIR || errno == EPERM ? remove_below(dirfd(dir), item) : -errno;
    }
    closedir(dir);
    if (r == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        r = -errno;
    }
    return r;
}

int file_remove_tree(const char *path, struct error *err)
{
    int r;

    if (unlink(path) == 0 || errno == ENOENT) {
        return 0;
    }
    r = errno == EISDIR || errno == EPERM ? remove_below(AT_FDCWD, path) : -errno;
    return r < 0 ? error_errno(err, -r, "removing '%s'", path) : 0;
}

/* Copies [start, end) at the same offsets; the kernel's copy first, plain reading otherwise. */
static int copy_range(int from, int to, off_t start, off_t end)
{
    scoped(free) char *chunk = NULL;

    while (start < end) {
        off_t in = start, out = start;
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - start), 0);

        if (n > 0) {
            start += n;
            continue;
        }
        if (n < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) {
            return -errno;
        }
        if (!chunk) {
            chunk = xmalloc(COPY_CHUNK);
        }
        n = pread(from, chunk, (size_t)MIN(end - start, (off_t)COPY_CHUNK), start);
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        if (pwrite(to, chunk, (size_t)n, start) != n) {
            return errno ? -errno : -EIO;
        }
        start += n;
    }
    return 0;
}

static int copy_data(int from, int to)
{
    struct stat st;
    off_t data = 0;

    if (ioctl(to, FICLONE, from) == 0) {
        return 0;
    }
    if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0) {
        return -errno;
    }
    while (data < st.st_size) {
        off_t start = lseek(from, data, SEEK_DATA), end;
        int r;

        if (start < 0 && errno == ENXIO) {
            return 0; /* only a hole is left */
        }
        start = start < 0 ? data : start;
        end = lseek(from, start, SEEK_HOLE);
        end = end < 0 ? st.st_size : end;
        r = copy_range(from, to, start, end);
        if (r < 0) {
            return r;
        }
        data = end;
    }
    return 0;
}

int file_copy(const char *from, const char *to, mode_t mode, struct error *err)
{
    scoped(fd_close) int in = open(from, O_RDONLY | O_CLOEXEC);
    scoped(free) char *tmp = NULL;
    int out;

    if (in < 0) {
        return error_errno(err, errno, "reading '%s'", from);
    }
    out = temporary_open(to, mode, &tmp, err);
    if (out < 0) {
        return out;
    }
    return temporary_finish(out, tmp, to, copy_data(in, out), err);
}

int file_lock(const char *path, bool nonblock, int *ret_fd, struct error *err)
{
    scoped(fd_close) int fd = -1;

    fd = file_is_dir(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                           : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_errno(err, errno, "opening '%s' to lock it", path);
    }
    while (flock(fd, LOCK_EX | (nonblock ? LOCK_NB : 0)) < 0) {
        if (errno == EWOULDBLOCK) {
            return error_set(err, EAGAIN, "'%s' is locked by another process", path);
        }
        if (errno != EINTR) {
            return error_errno(err, errno, "locking '%s'", path);
        }
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int unix_address(const char *path, struct sockaddr_un *ret, struct error *err)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(ret->sun_path)) {
        return error_set(err, ENAMETOOLONG, "socket path '%s' is longer than %zu bytes", path,
                         sizeof(ret->sun_path) - 1);
    }
    memcpy(ret->sun_path, path, strlen(path) + 1);
    return 0;
}

int file_listen_unix(const char *path, int backlog, int *ret_fd, struct error *err)
{
    scoped(fd_close) int fd = -1;
    struct sockaddr_un address;
    struct stat st;
    int r = unix_address(path, &address, err);

    if (r < 0) {
        return r;
    }
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        unlink(path);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return error_errno(err, errno, "creating a socket");
    }
    fchmod(fd, 0600); /* the mode that bind() gives the name on Linux */
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, backlog) < 0) {
        return error_errno(err, errno, "listening on '%s'", path);
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int connect_unix(const char *path, int flags, int *ret_fd, struct error *err)
{
    scoped(fd_close) int fd = -1;
    struct sockaddr_un address;
    int r = unix_address(path, &address, err);

    if (r < 0) {
        return r;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0) {
        return error_errno(err, errno, "creating a socket");
    }
    while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        if (errno != EINTR) {
            return error_errno(err, errno, "connecting to '%s'", path);
        }
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

int file_connect_unix(const char *path, int *ret_fd, struct error *err)
{
    return connect_unix(path, 0, ret_fd, err);
}

int file_connect_unix_now(const char *path, int *ret_fd, struct error *err)
{
    return connect_unix(path, SOCK_NONBLOCK, ret_fd, err);
}

void fd_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0) {
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}
