/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder of the host that nobody walks out of: descriptors of folders below it, and single names
 * in them. No symbolic link is ever followed here, and no ".." taken; the only paths with a slash
 * are "/proc/self/fd/N" of descriptors that we hold. openat2(2) enforces the same where the kernel
 * has it, and the sandbox (sandbox.h) once more.
 *
 * Functions give -errno; nothing is logged.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include "base/error.h"
#include "base/macros.h"

struct tree;

/* @source is a folder; symbolic links in its own path are followed, once, now. */
int tree_open(const char *source, bool writable, struct tree **ret, struct error *err);
void tree_free(struct tree *tree);
SCOPED_PTR(struct tree, tree_free)
/* O_PATH descriptor of the folder itself; borrowed. */
int tree_root(const struct tree *tree);
bool tree_writable(const struct tree *tree);

/* One component that leads to no other folder than the one it is looked up in. */
bool tree_is_name(const char *name);
/*
 * Opens @name in the folder @dir_fd: @flags as open(2), O_NOFOLLOW, O_CLOEXEC, O_NOCTTY and
 * O_NONBLOCK are added. A symbolic link is opened with O_PATH alone. Returns a descriptor or
 * -errno.
 */
int tree_open_at(const struct tree *tree, int dir_fd, const char *name, int flags, mode_t mode);
/*
 * The same for what @path leads to from the tree's own folder: names with a '/' between each two,
 * none of them empty, "." or ".."; "" is the folder itself. @follow: links on the way and at its
 * end are followed (unless O_NOFOLLOW) as long as they stay below the folder; else they are -ELOOP
 * or -ENOTDIR, and always so on Linux before 5.6. Leading out is -EXDEV.
 */
int tree_open_path(const struct tree *tree, const char *path, int flags, bool follow);
/*
 * O_PATH descriptor of the folder that @path's last name, *@ret_name, is in; that points into
 * @path. -EBUSY: @path is "".
 */
int tree_open_parent(const struct tree *tree, const char *path, bool follow, const char **ret_name);
/* Opens what the O_PATH descriptor @fd stands for; not a symbolic link. */
int tree_reopen(int fd, int flags);

#define TREE_FD_PATH_MAX 32
/* "/proc/self/fd/N", for calls that take no descriptor; of a symbolic link: the link itself. */
void tree_fd_path(int fd, char ret[TREE_FD_PATH_MAX]);
