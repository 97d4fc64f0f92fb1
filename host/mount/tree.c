/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/alloc.h"

#define ALWAYS (O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

struct tree {
    int root;
    bool writable;
    bool no_openat2; /* Linux before 5.6 */
};

int tree_open(const char *source, bool writable, struct tree **ret, struct error *err)
{
    scoped(tree_free) struct tree *tree = xnew(struct tree);
    struct open_how how = {.flags = O_PATH | O_CLOEXEC | O_DIRECTORY};
    int probe;

    tree->writable = writable;
    tree->root = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (tree->root < 0) {
        return error_errno(err, errno, "opening '%s'", source);
    }
    probe = (int)syscall(SYS_openat2, tree->root, ".", &how, sizeof(how));
    tree->no_openat2 = probe < 0;
    fd_close(probe);
    *ret = steal(tree);
    return 0;
}

void tree_free(struct tree *tree)
{
    if (tree) {
        fd_close(tree->root);
        free(tree);
    }
}

int tree_root(const struct tree *tree)
{
    return tree->root;
}

bool tree_writable(const struct tree *tree)
{
    return tree->writable;
}

bool tree_is_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int tree_open_at(const struct tree *tree, int dir_fd, const char *name, int flags, mode_t mode)
{
    int all = flags & O_PATH ? flags | O_NOFOLLOW | O_CLOEXEC : flags | ALWAYS;
    struct open_how how = {
        .flags = (uint64_t)all,
        .mode = flags & O_CREAT ? mode & 07777 : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    int fd;

    if (!tree_is_name(name)) {
        return -EINVAL;
    }
    if (tree->no_openat2) {
        fd = openat(dir_fd, name, all, mode);
    } else {
        fd = (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
    }
    return fd < 0 ? -errno : fd;
}

#define TRIES 16 /* while somebody renames folders that a link with ".." leads through */

static int open_path_now(const struct tree *tree, const char *path, int flags, bool follow)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (follow ? 0 : RESOLVE_NO_SYMLINKS),
    };
    int fd = -1;

    for (unsigned i = 0; i < TRIES; i++) {
        fd = (int)syscall(SYS_openat2, tree->root, *path ? path : ".", &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN) {
            break;
        }
    }
    return fd < 0 ? -errno : fd;
}

/* One name after the other. */
static int walk(const struct tree *tree, const char *path, int flags)
{
    scoped(free) char *copy = xstrdup(path);
    scoped(fd_close) int dir = -1;
    char *rest = NULL;
    int at = tree->root;

    for (char *name = strtok_r(copy, "/", &rest), *next; name; name = next) {
        int fd;

        next = strtok_r(NULL, "/", &rest);
        fd = tree_open_at(tree, at, name, next ? O_PATH | O_DIRECTORY : flags, 0);
        if (fd < 0 || !next) {
            return fd;
        }
        fd_close(dir);
        at = dir = fd;
    }
    return tree_reopen(tree->root, flags);
}

int tree_open_path(const struct tree *tree, const char *path, int flags, bool follow)
{
    int all = flags | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);

    all |= flags & O_PATH ? 0 : O_NOCTTY | O_NONBLOCK;
    return tree->no_openat2 ? walk(tree, path, flags) : open_path_now(tree, path, all, follow);
}

int tree_open_parent(const struct tree *tree, const char *path, bool follow, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    scoped(free) char *parent = xstrndup(path, slash ? (size_t)(slash - path) : 0);
    int fd = *path ? tree_open_path(tree, parent, O_PATH | O_DIRECTORY, follow) : -EBUSY;

    if (fd >= 0) {
        *ret_name = slash ? slash + 1 : path;
    }
    return fd;
}

void tree_fd_path(int fd, char ret[TREE_FD_PATH_MAX])
{
    snprintf(ret, TREE_FD_PATH_MAX, "/proc/self/fd/%d", fd);
}

int tree_reopen(int fd, int flags)
{
    char path[TREE_FD_PATH_MAX];
    int r;

    tree_fd_path(fd, path);
    r = open(path, (flags | ALWAYS) & ~O_NOFOLLOW);
    return r < 0 ? -errno : r;
}
