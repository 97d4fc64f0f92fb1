/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host has done to a shared folder, done once more on the mount (lima/mount.h), so that
 * the kernel tells those who watch there. The host's server knows these requests by the process
 * that makes them, and answers from what is there already.
 *
 * All of it waits for the server, so only a child process may call it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct replay {
    int fuse_fd;   /* of the kernel that is to forget what cannot be done; borrowed */
    int tree_fd;   /* negative: nothing can be done */
    int folder_fd; /* the last one, while it may be wanted again; -1 */
    uint64_t folder;
    uint32_t generation;
};

/*
 * A way to the mount of @source at @path that is writable even if that is not, and does not keep
 * anybody from unmounting it; but the file system lives as long as the descriptor does. -errno:
 * ENOSYS (Linux before 5.2; before 5.12 if it is not writable), ESTALE (another mount is on top).
 */
int replay_open(struct replay *replay, const char *source, const char *path);
/*
 * Descriptor (O_PATH) of a folder of the mount at @tree_fd that the kernel knows by its number; for
 * the caller to close. -errno: ESTALE.
 */
int replay_open_folder(int tree_fd, uint64_t node, uint32_t generation);
/*
 * @message: a whole notification LIMA_MOUNT_REPLAY. What cannot be done makes the kernel forget the
 * names that it is about.
 */
void replay_do(struct replay *replay, const void *message, size_t len);
/* Nothing more is to be done just now: nothing is kept open that others might want to see go. */
void replay_rest(struct replay *replay);
