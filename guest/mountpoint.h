/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount(2) and what it needs, in a child process: everything here may wait for a server that we
 * pass the bytes of. Errors are printed for the parent to read.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define MOUNTPOINT_FUSE "fuse.lima" /* type of a mount that this program serves */

struct mountpoint {
    const char *source, *path, *type;
    const char *options; /* of those with a device */
    int fuse_fd;         /* -1: not FUSE */
    bool read_only;
    bool replays;     /* read-only, but for replay_open() */
    bool replaces;    /* what is mounted there goes first, whoever uses it */
    bool covers;      /* its server may never answer again: it goes (deadmount.h), or stays below */
    bool lazy;        /* when unmounting */
    unsigned wait_ms; /* for its device, which may not be there yet */
};

/* The kernel has a FUSE mount of ours with this source, somewhere. Does not wait. */
bool mountpoint_exists(const char *source);
/* The last mount at @path is of this @type and @source. Does not wait. */
bool mountpoint_is(const char *type, const char *source, const char *path);
/* As mountpoint_exists(), and its device. */
bool mountpoint_find(const char *source, dev_t *ret_device);

/* The same of another type of file system. */
bool mountpoint_find_type(const char *type, const char *source, dev_t *ret_device);

/*
 * Unmounts the last mount of @type (NULL: any) and @source, at @path or, if users have renamed a
 * folder on the way there, where it is now; what @path leads to by then is nothing of it. @flags as
 * umount2(2) has them; so is the result, but EBUSY also when another mount is on top of it, and
 * ENOENT, ELOOP while a user renames it. The working folder is "/" then.
 */
int mountpoint_detach(const char *type, const char *source, const char *path, int flags);

/* Both: an exit status, 0 when it is done. @arg: a struct mountpoint. */
int mountpoint_mount(void *arg);
int mountpoint_unmount(void *arg);
