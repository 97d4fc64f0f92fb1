/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/contents.h"

#include <errno.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mount/tree.h"

static int open_against_mode(int path_fd, int flags)
{
    char path[TREE_FD_PATH_MAX];
    struct stat st;
    int fd;

    if (fstat(path_fd, &st) < 0 || st.st_uid != geteuid()) {
        return -EACCES;
    }
    tree_fd_path(path_fd, path);
    if (chmod(path, (st.st_mode & 07777) | S_IRUSR | S_IWUSR) < 0) {
        return -EACCES;
    }
    fd = tree_reopen(path_fd, flags);
    chmod(path, st.st_mode & 07777);
    return fd;
}

int contents_open(int path_fd, int flags, bool may_change)
{
    int fd = tree_reopen(path_fd, flags);

    return fd == -EACCES && may_change ? open_against_mode(path_fd, flags) : fd;
}

int contents_write(int fd, const void *data, size_t len, off_t offset, size_t *ret)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pwrite(fd, (const uint8_t *)data + done, len - done, offset + (off_t)done);

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

void contents_drop_privileges(int fd)
{
    char path[TREE_FD_PATH_MAX];
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        (st.st_mode & S_ISUID || (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))) {
        mode_t keep = st.st_mode & 07777 & ~(mode_t)S_ISUID;

        if (st.st_mode & S_IXGRP) {
            keep &= ~(mode_t)S_ISGID;
        }
        tree_fd_path(fd, path);
        chmod(path, keep);
    }
}
