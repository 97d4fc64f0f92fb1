/* SPDX-License-Identifier: Apache-2.0 */
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/alloc.h"
#include "deadmount.h"
#include "files.h"
#include "mountdevice.h"

#define READ_AHEAD    "1024" /* KiB: what one answer holds */
#define MOUNTINFO_MAX (1u << 20)
#define FDINFO_MAX    4096
#define LINKS_MAX     40 /* as the kernel has it */
#define FD_PATH_MAX   32

static int fail(const char *what, const char *path)
{
    int code = errno;

    printf("%s '%s': %s", what, path, strerror(code));
    fflush(stdout);
    return code < 128 ? code : EIO; /* the parent takes it for the errno */
}

/* --- the folder to mount on --- */

/*
 * The way there leads through folders that users of the guest may own and change at any moment, so
 * it is gone by descriptors, and the mount is made on the last of them.
 */
struct walk {
    int parent_fd, fd; /* of the folder that was reached, and of the one it is in; O_PATH */
    struct stat st;    /* of @fd */
    char *name;        /* of @fd in @parent_fd */
    char *rest;        /* of the path */
    unsigned links;
    uid_t linker; /* who, other than root, has made a link that was followed; 0: nobody */
};

static void walk_done(struct walk *walk)
{
    fd_close(walk->parent_fd);
    fd_close(walk->fd);
    free(walk->name);
    free(walk->rest);
}

SCOPED_VAL(struct walk, walk_done)

/* @take_fd, reached by @name, is the place where we are. */
static int enter(struct walk *walk, const char *name, int take_fd)
{
    char *copy = xstrdup(name);

    fd_close(walk->parent_fd);
    walk->parent_fd = walk->fd;
    walk->fd = take_fd;
    free(walk->name);
    walk->name = copy;
    return fstat(take_fd, &walk->st);
}

static int go_to_root(struct walk *walk)
{
    int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -1 : enter(walk, ".", fd);
}

/* Off the front of the path; NULL: it ends. */
static char *take_component(struct walk *walk)
{
    char *begin = walk->rest + strspn(walk->rest, "/");
    size_t len = strcspn(begin, "/");
    char *name = len ? xstrndup(begin, len) : NULL;

    memmove(walk->rest, begin + len, strlen(begin + len) + 1);
    return name;
}

/* What a user's link leads to must be that user's: else it has us mount over what it may not touch.
 */
static bool may_use(const struct walk *walk)
{
    return !walk->linker || walk->st.st_uid == walk->linker;
}

/*
 * A folder that is missing belongs to the owner of the one it is made in, so homes stay homes. It
 * is that owner who makes it: given away later, it might be another one by then.
 */
static int make_missing(const struct walk *walk, const char *name)
{
    int r;

    if (!may_use(walk)) {
        errno = ELOOP;
        return -1;
    }
    setfsgid(walk->st.st_uid ? walk->st.st_gid : 0);
    setfsuid(walk->st.st_uid);
    r = mkdirat(walk->fd, name, 0755);
    r = r < 0 && errno == EEXIST ? 0 : r;
    setfsuid(0);
    setfsgid(0);
    return r;
}

static int follow(struct walk *walk, int link_fd, const struct stat *st)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(link_fd, "", target, sizeof(target) - 1);
    char *rest;

    if (n < 0) {
        return -1;
    }
    if (++walk->links > LINKS_MAX || (st->st_uid && walk->linker && st->st_uid != walk->linker)) {
        errno = ELOOP;
        return -1;
    }
    target[n] = '\0';
    walk->linker = st->st_uid ? st->st_uid : walk->linker;
    rest = xasprintf("%s/%s", target, walk->rest);
    free(walk->rest);
    walk->rest = rest;
    return *target == '/' ? go_to_root(walk) : 0;
}

static int step(struct walk *walk, const char *name)
{
    const int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    scoped(fd_close) int fd = openat(walk->fd, name, flags);
    struct stat st;

    if (fd < 0 && errno == ENOENT) {
        fd = make_missing(walk, name) < 0 ? -1 : openat(walk->fd, name, flags);
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -1;
    }
    if (S_ISLNK(st.st_mode)) {
        return follow(walk, fd, &st);
    }
    if (!S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return -1;
    }
    return enter(walk, name, steal_fd(&fd));
}

static int walk_to(struct walk *walk, const char *path)
{
    char *name;
    int r;

    walk->rest = xstrdup(path);
    r = go_to_root(walk);
    while (r == 0 && (name = take_component(walk))) {
        r = step(walk, name);
        free(name);
    }
    if (r == 0 && !may_use(walk)) {
        errno = ELOOP;
        r = -1;
    }
    return r;
}

/* --- the table of mounts --- */

/*
 * The device of the last mount of @source, such as "0:98", by a line such as "36 35 0:98 / /mnt rw
 * - fuse.lima SOURCE rw". Without asking the mount itself.
 */
static bool find_device(const char *type, const char *source, char *ret, size_t size)
{
    scoped(free) char *text = files_read("/proc/self/mountinfo", MOUNTINFO_MAX, NULL);
    scoped(free) char *part = xasprintf(" - %s %s ", type, source);
    bool found = false;

    for (char *line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n")) {
        char device[32];

        if (strstr(line, part) && sscanf(line, "%*d %*d %31s", device) == 1) {
            snprintf(ret, size, "%s", device);
            found = true;
        }
    }
    return found;
}

bool mountpoint_exists(const char *source)
{
    char device[32];

    return find_device(MOUNTPOINT_FUSE, source, device, sizeof(device));
}

/* "\\040" is a space, as proc(5) has it. */
static void unescape(char *text)
{
    char *to = text;

    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] && from[2] && from[3]) {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

struct line { /* of a mount; borrows from the text */
    int id;
    char *path;
    const char *type, *source; /* each ends with a space */
};

/* Lines as above: the fifth field is the mount point; behind " - " are type and source. */
static bool parse_line(char *text, struct line *ret)
{
    char *rest = strstr(text, " - ");
    int begin = 0, end = 0;

    if (!rest || sscanf(text, "%d %*s %*s %*s %n%*s%n", &ret->id, &begin, &end) != 1 || !end) {
        return false;
    }
    text[end] = '\0';
    unescape(text + begin);
    ret->path = text + begin;
    ret->type = rest + strlen(" - ");
    ret->source = ret->type + strcspn(ret->type, " ");
    ret->source += strspn(ret->source, " ");
    return true;
}

static bool is_word(const char *text, const char *word)
{
    return strncmp(text, word, strlen(word)) == 0 && text[strlen(word)] == ' ';
}

bool mountpoint_is(const char *type, const char *source, const char *path)
{
    scoped(free) char *text = files_read("/proc/self/mountinfo", MOUNTINFO_MAX, NULL);
    struct line line;
    bool found = false;

    for (char *next = text ? strtok(text, "\n") : NULL; next; next = strtok(NULL, "\n")) {
        if (parse_line(next, &line) && strcmp(line.path, path) == 0) {
            found = is_word(line.type, type) && is_word(line.source, source);
        }
    }
    return found;
}

/*
 * The last mount of @type (NULL: any) and @source: at @path, or if none is there, where the folder
 * is by now that it was made at. Its number, or -1; caller frees *ret.
 */
static int find_mount(const char *type, const char *source, const char *path, char **ret)
{
    scoped(free) char *text = files_read("/proc/self/mountinfo", MOUNTINFO_MAX, NULL);
    bool is_there = false;
    struct line line;
    int id = -1;

    *ret = NULL;
    for (char *next = text ? strtok(text, "\n") : NULL; next; next = strtok(NULL, "\n")) {
        if (!parse_line(next, &line) || (type && !is_word(line.type, type)) ||
            !is_word(line.source, source) || (is_there && strcmp(line.path, path) != 0)) {
            continue;
        }
        is_there = strcmp(line.path, path) == 0;
        id = line.id;
        free(*ret);
        *ret = xstrdup(line.path);
    }
    return id;
}

bool mountpoint_find_type(const char *type, const char *source, dev_t *ret_device)
{
    char device[32];
    unsigned major, minor;

    if (!find_device(type, source, device, sizeof(device)) ||
        sscanf(device, "%u:%u", &major, &minor) != 2) {
        return false;
    }
    *ret_device = makedev(major, minor);
    return true;
}

bool mountpoint_find(const char *source, dev_t *ret_device)
{
    return mountpoint_find_type(MOUNTPOINT_FUSE, source, ret_device);
}

/* A hint to the kernel; without it all works, in smaller pieces. */
static void read_ahead(const struct mountpoint *point)
{
    char device[32];
    scoped(free) char *name = NULL;
    scoped(fd_close) int fd = -1;

    if (!find_device(point->type, point->source, device, sizeof(device))) {
        return;
    }
    name = xasprintf("/sys/class/bdi/%s/read_ahead_kb", device);
    fd = open(name, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, READ_AHEAD, strlen(READ_AHEAD));
    }
}

static void fd_path(int fd, char ret[FD_PATH_MAX])
{
    snprintf(ret, FD_PATH_MAX, "/proc/self/fd/%d", fd);
}

/* What was mounted on the folder just now: by name, since the descriptor is of what is below. */
static int make_read_only(const struct walk *walk, unsigned long flags)
{
    scoped(fd_close) int fd =
        openat(walk->parent_fd, walk->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    char path[FD_PATH_MAX];

    fd_path(fd, path);
    return fd < 0 ? -1 : mount(NULL, path, NULL, flags | MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
}

static int mount_fuse(const struct mountpoint *point, const struct walk *walk, const char *path)
{
    scoped(free) char *options =
        xasprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,"
                  "max_read=1048576",
                  point->fuse_fd);
    bool apart = point->read_only && point->replays; /* the mount alone is, not the file system */
    unsigned long flags = MS_NOSUID | MS_NODEV | (point->read_only && !apart ? MS_RDONLY : 0);

    if (mount(point->source, path, point->type, flags, options) < 0) {
        return fail("mounting at", point->path);
    }
    if (apart &&
        (walk->fd < 0 ? mount(NULL, path, NULL, flags | MS_REMOUNT | MS_BIND | MS_RDONLY, NULL)
                      : make_read_only(walk, flags)) < 0) {
        return fail("making read-only", point->path);
    }
    read_ahead(point);
    return 0;
}

static int mount_device(const struct mountpoint *point, const char *path)
{
    return mountdevice(point, path) < 0 ? fail("mounting at", point->path) : 0;
}

/* --- unmounting --- */

/* Of @fd, which must not hold it: the mount that it leads to. -1: not known. */
static int mount_of(int fd)
{
    scoped(free) char *path = xasprintf("/proc/self/fdinfo/%d", fd);
    scoped(free) char *text = files_read(path, FDINFO_MAX, NULL);
    const char *at = text ? strstr(text, "mnt_id:") : NULL;

    return at ? atoi(at + strlen("mnt_id:")) : -1;
}

/* From the root to the last folder but one of @path, which no link leads to. */
static int open_parent(char *path, const char **ret_name)
{
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    char *rest = path + strspn(path, "/"), *slash;
    int fd = open("/", flags);

    while (fd >= 0 && (slash = strchr(rest, '/'))) {
        int next;

        *slash = '\0';
        next = openat(fd, rest, flags);
        close(fd);
        fd = next;
        rest = slash + 1;
    }
    *ret_name = rest;
    return fd;
}

/* A mount, and the folders on the way to it, are nobody's to rename while we have it by its name.
 */
int mountpoint_detach(const char *type, const char *source, const char *path, int flags)
{
    scoped(free) char *where = NULL;
    int id = find_mount(type, source, path, &where);
    const char *name;
    scoped(fd_close) int parent = -1;
    int fd, r;

    if (id < 0) {
        errno = EINVAL; /* as umount2(2) has it */
        return -1;
    }
    parent = open_parent(where, &name);
    fd = parent < 0 ? -1 : openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    r = mount_of(fd);
    close(fd);
    if (r != id) { /* another one is on top of it */
        errno = EBUSY;
        return -1;
    }
    r = fchdir(parent) < 0 ? -1 : umount2(name, flags | UMOUNT_NOFOLLOW);
    id = errno;
    (void)!chdir("/");
    errno = id;
    return r;
}

int mountpoint_mount(void *arg)
{
    const struct mountpoint *point = arg;
    scoped(walk_done) struct walk walk = {.parent_fd = -1, .fd = -1};
    char path[FD_PATH_MAX];

    if (point->replaces) {
        (void)mountpoint_detach(NULL, point->source, point->path, MNT_DETACH);
    }
    if (point->covers) {
        deadmount_end(point->source, point->path);
    } else {
        if (walk_to(&walk, point->path) < 0) {
            return fail("making", point->path);
        }
        fd_path(walk.fd, path);
    }
    return point->fuse_fd >= 0 ? mount_fuse(point, &walk, point->covers ? point->path : path)
                               : mount_device(point, point->covers ? point->path : path);
}

int mountpoint_unmount(void *arg)
{
    const struct mountpoint *point = arg;

    if (mountpoint_detach(point->type, point->source, point->path, point->lazy ? MNT_DETACH : 0) <
            0 &&
        errno != EINVAL && errno != ENOENT) { /* both: it is not mounted */
        return fail("unmounting", point->path);
    }
    return 0;
}
