/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount by the guest's own sshfs: a child of ours mounts, and has sshfs serve it, whose standard
 * input and output are joined to a stream, at whose other end the host speaks SFTP. Both end with
 * the stream, and the mount with them.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "child.h"
#include "rpc.h"
#include "tunnel.h"

#define SSHFS_TYPE "fuse.sshfs" /* in the table of mounts */

struct sshfs;

struct sshfs_options { /* borrowed until the end, but for @options */
    struct children *children;
    struct tunnels *tunnels;
    const char *source; /* as the table of mounts will have it */
    const char *path;
    const char *options; /* more of sshfs's own, "cache=no,follow_symlinks"; may be "" */
    bool read_only;
    bool replaces; /* what is mounted there goes first */
    /* The program has ended, and who follows knows it. May free the sshfs. */
    void (*ended)(void *arg);
    void *arg;
};

/* Starts the program. Errors: ENOENT (the guest has none), ENOTSUP (one before version 3.7). */
int sshfs_start(const struct sshfs_options *options, struct sshfs **ret, struct error *err);
/* Kills it, if need be; no ended() comes. NULL is fine. */
void sshfs_free(struct sshfs *sshfs);
SCOPED_PTR(struct sshfs, sshfs_free)
/* The same of one that was unmounted: it ends by itself. */
void sshfs_release(struct sshfs *sshfs);
/* To be called once, with a stream that was replied to: SFTP from now on. */
void sshfs_join(struct sshfs *sshfs, struct mux_stream *stream);
/*
 * The call "Follow": replied to when it is mounted, ended when it is not any more; refused if it
 * never was, reset if the program died. A newer call takes the place of an older one.
 */
void sshfs_follow(struct sshfs *sshfs, const struct rpc_call *call);
