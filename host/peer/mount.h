/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of the host in the guest: the calls Mount, Follow, Unmount, Touch and Settled. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "mux/mux.h"
#include "peer/client.h"

#define PEER_MOUNT_ID_LEN 16 /* bytes, as guest.options has it */

struct peer_mount; /* a call that waits for its answer */

enum peer_mount_kind { /* lima.guest.v1.MountRequest.Kind */
                       PEER_MOUNT_AGENT,
                       PEER_MOUNT_9P,
                       PEER_MOUNT_VIRTIOFS,
                       PEER_MOUNT_SSHFS,
};

struct peer_mount_request {
    enum peer_mount_kind kind;
    const char *tag, *mount_point;
    const char *options; /* of mount(2), for kinds with a device; of sshfs; else "" */
    const char *user;    /* who owns the files */
    bool writable;
    bool replays;     /* what the host does, for those who watch (lima/mount.h) */
    uint32_t wait_ms; /* for a device that was added just now */
    uint8_t id[PEER_MOUNT_ID_LEN];
};

struct peer_mounted {
    bool resumed; /* it was there, and its requests go on */
    uint32_t uid, gid;
    bool replays; /* can */
};

/*
 * The only call: 0 with @mounted and of PEER_MOUNT_AGENT and _SSHFS the @stream, which is the
 * callee's, its ops to be set at once. Else the guest's own -errno, with its words in @text or
 * NULL, or ENOTCONN with the session. Of the other calls there are no @mounted and @stream.
 */
typedef void (*peer_mount_fn)(int r, const char *text, const struct peer_mounted *mounted,
                              struct mux_stream *stream, void *arg);

/* NULL while the session is down or no stream can be had. @done never comes before this returns. */
struct peer_mount *peer_mount_open(struct peer *peer, const struct peer_mount_request *request,
                                   peer_mount_fn done, void *arg);
/*
 * Of PEER_MOUNT_SSHFS, which is answered before it is mounted: 1 now it is; then, as the last call,
 * 0 the guest has unmounted it; or -errno, with words or NULL: it never was mounted, or broke.
 */
typedef void (*peer_follow_fn)(int r, const char *text, void *arg);
struct peer_follow; /* a call that goes on */
/* NULL as above. */
struct peer_follow *peer_mount_follow(struct peer *peer, const char *tag, peer_follow_fn done,
                                      void *arg);
/* No callback comes any more. NULL is fine. */
void peer_follow_cancel(struct peer_follow *follow);
/* @lazy: also when it is in use. */
struct peer_mount *peer_mount_remove(struct peer *peer, const char *tag, bool lazy,
                                     peer_mount_fn done, void *arg);
/* Of a mount with a device: with 0 comes the @stream, which carries lima/touch.h. */
struct peer_mount *peer_mount_touch(struct peer *peer, const char *tag, peer_mount_fn done,
                                    void *arg);
/* All mounts are made, or have failed: provisioning may go on. */
struct peer_mount *peer_mount_settled(struct peer *peer, peer_mount_fn done, void *arg);
/* No callback comes any more. NULL is fine. */
void peer_mount_cancel(struct peer_mount *mount);
