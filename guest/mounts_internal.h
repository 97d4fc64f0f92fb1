/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mounts.c (the states of mounts), mounts_sshfs.c (those by sshfs) and mounts_kept.c (what
 * outlives this process) share. Nobody else includes it.
 */
#pragma once

#include <sys/types.h>
#include "base/buf.h"
#include "fuse.h"
#include "mountpoint.h"
#include "mounts.h"
#include "sshfs.h"
#include "wire.h"

#define MOUNTS_MAX 32

enum mounts_state { MOUNTS_STATE_MOUNTING, MOUNTS_STATE_MOUNTED, MOUNTS_STATE_UNMOUNTING };

struct mount {
    struct mounts *mounts;
    struct mount *next;
    enum mounts_state state;
    char *tag, *path, *options;
    const char *type;
    unsigned number;     /* for the names of what is kept */
    struct fuse *fuse;   /* NULL: with a device, or: */
    struct sshfs *sshfs; /* NULL: not by that */
    uid_t uid;           /* of the user who owns the files */
    gid_t gid;
    struct mountpoint point;   /* for the child; borrows from here */
    struct child *child;       /* NULL: none runs */
    struct mux_stream *stream; /* of the call that waits for the child; NULL: it went away */
    struct buf words;          /* of the child */
};

struct mounts {
    struct mounts_options options;
    struct mount *list;
    size_t count;
    unsigned next_number;
    int table_fd; /* /proc/self/mountinfo, which tells when it changes; -1 */
    struct loop_watch *table;
};

/* ---- mounts.c ---- */

/* NULL: none has the tag. */
struct mount *mounts_find(const struct mounts *mounts, const char *tag);
struct mount *mounts_new_one(struct mounts *mounts, const char *tag, const char *path);
void mounts_free_one(struct mount *mount);
/* The instance's user; before it exists, or without one, root. */
void mounts_find_user(struct mount *mount, const char *asked);
/* False: no room; the stream is still the caller's. */
bool mounts_reply(const struct mount *mount, struct mux_stream *stream, bool resumed);
void mounts_on_fuse_ended(struct fuse *fuse, void *arg);

/* ---- mounts_sshfs.c ---- */

/* The answer comes at once; when it is there, Follow says. */
int mounts_begin_sshfs(struct mounts *mounts, const struct rpc_call *call,
                       const lima_guest_v1_MountRequest *request, const char *path, bool replaces,
                       struct error *err);

/* ---- mounts_kept.c ---- */

/* @fn: of keep.h, or the one below. */
void mounts_keep(const struct mount *mount, void (*fn)(const char *name, int fd));
void mounts_remove_kept(const char *name, int fd);
/* Goes on with what an earlier process has left. */
void mounts_resume_kept(struct mounts *mounts);
