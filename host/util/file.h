/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files: read with a limit, write atomically, lock, remove trees. All block. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/error.h"

/* Errors: ENOENT and the like; EFBIG beyond @max bytes. The text is NUL-terminated. */
int file_read(const char *path, size_t max, struct buf *ret, struct error *err);
/*
 * Writes a temporary beside @path, fsyncs, renames: readers see the old or the new file. A symlink
 * at
 * @path is replaced, not followed.
 */
int file_write(const char *path, const void *data, size_t len, mode_t mode, struct error *err);
int file_write_text(const char *path, const char *text, mode_t mode, struct error *err);
/* mkdir -p; existing folders keep their mode. */
int file_mkdirs(const char *path, mode_t mode, struct error *err);
bool file_exists(const char *path);
bool file_is_dir(const char *path);
/* Removes one name; ENOENT is fine. */
int file_remove(const char *path, struct error *err);
/* rm -r without following symlinks; ENOENT is fine. */
int file_remove_tree(const char *path, struct error *err);
/*
 * Reflink, else copy_file_range, else read and write; keeps holes. @mode of the new file; written
 * beside and renamed.
 */
int file_copy(const char *from, const char *to, mode_t mode, struct error *err);

/* An flock() on a file (created if needed) or a folder. Blocks unless @nonblock: then EAGAIN. */
int file_lock(const char *path, bool nonblock, int *ret_fd, struct error *err);

/* Creates and binds a Unix stream listener, mode 0600; a stale socket in the way is removed. */
int file_listen_unix(const char *path, int backlog, int *ret_fd, struct error *err);
/* Connects a blocking Unix stream socket. Errors: ECONNREFUSED, ENOENT. */
int file_connect_unix(const char *path, int *ret_fd, struct error *err);
/* Connects a non-blocking one at once. Errors: the same; EAGAIN (as many wait as the backlog has).
 */
int file_connect_unix_now(const char *path, int *ret_fd, struct error *err);

/* Non-blocking and close-on-exec. */
void fd_set_nonblock(int fd);
/* write() until done, EINTR handled; 0 or -errno. */
int fd_write_all(int fd, const void *data, size_t len);
