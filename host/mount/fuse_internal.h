/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the file server share: fuse_server.c (its life, and which function serves
 * what), fuse_show.c (what files look like to the guest), fuse_folders.c (names), fuse_files.c
 * (contents and attributes) and fuse_replay.c (requests that repeat what the host did). Nobody else
 * includes it.
 */
#pragma once

#include <linux/fuse.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/buf.h"
#include "mount/ahead.h"
#include "mount/coherence.h"
#include "mount/disk.h"
#include "mount/fuse_wire.h"
#include "mount/nodes.h"

#define FUSE_STREAMS 32 /* folders that are being read */

/* What getdents64(2) has read ahead of a folder's reader. */
struct fuse_stream {
    uint64_t node, generation; /* 0: unused */
    int fd;
    uint64_t used; /* when, for the choice of whose place is taken */
    uint64_t at;   /* cookie of the entry at @pos */
    size_t pos, len;
    char *data;
};

struct fuse_server {
    const struct tree *tree;
    struct nodes *nodes;
    struct journal *journal;
    struct disk *disk;              /* NULL: everything is waited for */
    struct journal_session session; /* minor 0: no INIT yet */
    uid_t uid;
    gid_t gid;
    struct coherence *coherence;
    struct fuse_stream streams[FUSE_STREAMS];
    uint64_t clock;
    struct ahead ahead; /* its messages go before the answer */
    struct buf news;    /* notifications that go behind it */
    uint64_t phantoms;
    bool again;  /* the request may have been done before by a process that was killed */
    uint8_t *io; /* for attributes: XATTR_SIZE_MAX */
};

/* One request while it is served. */
struct fuse_job {
    struct fuse_server *server;
    const struct fuse_request *req;
    struct buf *out;
    struct node *node;
};

#define FUSE_LATER 1 /* by fuse_server_finish() */

/* 0: answered, or to be answered with nothing; -errno: to be answered so; FUSE_LATER. */
typedef int fuse_serve_fn(struct fuse_job *job);

/* ---- fuse_show.c ---- */

/* All return 0, as a serving function does. */
int fuse_answer(struct fuse_job *job, const void *body, size_t len);
int fuse_answer_attr(struct fuse_job *job, const struct node_stat *st);
/* Of @name in the folder @dir, as a lookup: one reference more. @ret_node may be NULL. */
int fuse_enter(struct fuse_job *job, struct node *dir, const char *name, struct fuse_entry_out *ret,
               struct node **ret_node);
/*
 * What was just made at @name of the job's folder belongs to who has asked. But what root makes in
 * a share where nobody has ever given a file away is the guest's user's, as all else there; so is
 * what can have no owner.
 */
void fuse_own(struct fuse_job *job, const char *name);
int fuse_answer_entry(struct fuse_job *job, struct node *dir, const char *name);
/* The guest agent may answer for the folder @node what there is now; NULL is fine. */
void fuse_say_attr(struct fuse_server *server, struct node *node);
/*
 * The result of a system call that may have been done before by a process that was killed: @error
 * means then that it was.
 */
int fuse_made(const struct fuse_job *job, int r, int error);

/* ---- fuse_replay.c ---- */

/*
 * Serves one that the guest agent has marked (lima/mount.h). The node may be NULL. False: it is
 * served like any other.
 */
bool fuse_serve_replayed(struct fuse_job *job, const struct fuse_op *op, int *ret);

/* ---- fuse_folders.c ---- */

void fuse_stream_close(struct fuse_stream *stream);
int fuse_serve_lookup(struct fuse_job *job);
int fuse_serve_getattr(struct fuse_job *job);
int fuse_serve_readlink(struct fuse_job *job);
int fuse_serve_statfs(struct fuse_job *job);
int fuse_serve_readdir(struct fuse_job *job);
int fuse_serve_mknod(struct fuse_job *job);
int fuse_serve_mkdir(struct fuse_job *job);
int fuse_serve_symlink(struct fuse_job *job);
int fuse_serve_create(struct fuse_job *job);
int fuse_serve_unlink(struct fuse_job *job);
int fuse_serve_rmdir(struct fuse_job *job);
int fuse_serve_rename(struct fuse_job *job);
int fuse_serve_rename2(struct fuse_job *job);
int fuse_serve_link(struct fuse_job *job);

/* ---- fuse_files.c ---- */

int fuse_serve_setattr(struct fuse_job *job);
int fuse_serve_getxattr(struct fuse_job *job);
int fuse_serve_listxattr(struct fuse_job *job);
int fuse_serve_setxattr(struct fuse_job *job);
int fuse_serve_removexattr(struct fuse_job *job);
int fuse_serve_read(struct fuse_job *job);
int fuse_serve_write(struct fuse_job *job);
int fuse_serve_fsync(struct fuse_job *job);
int fuse_serve_fsyncdir(struct fuse_job *job);
int fuse_serve_fallocate(struct fuse_job *job);
int fuse_serve_lseek(struct fuse_job *job);
int fuse_serve_copy_file_range(struct fuse_job *job);
