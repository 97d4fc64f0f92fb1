/* SPDX-License-Identifier: Apache-2.0 */
/* What a mount of the configuration means: names, type, options, order. Pure, no I/O. */
#pragma once

#include "base/error.h"
#include "config/config.h"

/*
 * The tag: "lima-" and 16 hex digits, of the SHA-256 of location, ':' and mount point. It names the
 * device and the mount's source. Caller frees.
 */
char *mount_tag(const struct config_mount *mount) _nonnull_;

struct mount_choice {
    enum config_mount_type type; /* AGENT, 9P, VIRTIOFS or REVERSE_SSHFS */
    const char *instead;         /* constant: why it is not the type that was asked for, or NULL */
};

/* How @mount, of an instance with @mount_type, is made. */
struct mount_choice mount_choose(const struct config_mount *mount,
                                 enum config_mount_type mount_type);

/* Options of mount(2) for a 9p mount: "trans=virtio,version=...". Caller frees. */
char *mount_9p_options(const struct config_mount *mount) _nonnull_;
/* Of sshfs: "cache=no,follow_symlinks" or less, "". Caller frees. */
char *mount_sshfs_options(const struct config_mount *mount) _nonnull_;
/*
 * Why watchers in the guest cannot be shown what the host does in @mount, which is made as @type; a
 * constant, or NULL: they can.
 */
const char *mount_untold(const struct config_mount *mount, enum config_mount_type type);
/* "agent", "9p", ... */
const char *mount_type_name(enum config_mount_type type);

/*
 * Whether @a has to be mounted before @b: its mount point is above, or first by its bytes. For
 * qsort() by way of a callback; <0, 0, >0.
 */
int mount_compare(const struct config_mount *a, const struct config_mount *b);
