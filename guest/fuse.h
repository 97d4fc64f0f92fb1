/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount whose files the host serves: this program holds /dev/fuse itself, and passes the kernel's
 * requests to a stream of the host and its answers back, unchanged. Of those it looks at no more
 * than lengths and numbers, but for the few that the host has answered before they are made
 * (ahead.h). Requests that are not answered when the stream ends are sent again on the
 * next one, oldest first; programs that wait for them just wait.
 *
 * The host's notifications are given to the kernel by a child process (notifier.h), and the host is
 * told when they were taken, by pseudo-requests among the kernel's own.
 *
 * Nothing here touches a path below the mount: that would wait for ourselves.
 */
#pragma once

#include "base/error.h"
#include "child.h"
#include "fuselog.h"
#include "loop.h"
#include "mux/mux.h"

struct fuse;

struct fuse_options {
    struct loop *loop;
    struct children *children; /* for notifications; NULL: they are thrown away */
    /* The kernel has ended the connection: it was unmounted. May free the fuse. */
    void (*ended)(struct fuse *fuse, void *arg);
    void *arg;
};

/* Opens /dev/fuse. Errors: ENOENT, ENODEV (the kernel has none), EACCES. */
int fuse_new(const struct fuse_options *options, const struct fuselog_mount *mount,
             struct fuse **ret, struct error *err);
/* From what an earlier process held; takes both. */
struct fuse *fuse_resume(const struct fuse_options *options, int take_fd,
                         struct fuselog *take_log) _nonnull_;
/* Ends the connection: what waits for it gets ENOTCONN, unless somebody else holds it too. */
void fuse_free(struct fuse *fuse);
SCOPED_PTR(struct fuse, fuse_free)

int fuse_fd(const struct fuse *fuse);
int fuse_log_fd(const struct fuse *fuse);
const struct fuselog_mount *fuse_mount(const struct fuse *fuse);
/* Serves by @stream from now on; an older one is reset. */
void fuse_attach(struct fuse *fuse, struct mux_stream *stream);
/*
 * Processes of ours may keep the file system alive for what they have to do there; they end. To be
 * called when nobody else has it mounted.
 */
bool fuse_is_held(const struct fuse *fuse);
void fuse_let_go(struct fuse *fuse);
/* Leaves the stream alone, to be reset by its owner. */
void fuse_detach(struct fuse *fuse);
