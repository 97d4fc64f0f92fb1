/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/owners.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include "base/alloc.h"
#include "mount/tree.h"

#define PATH_LEN  (TREE_FD_PATH_MAX + NAME_MAX + 2)
#define VALUE_MAX 48 /* four numbers of up to ten digits, with ':' and a NUL */

struct owners {
    int root_fd;
    bool any;
};

/* The link of a descriptor is to be followed, a name never is. */
static bool path_of(int dir_fd, const char *name, char ret[PATH_LEN])
{
    char dir[TREE_FD_PATH_MAX];

    tree_fd_path(dir_fd, dir);
    if (*name) {
        snprintf(ret, PATH_LEN, "%s/%s", dir, name);
    } else {
        snprintf(ret, PATH_LEN, "%s", dir);
    }
    return *name;
}

struct owners *owners_new(int root_fd)
{
    struct owners *owners = xnew(struct owners);
    char path[PATH_LEN];

    owners->root_fd = root_fd;
    path_of(root_fd, "", path);
    owners->any = getxattr(path, OWNERS_FLAG, NULL, 0) >= 0;
    return owners;
}

void owners_free(struct owners *owners)
{
    free(owners);
}

bool owners_any(const struct owners *owners)
{
    return owners->any;
}

static bool can_have(mode_t mode)
{
    return S_ISREG(mode) || S_ISDIR(mode);
}

static bool parse(const char *value, struct owner *ret)
{
    unsigned uid, gid, type = 0, rdev = 0;
    int end = 0;

    if (sscanf(value, "%u:%u%n", &uid, &gid, &end) != 2) {
        return false;
    }
    if (value[end]) {
        end = 0;
        (void)sscanf(value, "%*u:%*u:%o:%u%n", &type, &rdev, &end);
        if (!end || value[end] || (type != S_IFCHR && type != S_IFBLK)) {
            return false;
        }
    }
    *ret = (struct owner){uid, gid, type, rdev};
    return true;
}

bool owners_get(const struct owners *owners, int dir_fd, const char *name, mode_t mode,
                struct owner *ret)
{
    char path[PATH_LEN], value[VALUE_MAX];
    ssize_t n;

    if (!owners->any || !can_have(mode)) {
        return false;
    }
    n = path_of(dir_fd, name, path) ? lgetxattr(path, OWNERS_ATTRIBUTE, value, VALUE_MAX - 1)
                                    : getxattr(path, OWNERS_ATTRIBUTE, value, VALUE_MAX - 1);
    if (n <= 0) {
        return false;
    }
    value[n] = '\0';
    return parse(value, ret) && (!ret->type || S_ISREG(mode));
}

static int mark(struct owners *owners)
{
    char path[PATH_LEN];

    if (owners->any) {
        return 0;
    }
    path_of(owners->root_fd, "", path);
    if (setxattr(path, OWNERS_FLAG, "1", 1, 0) < 0) {
        return -EPERM;
    }
    owners->any = true;
    return 0;
}

int owners_set(struct owners *owners, int dir_fd, const char *name, mode_t mode,
               const struct owner *owner)
{
    char path[PATH_LEN], value[VALUE_MAX];
    int len = owner->type ? snprintf(value, sizeof(value), "%u:%u:%o:%u", owner->uid, owner->gid,
                                     owner->type, owner->rdev)
                          : snprintf(value, sizeof(value), "%u:%u", owner->uid, owner->gid);
    int r = can_have(mode) ? mark(owners) : -EPERM;

    if (r < 0) {
        return r;
    }
    r = path_of(dir_fd, name, path) ? lsetxattr(path, OWNERS_ATTRIBUTE, value, (size_t)len, 0)
                                    : setxattr(path, OWNERS_ATTRIBUTE, value, (size_t)len, 0);
    if (r < 0) {
        return errno == EOPNOTSUPP || errno == EACCES ? -EPERM : -errno;
    }
    return 0;
}

int owners_unset(struct owners *owners, int dir_fd, const char *name, mode_t mode)
{
    char path[PATH_LEN];
    int r;

    if (!owners->any || !can_have(mode)) {
        return 0;
    }
    r = path_of(dir_fd, name, path) ? lremovexattr(path, OWNERS_ATTRIBUTE)
                                    : removexattr(path, OWNERS_ATTRIBUTE);
    return r < 0 && errno != ENODATA ? -errno : 0;
}
