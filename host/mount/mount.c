/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/mount.h"

#include <inttypes.h>
#include <string.h>
#include "base/alloc.h"
#include "util/digest.h"

#define TAG_BYTES 8

char *mount_tag(const struct config_mount *mount)
{
    scoped(free) char *text = xasprintf("%s:%s", mount->location, mount->mount_point);
    scoped(free) char *hex = digest_sha256_hex(text, strlen(text));

    return xasprintf("lima-%.*s", TAG_BYTES * 2, hex);
}

struct mount_choice mount_choose(const struct config_mount *mount,
                                 enum config_mount_type mount_type)
{
    enum config_mount_type type = mount->type == CONFIG_MOUNT_DEFAULT ? mount_type : mount->type;

    switch (type) {
    case CONFIG_MOUNT_9P:
        return (struct mount_choice){CONFIG_MOUNT_9P, NULL};
    case CONFIG_MOUNT_VIRTIOFS:
        return (struct mount_choice){CONFIG_MOUNT_VIRTIOFS, NULL};
    case CONFIG_MOUNT_REVERSE_SSHFS:
        return (struct mount_choice){CONFIG_MOUNT_REVERSE_SSHFS, NULL};
    case CONFIG_MOUNT_WSL2:
        return (struct mount_choice){CONFIG_MOUNT_AGENT, "wsl2 is for Windows alone"};
    default:
        return (struct mount_choice){CONFIG_MOUNT_AGENT, NULL};
    }
}

const char *mount_type_name(enum config_mount_type type)
{
    return type == CONFIG_MOUNT_9P              ? "9p"
           : type == CONFIG_MOUNT_VIRTIOFS      ? "virtiofs"
           : type == CONFIG_MOUNT_REVERSE_SSHFS ? "reverse-sshfs"
                                                : "agent";
}

char *mount_9p_options(const struct config_mount *mount)
{
    return xasprintf("trans=virtio,version=%s,msize=%" PRId64 ",cache=%s", mount->protocol_version,
                     mount->msize, mount->cache);
}

char *mount_sshfs_options(const struct config_mount *mount)
{
    bool cached = mount->sshfs_cache, follows = mount->follow_symlinks;

    return xasprintf("%s%s%s", cached ? "" : "cache=no", !cached && follows ? "," : "",
                     follows ? "follow_symlinks" : "");
}

const char *mount_untold(const struct config_mount *mount, enum config_mount_type type)
{
    if (type == CONFIG_MOUNT_AGENT) {
        return NULL;
    }
    if (!mount->writable) {
        return "it is read-only, so the guest cannot touch anything there";
    }
    if (type == CONFIG_MOUNT_REVERSE_SSHFS && mount->sshfs_cache) {
        return "with its 'sshfs.cache' the guest would give files a mode that is old";
    }
    if (type != CONFIG_MOUNT_9P) {
        return NULL;
    }
    if (strcmp(mount->protocol_version, "9p2000.L") != 0) {
        return "its 'protocolVersion' has no way to touch a file that leaves its times alone";
    }
    return strcmp(mount->cache, "none") == 0 || strcmp(mount->cache, "mmap") == 0
               ? NULL
               : "with its 'cache' the guest never looks at what the host has changed";
}

int mount_compare(const struct config_mount *a, const struct config_mount *b)
{
    return strcmp(a->mount_point, b->mount_point);
}
