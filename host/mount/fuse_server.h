/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves the FUSE requests of one guest's kernel from a tree. One message in, at most one answer
 * out; what a request waits for is the host's file system, and nothing else. What is to be read
 * from the disk, or synced, is answered later, so that the others need not wait (disk.h).
 *
 * OPEN, OPENDIR and FLUSH are answered ENOSYS, so that the kernel does without them from then on:
 * all state belongs to nodes (nodes.h). Every file is shown as owned by the guest's user, unless
 * the guest has given it away (owners.h); modes, times, links and "user." attributes pass as they
 * are. What the guest's mount does by itself: permission checks (default_permissions), locks,
 * device numbers.
 *
 * A request that comes a second time, because its answer was lost with the connection that carried
 * it, is answered as it was the first time (journal.h).
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/error.h"
#include "mount/disk.h"
#include "mount/journal.h"
#include "mount/tree.h"

struct fuse_server;

struct fuse_server_options {
    const struct tree *tree; /* borrowed */
    const char *state;       /* path of the journal; NULL: none, for tests */
    uint8_t id[JOURNAL_ID_LEN];
    uint32_t cache_ms; /* how long the guest may rely on what is not watched; 0: on nothing */
    size_t fd_max;
    struct disk *disk; /* borrowed; NULL: everything is waited for */
};

/* Takes up what an earlier process of the same mount has left. */
int fuse_server_new(const struct fuse_server_options *options, struct fuse_server **ret,
                    struct error *err);
void fuse_server_free(struct fuse_server *server);
SCOPED_PTR(struct fuse_server, fuse_server_free)
/* Who owns everything, as the guest numbers its users. Before the first message. */
void fuse_server_set_owner(struct fuse_server *server, uid_t uid, gid_t gid);

/*
 * Serves the whole message @data (aligned to 8, length from fuse_message_len()); its answer is
 * appended to @out, whose cap must allow FUSE_WRITE_MAX more. -ENOTCONN: the guest speaks as if of
 * a mount that was begun with another server, whose state is lost; nothing was answered.
 */
int fuse_server_message(struct fuse_server *server, const void *data, size_t len, struct buf *out);
/*
 * Once disk_fd() is readable: appends one answer that is due to @out, whose cap must allow
 * FUSE_WRITE_MAX more. False: none is.
 */
bool fuse_server_finish(struct fuse_server *server, struct buf *out);
/* Nobody is connected any more, and what is done for the last one waits to be asked for again. */
void fuse_server_cut(struct fuse_server *server);
/* Another connection: what was on its way by the last one is told again. */
void fuse_server_restart(struct fuse_server *server);
/* Whether the guest replays what the host does, for those who watch there (replay.h). */
void fuse_server_set_events(struct fuse_server *server, bool events);
/*
 * Readable: fuse_server_changed() is due, which appends notifications of changes to @out, with
 * the number 0. -1: never. -ENOBUFS: they have no room there, and the connection is of no use any
 * more.
 */
int fuse_server_watch_fd(const struct fuse_server *server);
int fuse_server_changed(struct fuse_server *server, struct buf *out);
/* The host has mounted something at @path, from the shared folder, or unmounted it; likewise. */
int fuse_server_remounted(struct fuse_server *server, const char *path, struct buf *out);
/* fuse_server_changed() is due after some 10 ms, whatever happens. */
bool fuse_server_waits(const struct fuse_server *server);
/* Nothing was asked for some 10 ms: files that were written are closed. */
void fuse_server_idle(struct fuse_server *server);
