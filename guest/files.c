/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"

#define READ_STEP 4096

char *files_read(const char *path, size_t max, struct error *err)
{
    /* Nobody makes us wait by putting a pipe there. */
    scoped(fd_close) int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    scoped(buf_done) struct buf text = BUF_INIT_CAP(max + READ_STEP);
    ssize_t n = -1;

    if (fd < 0) {
        error_errno(err, errno, "opening '%s'", path);
        return NULL;
    }
    while (text.len <= max && (n = read(fd, buf_reserve(&text, READ_STEP), READ_STEP)) > 0) {
        buf_commit(&text, (size_t)n);
    }
    if (n < 0) {
        error_errno(err, errno, "reading '%s'", path);
        return NULL;
    }
    if (text.len > max) {
        error_set(err, EFBIG, "'%s' is larger than %zu bytes", path, max);
        return NULL;
    }
    return buf_steal(&text);
}

bool files_exist(const char *path)
{
    return access(path, F_OK) == 0;
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

/* @temporary is gone again when this fails. */
static int write_temporary(const char *temporary, const char *text, mode_t mode, uid_t uid,
                           gid_t gid, struct error *err)
{
    scoped(fd_close) int fd = -1;
    int r;

    unlink(temporary); /* of a run that was cut short */
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_errno(err, errno, "creating '%s'", temporary);
    }
    r = write_all(fd, text, strlen(text));
    if (r == 0 && (fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0)) {
        r = -errno;
    }
    if (r < 0) {
        unlink(temporary);
        return error_errno(err, -r, "writing '%s'", temporary);
    }
    return 0;
}

static int replace(const char *path, const char *text, mode_t mode, uid_t uid, gid_t gid,
                   struct error *err)
{
    scoped(free) char *temporary = xasprintf("%s.lima-new", path);
    int r = write_temporary(temporary, text, mode, uid, gid, err);

    if (r < 0) {
        return r;
    }
    if (rename(temporary, path) < 0) {
        r = error_errno(err, errno, "replacing '%s'", path);
        unlink(temporary);
        return r;
    }
    return 1;
}

int files_write(const char *path, const char *text, mode_t mode, struct error *err)
{
    struct stat st = {.st_mode = mode};

    if (stat(path, &st) == 0) {
        return files_write_as(path, text, st.st_mode & 07777, st.st_uid, st.st_gid, err);
    }
    return files_write_as(path, text, mode, 0, 0, err);
}

int files_write_as(const char *path, const char *text, mode_t mode, uid_t uid, gid_t gid,
                   struct error *err)
{
    scoped(free) char *old = files_read(path, FILES_TEXT_MAX, NULL);

    if (old && strcmp(old, text) == 0) {
        return 0;
    }
    return replace(path, text, mode, uid, gid, err);
}

int files_mkdirs(const char *path, mode_t mode, struct error *err)
{
    scoped(free) char *copy = xstrdup(path);

    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST) {
            return error_errno(err, errno, "making '%s'", copy);
        }
        *slash = '/';
    }
    if (mkdir(path, mode) < 0 && errno != EEXIST) {
        return error_errno(err, errno, "making '%s'", path);
    }
    return 0;
}
