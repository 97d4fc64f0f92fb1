/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pidfile.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/file.h"

static bool is_file_of(int fd, const char *path)
{
    struct stat open_one, named;

    return fstat(fd, &open_one) == 0 && stat(path, &named) == 0 &&
           open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}

static int lock_file(const char *path, int *ret_fd, struct error *err)
{
    scoped(fd_close) int fd = -1;

    do { /* who ends takes its file away, maybe between our open() and our lock */
        fd_close(fd);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0) {
            return error_errno(err, errno, "opening '%s'", path);
        }
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            return errno == EWOULDBLOCK
                       ? error_set(err, EBUSY, "'%s' is locked by another process", path)
                       : error_errno(err, errno, "locking '%s'", path);
        }
    } while (!is_file_of(fd, path));
    *ret_fd = steal_fd(&fd);
    return 0;
}

int pidfile_claim(const char *path, int *ret_fd, struct error *err)
{
    scoped(free) char *text = xasprintf("%d\n", (int)getpid());
    scoped(fd_close) int fd = -1;
    int r = lock_file(path, &fd, err);

    if (r < 0) {
        return r;
    }
    r = ftruncate(fd, 0) < 0 ? -errno : fd_write_all(fd, text, strlen(text));
    if (r < 0) {
        return error_errno(err, -r, "writing '%s'", path);
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}
