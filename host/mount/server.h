/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file server process (fileserver.c) as the host agent sees it: found or started, connected to,
 * watched. It outlives the host agent, and ends with the VM or when it is told.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "mount/journal.h"
#include "util/loop.h"

struct mount_server;

struct mount_server_options {
    const char *source;
    const char *dir; /* of its socket and state; made if need be, for the user alone */
    bool writable;
    pid_t vm;          /* with which it ends */
    uint32_t cache_ms; /* how long the guest may rely on what it knows */
    bool sftp;         /* not the requests of FUSE; @cache_ms means nothing then */
    bool follow;       /* links, as far as they stay in the folder; with @sftp */
};

struct mount_server_events {
    /* It listens; mount_server_connect() works. */
    void (*ready)(void *arg);
    /* It has ended, or did not even begin; the handle is invalid. @reason is borrowed. */
    void (*ended)(const char *reason, void *arg);
};

/*
 * Takes over the one that runs for this folder, else starts one, which goes on with what an earlier
 * one has left. ready() or ended() follow, never before this returns. Errors: ENOENT (no such
 * program, or folder), EACCES.
 */
int mount_server_open(struct loop *loop, const struct mount_server_options *options,
                      const struct mount_server_events *events, void *arg,
                      struct mount_server **ret, struct error *err);
/* Leaves the process alone. NULL is fine. */
void mount_server_leave(struct mount_server *server);
/* Tells it to end: ended() follows, and its folder is gone then. */
void mount_server_stop(struct mount_server *server);
/* Number of the mount: what it has served so far belongs to that. */
const uint8_t *mount_server_id(const struct mount_server *server);
/*
 * A new connection, greeted: all files belong to @uid and @gid; @replays: the guest does what the
 * host does once more, for those who watch there. Non-blocking.
 */
int mount_server_connect(struct mount_server *server, uint32_t uid, uint32_t gid, bool replays,
                         int *ret_fd, struct error *err);
