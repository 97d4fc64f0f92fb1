/* SPDX-License-Identifier: Apache-2.0 */
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/alloc.h"
#include "files.h"

#define FUSE_TYPE     "fuse.lima"
#define READ_AHEAD    "1024" /* KiB: what one answer holds */
#define MOUNTINFO_MAX (1u << 20)

static int fail(const char *what, const char *path)
{
    int code = errno;

    printf("%s '%s': %s", what, path, strerror(code));
    fflush(stdout);
    return code < 128 ? code : EIO; /* the parent takes it for the errno */
}

/* Folders that are missing belong to the owner of the one they are made in, so homes stay homes. */
int mountpoint_make(const char *path)
{
    scoped(free) char *copy = xstrdup(path);
    struct stat parent = {0};

    for (char *end = copy; end;) {
        end = strchr(end + 1, '/');
        if (end) {
            *end = '\0';
        }
        if (mkdir(copy, 0755) == 0) {
            if (parent.st_uid && lchown(copy, parent.st_uid, parent.st_gid) < 0) {
                return fail("giving away", copy);
            }
        } else if (errno != EEXIST) {
            return fail("making", copy);
        }
        if (stat(copy, &parent) < 0) {
            return fail("looking at", copy);
        }
        if (end) {
            *end = '/';
        }
    }
    if (!S_ISDIR(parent.st_mode)) {
        errno = ENOTDIR;
        return fail("mounting at", path);
    }
    return 0;
}

/*
 * The device of the last mount of @source, such as "0:98", by a line such as "36 35 0:98 / /mnt rw
 * - fuse.lima SOURCE rw". Without asking the mount itself.
 */
static bool find_device(const char *source, char *ret, size_t size)
{
    scoped(free) char *text = files_read("/proc/self/mountinfo", MOUNTINFO_MAX, NULL);
    scoped(free) char *part = xasprintf(" - " FUSE_TYPE " %s ", source);
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

    return find_device(source, device, sizeof(device));
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

/* Lines as above: the fifth field is the mount point; behind " - " are type and source. */
bool mountpoint_is(const char *type, const char *source, const char *path)
{
    scoped(free) char *text = files_read("/proc/self/mountinfo", MOUNTINFO_MAX, NULL);
    scoped(free) char *wanted = xasprintf("%s %s ", type, source);
    bool found = false;

    for (char *line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n")) {
        const char *rest = strstr(line, " - ");
        int begin = 0, end = 0;

        sscanf(line, "%*s %*s %*s %*s %n%*s%n", &begin, &end);
        if (!rest || !end) {
            continue;
        }
        line[end] = '\0';
        unescape(line + begin);
        if (strcmp(line + begin, path) == 0) {
            found = strncmp(rest + strlen(" - "), wanted, strlen(wanted)) == 0;
        }
    }
    return found;
}

bool mountpoint_find(const char *source, dev_t *ret_device)
{
    char device[32];
    unsigned major, minor;

    if (!find_device(source, device, sizeof(device)) ||
        sscanf(device, "%u:%u", &major, &minor) != 2) {
        return false;
    }
    *ret_device = makedev(major, minor);
    return true;
}

/* A hint to the kernel; without it all works, in smaller pieces. */
static void read_ahead(const char *source)
{
    char device[32];
    scoped(free) char *name = NULL;
    scoped(fd_close) int fd = -1;

    if (!find_device(source, device, sizeof(device))) {
        return;
    }
    name = xasprintf("/sys/class/bdi/%s/read_ahead_kb", device);
    fd = open(name, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, READ_AHEAD, strlen(READ_AHEAD));
    }
}

static int mount_fuse(const struct mountpoint *point)
{
    scoped(free) char *options =
        xasprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,"
                  "max_read=1048576",
                  point->fuse_fd);
    bool apart = point->read_only && point->replays; /* the mount alone is, not the file system */
    unsigned long flags = MS_NOSUID | MS_NODEV | (point->read_only && !apart ? MS_RDONLY : 0);

    if (mount(point->source, point->path, FUSE_TYPE, flags, options) < 0) {
        return fail("mounting at", point->path);
    }
    if (apart &&
        mount(NULL, point->path, NULL, flags | MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0) {
        return fail("making read-only", point->path);
    }
    read_ahead(point->source);
    return 0;
}

static int mount_device(const struct mountpoint *point)
{
    if (mount(point->source, point->path, point->type, point->read_only ? MS_RDONLY : 0,
              point->options) < 0) {
        return fail("mounting at", point->path);
    }
    return 0;
}

int mountpoint_mount(void *arg)
{
    const struct mountpoint *point = arg;
    int r;

    if (point->replaces) {
        umount2(point->path, UMOUNT_NOFOLLOW | MNT_DETACH);
    }
    r = point->covers ? 0 : mountpoint_make(point->path);
    return r ? r : point->fuse_fd >= 0 ? mount_fuse(point) : mount_device(point);
}

int mountpoint_unmount(void *arg)
{
    const struct mountpoint *point = arg;

    if (umount2(point->path, UMOUNT_NOFOLLOW | (point->lazy ? MNT_DETACH : 0)) < 0 &&
        errno != EINVAL && errno != ENOENT) { /* both: it is not mounted */
        return fail("unmounting", point->path);
    }
    return 0;
}
