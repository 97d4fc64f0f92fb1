/* SPDX-License-Identifier: Apache-2.0 */
#include "replay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>
#include "base/alloc.h"
#include "lima/mount.h"
#include "mountpoint.h"

/* linux/mount.h, which some sys/mount.h do not bear beside them. */
#define TREE_CLONE  1
#define ATTR_RDONLY 1
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
struct attributes {
    uint64_t set, clear, propagation, userns_fd;
};

#define HANDLE_TYPE 0x81 /* FILEID_INO64_GEN: two halves of the number, then the generation */
#define NODE_ROOT   1

struct handle { /* struct file_handle of open_by_handle_at(2) */
    unsigned bytes;
    int type;
    uint32_t number_high, number_low, generation;
};

static int open_tree(const char *source, const char *path)
{
    struct attributes writable = {.clear = ATTR_RDONLY};
    scoped(fd_close) int fd =
        (int)syscall(SYS_open_tree, AT_FDCWD, path, TREE_CLONE | O_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    struct stat st;
    int opened;
    dev_t device;

    if (fd < 0 ||
        syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &writable, sizeof(writable)) < 0) {
        /* Without the second, one that is writable is fine as it is. */
        if (fd < 0 || errno != ENOSYS) {
            return -errno;
        }
    }
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!mountpoint_find(source, &device) || device != st.st_dev) {
        return -ESTALE;
    }
    opened =
        openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* open_by_handle_at() wants it so */
    return opened < 0 ? -errno : opened;
}

int replay_open(struct replay *replay, const char *source, const char *path)
{
    replay->tree_fd = open_tree(source, path);
    return replay->tree_fd;
}

int replay_open_folder(int tree_fd, uint64_t node, uint32_t generation)
{
    struct handle handle = {.bytes = 12,
                            .type = HANDLE_TYPE,
                            .number_high = (uint32_t)(node >> 32),
                            .number_low = (uint32_t)node,
                            .generation = generation};
    int fd;

    if (node == NODE_ROOT) {
        fd = openat(tree_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    } else if (node == LIMA_REPLAY_ELSEWHERE_NODE) {
        fd = openat(tree_fd, LIMA_REPLAY_ELSEWHERE, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    } else {
        fd =
            (int)syscall(SYS_open_by_handle_at, tree_fd, &handle, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    return fd < 0 ? -errno : fd;
}

void replay_rest(struct replay *replay)
{
    fd_close(steal_fd(&replay->folder_fd));
}

/*
 * The same, borrowed until the next call. Kept, since each opening by number has the kernel look up
 * the folder's own name again.
 */
static int keep_folder(struct replay *replay, uint64_t node, uint32_t generation)
{
    int fd;

    if (replay->folder_fd >= 0 && replay->folder == node && replay->generation == generation) {
        return replay->folder_fd;
    }
    replay_rest(replay);
    fd = replay_open_folder(replay->tree_fd, node, generation);
    if (fd >= 0) {
        replay->folder_fd = fd;
        replay->folder = node;
        replay->generation = generation;
    }
    return fd;
}

static void tell_kernel(int fuse_fd, int code, const void *body, size_t len, const char *name)
{
    size_t name_size = name ? strlen(name) + 1 : 0;
    struct fuse_out_header head = {.len = (uint32_t)(sizeof(head) + len + name_size),
                                   .error = code};
    struct iovec parts[] = {{&head, sizeof(head)}, {(void *)body, len}, {(void *)name, name_size}};

    (void)!writev(fuse_fd, parts, 3); /* ENOENT: it was forgotten already */
}

static void forget_name(int fuse_fd, uint64_t dir, const char *name)
{
    struct fuse_notify_inval_entry_out entry = {.parent = dir, .namelen = (uint32_t)strlen(name)};
    struct fuse_notify_inval_inode_out inode = {.ino = dir, .off = -1};

    tell_kernel(fuse_fd, FUSE_NOTIFY_INVAL_ENTRY, &entry, sizeof(entry), name);
    tell_kernel(fuse_fd, FUSE_NOTIFY_INVAL_INODE, &inode, sizeof(inode), NULL);
}

static int make(int dir, const char *name, uint32_t mode)
{
    int r = S_ISDIR(mode)   ? mkdirat(dir, name, mode & 07777)
            : S_ISLNK(mode) ? symlinkat("?", dir, name)
                            : mknodat(dir, name, mode, makedev(0, 0));

    return r < 0 ? -errno : 0;
}

/* The kernel may have moved another file than the host did: only when it knew an older one there.
 */
static int move(int dir, const struct lima_replay *replay, const char *name, int dir2,
                const char *name2)
{
    struct stat st;

    if (syscall(SYS_renameat2, dir, name, dir2, name2, 0) < 0 ||
        fstatat(dir2, name2, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    return replay->ino && st.st_ino != replay->ino ? -ESTALE : 0;
}

static int open_and_close(int dir, const char *name)
{
    int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    close(fd);
    return 0;
}

/* Of what is there: the kernel tells of a change of the time of modification alone as of a write.
 */
static int touch(int dir, const char *name, bool content)
{
    const struct timespec modified[] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
    int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);

    return utimensat(dir, name, content ? modified : NULL, flags) < 0 ? -errno : 0;
}

static int run(int dir, const struct lima_replay *replay, const char *name, int dir2,
               const char *name2)
{
    switch (replay->op) {
    case LIMA_REPLAY_MAKE:
        return make(dir, name, replay->mode);
    case LIMA_REPLAY_REMOVE:
        return unlinkat(dir, name, S_ISDIR(replay->mode) ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
    case LIMA_REPLAY_MOVE:
        return move(dir, replay, name, dir2, name2);
    case LIMA_REPLAY_MODIFY:
    case LIMA_REPLAY_ATTRIBUTES:
        return touch(dir, name, replay->op == LIMA_REPLAY_MODIFY);
    case LIMA_REPLAY_CLOSE:
        return open_and_close(dir, name);
    default:
        return -EOPNOTSUPP;
    }
}

static bool is_name(const char *name, uint32_t len)
{
    return strlen(name) == len && len < 256 && !strchr(name, '/');
}

/* False: it is not whole. */
static bool parse(const void *message, size_t len, struct lima_replay *ret, const char **ret_name,
                  const char **ret_name2)
{
    size_t at = sizeof(struct fuse_out_header) + sizeof(*ret);
    const char *bytes = message;

    if (len < at + 2 || len > LIMA_REPLAY_MAX || bytes[len - 1]) {
        return false;
    }
    memcpy(ret, bytes + sizeof(struct fuse_out_header), sizeof(*ret));
    if (ret->name_len > 255 || at + ret->name_len + 1 >= len) {
        return false;
    }
    *ret_name = bytes + at;
    *ret_name2 = bytes + at + ret->name_len + 1;
    return is_name(*ret_name, ret->name_len) && is_name(*ret_name2, ret->name2_len);
}

static int do_one(struct replay *replay, const struct lima_replay *event, const char *name,
                  const char *name2)
{
    scoped(fd_close) int dir2 = -1;
    int dir, r;

    if (replay->tree_fd < 0) {
        return replay->tree_fd;
    }
    if (event->op == LIMA_REPLAY_MOVE) {
        dir2 = replay_open_folder(replay->tree_fd, event->dir2, event->generation2);
    }
    dir = keep_folder(replay, event->dir, event->generation);
    r = dir < 0 ? dir : run(dir, event, name, dir2, name2);
    if (r == -EEXIST) { /* somebody has looked at it since */
        forget_name(replay->fuse_fd, event->dir, name);
        r = run(dir, event, name, dir2, name2);
    }
    return r;
}

void replay_do(struct replay *replay, const void *message, size_t len)
{
    const char *name, *name2;
    struct lima_replay event;

    if (!parse(message, len, &event, &name, &name2)) {
        return;
    }
    if (event.op == LIMA_REPLAY_REMOVE) {
        replay_rest(replay); /* it might be that folder */
    }
    if (do_one(replay, &event, name, name2) == 0) {
        return;
    }
    if (*name) {
        forget_name(replay->fuse_fd, event.dir, name);
    }
    if (*name2) {
        forget_name(replay->fuse_fd, event.dir2, name2);
    }
}
