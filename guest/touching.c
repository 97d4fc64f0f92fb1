/* SPDX-License-Identifier: Apache-2.0 */
#include "touching.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "lima/touch.h"
#include "mountpoint.h"

#define HELD_MAX     4096
#define FDS_RESERVED 64
#define BUFFER_MAX   (LIMA_TOUCH_WINDOW * (LIMA_TOUCH_HEAD + LIMA_TOUCH_PATH_MAX))
#define MODE_BITS    07777

#define TREE_CLONE 1 /* linux/mount.h, which some sys/mount.h do not bear beside them */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef AT_STATX_FORCE_SYNC
#define AT_STATX_FORCE_SYNC 0x2000
#endif
#define MASK_TYPE_MODE_UID 0xb

struct status { /* struct statx of linux/stat.h, which not all sys/stat.h bear beside them */
    uint32_t mask, block_size;
    uint64_t attributes;
    uint32_t links, uid, gid;
    uint16_t mode, unused;
    uint64_t rest[28];
};
static_assert(sizeof(struct status) == 256, "as the kernel has it");

struct held {
    char *path;
    int fd; /* O_PATH */
    uint64_t used;
};

struct work {
    const struct touching *about;
    int tree_fd, table_fd;
    struct held held[HELD_MAX];
    size_t held_count, held_max;
    uint64_t clock;
    struct buf in;
};

/* --- folders that are held --- */

static struct held *find_held(struct work *work, const char *path)
{
    for (size_t i = 0; i < work->held_count; i++) {
        if (strcmp(work->held[i].path, path) == 0) {
            return &work->held[i];
        }
    }
    return NULL;
}

static void let_go(struct work *work, size_t index)
{
    close(work->held[index].fd);
    free(work->held[index].path);
    work->held[index] = work->held[--work->held_count];
}

static bool is_below(const char *path, const char *top)
{
    size_t len = strlen(top);

    return strncmp(path, top, len) == 0 && (!path[len] || path[len] == '/' || !len);
}

static void let_go_below(struct work *work, const char *top)
{
    for (size_t i = work->held_count; i-- > 0;) {
        if (is_below(work->held[i].path, top)) {
            let_go(work, i);
        }
    }
}

static void make_room(struct work *work)
{
    size_t oldest = 0;

    if (work->held_count < work->held_max) {
        return;
    }
    for (size_t i = 1; i < work->held_count; i++) {
        oldest = work->held[i].used < work->held[oldest].used ? i : oldest;
    }
    let_go(work, oldest);
}

/* --- walking --- */

static bool is_name(const char *name)
{
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Without what is mounted below, since the tree is a copy of this one mount. */
static int open_below(int dir, const char *name, int flags)
{
    int fd = is_name(name) ? openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC | flags) : -1;

    return fd >= 0 ? fd : is_name(name) ? -errno : -EINVAL;
}

/*
 * O_PATH descriptor of the folder that @path leads to: the caller's. From the nearest one above it
 * that is held.
 */
static int open_folder(struct work *work, const char *path)
{
    size_t begun = 0;
    int from = work->tree_fd;
    scoped(free) char *rest = NULL;
    scoped(fd_close) int fd = -1;
    char *at = NULL;

    for (size_t i = 0; i < work->held_count; i++) {
        struct held *held = &work->held[i];
        size_t len = strlen(held->path);

        if (len > begun && is_below(path, held->path)) {
            begun = len;
            from = held->fd;
            held->used = ++work->clock;
        }
    }
    rest = xstrdup(path + begun);
    fd = fcntl(from, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    for (char *name = strtok_r(rest, "/", &at); name; name = strtok_r(NULL, "/", &at)) {
        int next = open_below(fd, name, O_DIRECTORY);

        if (next < 0) {
            return next;
        }
        close(fd);
        fd = next;
    }
    return steal_fd(&fd);
}

/* What @path leads to, whatever it is. */
static int open_file(struct work *work, const char *path)
{
    scoped(free) char *parent = xstrdup(path);
    char *slash = strrchr(parent, '/');
    scoped(fd_close) int fd = -1;

    if (!*path) {
        return open_folder(work, "");
    }
    if (slash) {
        *slash = '\0';
    }
    fd = open_folder(work, slash ? parent : "");
    return fd < 0 ? fd : open_below(fd, slash ? slash + 1 : path, 0);
}

/* --- records --- */

static int hold(struct work *work, const char *path)
{
    struct held *held = find_held(work, path);
    int fd;

    if (held || !*path) { /* the root is, by the tree */
        return 0;
    }
    fd = open_folder(work, path);
    if (fd < 0) {
        return fd;
    }
    make_room(work);
    work->held[work->held_count++] = (struct held){xstrdup(path), fd, ++work->clock};
    return 0;
}

/*
 * Set anew, a mode makes the kernel tell of changed attributes. Where the host might take bits from
 * it (setgid, of a group that its user is not in), and for links, which have none, the owner does
 * the same; but that costs a file its setuid.
 */
static int touch(struct work *work, const char *path)
{
    scoped(fd_close) int fd = open_file(work, path);
    char name[32];
    struct status st;
    bool special;

    /* As it is on the host now: the kernel may remember another mode. */
    if (fd < 0 || syscall(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
                          MASK_TYPE_MODE_UID, &st) < 0) {
        return fd < 0 ? fd : -errno;
    }
    special = st.mode & (S_ISUID | S_ISGID);
    if (special && !S_ISDIR(st.mode)) {
        return -EOPNOTSUPP;
    }
    if (special || S_ISLNK(st.mode)) {
        return fchownat(fd, "", st.uid, (gid_t)-1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno
                                                                                            : 0;
    }
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    return chmod(name, st.mode & MODE_BITS) < 0 ? -errno : 0;
}

/* Has the kernel look whether it is there. */
static void look(struct work *work, const char *path)
{
    fd_close(open_file(work, path));
}

static int do_one(struct work *work, unsigned what, const char *path)
{
    int r = 0;

    if (what & LIMA_TOUCH_RESET) {
        let_go_below(work, "");
    }
    if (what & LIMA_TOUCH_REMOVED) {
        let_go_below(work, path);
        look(work, path);
    }
    if (what & LIMA_TOUCH_FOLDER) {
        r = hold(work, path);
    }
    return what & LIMA_TOUCH_TOUCH ? touch(work, path) : r;
}

static int answer(const struct work *work, int r)
{
    uint8_t byte = (uint8_t)(r < -255 ? EIO : -r);

    return write(work->about->fd, &byte, 1) == 1 ? 0 : -EPIPE;
}

/* All records that are there whole. */
static int do_all(struct work *work)
{
    while (work->in.len >= LIMA_TOUCH_HEAD) {
        struct lima_touch touch = lima_touch_decode((const uint8_t *)work->in.data);
        scoped(free) char *path = NULL;
        int r;

        if (touch.path_len > LIMA_TOUCH_PATH_MAX) {
            return -EBADMSG;
        }
        if (work->in.len < LIMA_TOUCH_HEAD + touch.path_len) {
            return 0;
        }
        path = xstrndup((const char *)work->in.data + LIMA_TOUCH_HEAD, touch.path_len);
        buf_drop(&work->in, LIMA_TOUCH_HEAD + touch.path_len);
        r = answer(work, do_one(work, touch.what, path));
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int receive(struct work *work)
{
    uint8_t bytes[16384];
    ssize_t n = read(work->about->fd, bytes, sizeof(bytes));

    if (n < 0 && errno == EINTR) {
        return 0;
    }
    if (n <= 0 || buf_put(&work->in, bytes, (size_t)n) < 0) {
        return -EPIPE;
    }
    return do_all(work);
}

/* --- life --- */

static bool is_there(const struct touching *about)
{
    return mountpoint_is(about->type, about->source, about->path);
}

static int open_all(struct work *work)
{
    const struct touching *about = work->about;
    struct rlimit limit;

    if (!is_there(about)) {
        return -ESTALE;
    }
    /* A copy of the mount: nobody who unmounts it is kept from that. */
    work->tree_fd = (int)syscall(SYS_open_tree, AT_FDCWD, about->path,
                                 TREE_CLONE | O_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    work->table_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (work->tree_fd < 0 || work->table_fd < 0) {
        return -errno;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return -errno;
    }
    limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)(HELD_MAX + FDS_RESERVED));
    setrlimit(RLIMIT_NOFILE, &limit);
    work->held_max = limit.rlim_cur > 2 * FDS_RESERVED ? limit.rlim_cur - FDS_RESERVED : 1;
    return 0;
}

static int serve(struct work *work)
{
    struct pollfd fds[] = {{.fd = work->about->fd, .events = POLLIN},
                           {.fd = work->table_fd, .events = POLLPRI}};
    int r = 0;

    while (r == 0) {
        if (poll(fds, ARRAY_LEN(fds), -1) < 0) {
            r = errno == EINTR ? 0 : -errno;
            continue;
        }
        if (fds[1].revents && !is_there(work->about)) {
            return -ESTALE;
        }
        r = fds[0].revents ? receive(work) : 0;
    }
    return r;
}

int touching_run(void *arg)
{
    struct work *work = xnew(struct work);
    int r;

    work->about = arg;
    work->in = BUF_INIT_CAP(BUFFER_MAX);
    r = open_all(work);
    if (answer(work, r) == 0 && r == 0) {
        (void)serve(work); /* ends in any case; who asked sees that */
    }
    return 0; /* and with the process all that is held */
}
