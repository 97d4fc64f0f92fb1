/* SPDX-License-Identifier: Apache-2.0 */
#include "grow.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include "base/alloc.h"
#include "files.h"

#define SLACK_SECTORS (32u << 11) /* 32 MiB: image tools leave some */
#define MAGIC_EXT4    0xef53
#define MAGIC_XFS     0x58465342

struct target {
    char *folder; /* of the partition in sysfs */
    char *disk_folder;
    char *partition; /* "vda1" */
    char *disk;      /* "vda" */
    char *number;    /* "1" */
};

static void target_done(struct target *target)
{
    free(target->folder);
    free(target->disk_folder);
    free(target->partition);
    free(target->disk);
    free(target->number);
}
SCOPED_VAL(struct target, target_done)

bool grow_wanted(const struct grow_layout *layout)
{
    uint64_t end = layout->start + layout->size;

    return layout->start == layout->last_start && end < layout->disk &&
           layout->disk - end > SLACK_SECTORS;
}

static char *read_attribute(const char *folder, const char *name)
{
    scoped(free) char *path = xasprintf("%s/%s", folder, name);
    char *text = files_read(path, 64, NULL);

    if (text) {
        text[strcspn(text, "\n")] = '\0';
    }
    return text;
}

static uint64_t read_number(const char *folder, const char *name)
{
    scoped(free) char *text = read_attribute(folder, name);

    return text ? strtoull(text, NULL, 10) : 0;
}

/* False when the root file system is on no partition (overlay, LVM, btrfs, a whole disk). */
static bool find_target(struct target *ret)
{
    struct stat st;
    char *slash;

    if (stat("/", &st) < 0) {
        return false;
    }
    {
        scoped(free) char *link =
            xasprintf("/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));

        ret->folder = realpath(link, NULL);
    }
    ret->number = ret->folder ? read_attribute(ret->folder, "partition") : NULL;
    if (!ret->number) {
        return false;
    }
    ret->disk_folder = xstrdup(ret->folder);
    slash = strrchr(ret->disk_folder, '/');
    ret->partition = xstrdup(slash + 1);
    *slash = '\0';
    ret->disk = xstrdup(strrchr(ret->disk_folder, '/') + 1);
    return true;
}

static uint64_t last_start(const char *disk_folder)
{
    DIR *dir = opendir(disk_folder);
    struct dirent *entry;
    uint64_t last = 0;

    while (dir && (entry = readdir(dir))) {
        scoped(free) char *folder = xasprintf("%s/%s", disk_folder, entry->d_name);
        scoped(free) char *partition = xasprintf("%s/partition", folder);

        if (files_exist(partition)) {
            last = MAX(last, read_number(folder, "start"));
        }
    }
    if (dir) {
        closedir(dir);
    }
    return last;
}

static void add_resize(struct steps *steps, const struct target *target)
{
    scoped(free) char *device = xasprintf("/dev/%s", target->partition);
    struct statfs fs;

    if (statfs("/", &fs) < 0) {
        return;
    }
    if ((unsigned long)fs.f_type == MAGIC_EXT4) {
        steps_add(steps, "resize2fs", device, NULL);
    } else if ((unsigned long)fs.f_type == MAGIC_XFS) {
        steps_add(steps, "xfs_growfs", "/", NULL);
    }
}

bool grow_plan(struct steps *steps)
{
    scoped(target_done) struct target target = {0};
    struct grow_layout layout;

    if (!find_target(&target)) {
        return false;
    }
    layout = (struct grow_layout){.disk = read_number(target.disk_folder, "size"),
                                  .start = read_number(target.folder, "start"),
                                  .size = read_number(target.folder, "size"),
                                  .last_start = last_start(target.disk_folder)};
    if (!grow_wanted(&layout)) {
        return false;
    }
    {
        scoped(free) char *disk = xasprintf("/dev/%s", target.disk);

        steps_add(steps, "growpart", disk, target.number, NULL);
    }
    add_resize(steps, &target);
    return true;
}
