/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the SFTP server share: sftp_server.c (its life, open files, and which function
 * serves what), sftp_names.c (paths) and sftp_files.c (contents and attributes). Nobody else
 * includes it.
 */
#pragma once

#include <dirent.h>
#include <stdint.h>
#include <sys/stat.h>
#include "mount/owners.h"
#include "mount/sftp_server.h"
#include "mount/sftp_wire.h"

struct sftp_handle {
    int fd; /* -1: unused, or of a folder; O_PATH never */
    DIR *dir;
    uint32_t generation; /* one more with each use of the place */
};

struct sftp_server {
    const struct tree *tree;
    struct owners *owners;
    bool follow;
    bool begun; /* INIT came */
    uid_t uid;
    gid_t gid;
    struct sftp_handle handles[SFTP_HANDLES_MAX];
    size_t used; /* places that were ever used */
    size_t open;
    struct sftp_request request;
};

/* One request while it is served. */
struct sftp_job {
    struct sftp_server *server;
    const struct sftp_request *req;
    struct buf *out;
};

/* 1: answered. 0, -errno: to be answered so. */
typedef int sftp_serve_fn(struct sftp_job *job);

/* ---- sftp_server.c ---- */

/* No more can be open. */
bool sftp_is_full(const struct sftp_server *server);
/* Takes @take_fd, or @take_dir, and answers with its handle. -EMFILE. */
int sftp_open_handle(struct sftp_job *job, int take_fd, DIR *take_dir);
/* NULL: the guest made it up, or has closed it. */
struct sftp_handle *sftp_find_handle(struct sftp_job *job);
/* Any descriptor of it; -EBADF. */
int sftp_handle_fd(struct sftp_job *job);

/* ---- sftp_names.c ---- */

/* How @name in the folder @dir_fd is shown, "" that itself. -errno. */
int sftp_look(const struct sftp_server *server, int dir_fd, const char *name,
              struct sftp_attrs *ret, struct stat *ret_st);
int sftp_answer_attrs(struct sftp_job *job, int fd);
int sftp_serve_lstat(struct sftp_job *job);
int sftp_serve_stat(struct sftp_job *job);
int sftp_serve_opendir(struct sftp_job *job);
int sftp_serve_readdir(struct sftp_job *job);
int sftp_serve_remove(struct sftp_job *job);
int sftp_serve_mkdir(struct sftp_job *job);
int sftp_serve_rmdir(struct sftp_job *job);
int sftp_serve_realpath(struct sftp_job *job);
int sftp_serve_rename(struct sftp_job *job);
int sftp_serve_posix_rename(struct sftp_job *job);
int sftp_serve_readlink(struct sftp_job *job);
int sftp_serve_symlink(struct sftp_job *job);
int sftp_serve_hardlink(struct sftp_job *job);

/* ---- sftp_files.c ---- */

int sftp_serve_open(struct sftp_job *job);
int sftp_serve_read(struct sftp_job *job);
int sftp_serve_write(struct sftp_job *job);
int sftp_serve_fstat(struct sftp_job *job);
int sftp_serve_setstat(struct sftp_job *job);
int sftp_serve_lsetstat(struct sftp_job *job);
int sftp_serve_fsetstat(struct sftp_job *job);
int sftp_serve_fsync(struct sftp_job *job);
int sftp_serve_statvfs(struct sftp_job *job);
int sftp_serve_fstatvfs(struct sftp_job *job);
