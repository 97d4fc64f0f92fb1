/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owners that the guest has given to files. On the host everything belongs to whoever serves it, so
 * they are kept beside: in an extended attribute of the file, OWNERS_ATTRIBUTE, as "UID:GID" in the
 * guest's numbers. Regular files and folders only: the kernel lets no others have one. A share
 * where the guest has given nothing away has no OWNERS_FLAG, and no file in it is asked.
 *
 * A device that the guest has made is an empty regular file here, whose attribute goes on with
 * ":TYPE:NUMBER" (octal file type of stat(2), decimal number of the device). The mount in the guest
 * lets nobody open it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include "base/macros.h"

#define OWNERS_PREFIX    "user.lima."
#define OWNERS_ATTRIBUTE OWNERS_PREFIX "owner"
#define OWNERS_FLAG      OWNERS_PREFIX "owners" /* of the shared folder itself */

struct owners;

struct owner { /* in the guest's numbers */
    uint32_t uid, gid;
    mode_t type; /* S_IFCHR, S_IFBLK; 0: what the file is */
    uint32_t rdev;
};

/* @root_fd: O_PATH, of the shared folder; borrowed. */
struct owners *owners_new(int root_fd);
void owners_free(struct owners *owners);
SCOPED_PTR(struct owners, owners_free)

/* Somebody has given a file away, some time. */
bool owners_any(const struct owners *owners);
/* Of @name in the folder @dir_fd, or "" for that descriptor itself. False: it has none of its own.
 */
bool owners_get(const struct owners *owners, int dir_fd, const char *name, mode_t mode,
                struct owner *ret);
/* 0 or -errno: EPERM (it can have none: a symbolic link, or a file system without attributes). */
int owners_set(struct owners *owners, int dir_fd, const char *name, mode_t mode,
               const struct owner *owner);
/* It is the default one again. */
int owners_unset(struct owners *owners, int dir_fd, const char *name, mode_t mode);
