/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All work happens in _images/.NAME.tmp, under a lock; what is finished lies in its folder "out",
 * which takes the place of _images/NAME at the very end.
 */
#include "image/build_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "image/tool.h"
#include "util/file.h"
#include "util/loop.h"
#include "util/path.h"
#include "util/process.h"
#include "util/strv.h"
#include "util/sys.h"
#include "util/units.h"
#include "util/value.h"

#define VERSION_WAIT 10000

static void build_done(struct build *b)
{
    tool_close(b->tool);
    image_mirrors_done(&b->mirrors);
    free(b->images);
    free(b->work);
    free(b->cache);
}
SCOPED_VAL(struct build, build_done)

char *build_work_path(const struct build *b, const char *name)
{
    return path_join(b->work, name);
}

char *image_dir(const char *lima_home, const char *name)
{
    return path_join(lima_home, "_images", name);
}

bool image_is_built(const char *lima_home, const char *name)
{
    scoped(free) char *dir = image_dir(lima_home, name);
    scoped(free) char *info = path_join(dir, IMAGE_INFO);

    return file_exists(info);
}

/* --- what was made */

static int64_t file_bytes(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (int64_t)st.st_blocks * 512 : 0;
}

static const char *const image_files[] = {
    IMAGE_DISK, IMAGE_KERNEL, IMAGE_INITRD, IMAGE_CMDLINE, IMAGE_INFO,
};

static int64_t folder_bytes(const char *dir)
{
    int64_t sum = 0;

    for (size_t i = 0; i < ARRAY_LEN(image_files); i++) {
        scoped(free) char *path = path_join(dir, image_files[i]);

        sum += file_bytes(path);
    }
    return sum;
}

/* First line of what `@program @flag` says. */
static jv tool_version(const char *program, const char *flag)
{
    scoped(free) char *path = tool_find(program);
    const char *const argv[] = {path, flag, NULL};
    scoped(buf_done) struct buf out = BUF_INIT;

    if (!path || process_capture(argv, NULL, VERSION_WAIT, &out, &out, NULL) < 0) {
        return jv_string("unknown");
    }
    return jv_string_sized(buf_str(&out), (int)strcspn(buf_str(&out), "\n"));
}

static jv info_packages(const struct build *b)
{
    const struct strv *packages = b->options->packages;
    jv list = jv_array();

    for (size_t i = 0; packages && i < packages->len; i++) {
        list = jv_array_append(list, jv_string(packages->items[i]));
    }
    return list;
}

static jv info_sizes(const struct build *b)
{
    jv sizes = jv_object();

    for (size_t i = 0; i < ARRAY_LEN(image_files) - 1; i++) {
        scoped(free) char *path = path_join(b->work, "out", image_files[i]);

        sizes =
            jv_object_set(sizes, jv_string(image_files[i]), jv_number((double)file_bytes(path)));
    }
    return sizes;
}

static int write_info(const struct build *b, struct error *err)
{
    scoped(free) char *path = build_work_path(b, "out/" IMAGE_INFO);
    scoped(free) char *json = NULL;
    scoped(free) char *line = NULL;
    jv tools = jv_object(), info = jv_object();

    tools = jv_object_set(tools, jv_string("mmdebstrap"), tool_version("mmdebstrap", "--version"));
    tools = jv_object_set(tools, jv_string("mke2fs"), tool_version("mke2fs", "-V"));
    tools = jv_object_set(tools, jv_string("qemu-img"), tool_version("qemu-img", "--version"));
    info = jv_object_set(info, jv_string("name"), jv_string(b->recipe->name));
    info = jv_object_set(info, jv_string("title"), jv_string(b->recipe->title));
    info = jv_object_set(info, jv_string("suite"), jv_string(b->recipe->suite));
    info = jv_object_set(info, jv_string("arch"), jv_string(b->arch->arch));
    info = jv_object_set(info, jv_string("mirror"), jv_string(str_or_empty(b->mirrors.archive)));
    info = jv_object_set(info, jv_string("built"), jv_number((double)time(NULL)));
    info = jv_object_set(info, jv_string("seconds"),
                         jv_number((double)((loop_now_ms() - b->start_ms) / 1000)));
    info = jv_object_set(info, jv_string("sizes"), info_sizes(b));
    info = jv_object_set(info, jv_string("packages"), info_packages(b));
    info = jv_object_set(info, jv_string("tools"), tools);
    json = value_to_json(info, false);
    line = xasprintf("%s\n", json);
    return file_write_text(path, line, 0644, err);
}

static int sync_file(const char *path, struct error *err)
{
    scoped(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? error_errno(err, errno, "writing '%s'", path) : 0;
}

/* Puts out/ in the place of the image folder, in one step. */
static int publish(const struct build *b, struct error *err)
{
    scoped(free) char *out = build_work_path(b, "out");
    scoped(free) char *disk = path_join(out, IMAGE_DISK);
    scoped(free) char *to = path_join(b->images, b->recipe->name);
    unsigned flags = file_exists(to) ? RENAME_EXCHANGE : RENAME_NOREPLACE;
    int r = sync_file(disk, err);

    if (r < 0) {
        return r;
    }
    if (renameat2(AT_FDCWD, out, AT_FDCWD, to, flags) < 0) {
        return error_errno(err, errno, "moving the image to '%s'", to);
    }
    return 0;
}

static void report(const struct build *b)
{
    scoped(free) char *dir = path_join(b->images, b->recipe->name);
    scoped(free) char *size = size_format(folder_bytes(dir));
    scoped(free) char *time_text = duration_format((loop_now_ms() - b->start_ms) / 100 * 100);

    tool_stage(b->tool, NULL);
    log_info("built image '%s' (%s) in %s, %s on disk", b->recipe->name, b->recipe->title,
             time_text, size);
}

static int build_run(struct build *b, struct error *err)
{
    scoped(free) char *out = build_work_path(b, "out");
    int r = file_mkdirs(out, 0700, err);

    if (r == 0) {
        r = tool_open(b->work, &b->tool, err);
    }
    if (r == 0) {
        r = build_stage_packages(b, err);
    }
    if (r == 0) {
        r = build_stage_boot_files(b, err);
    }
    if (r == 0) {
        r = build_stage_disk(b, err);
    }
    if (r == 0) {
        r = tool_check(b->tool, err);
    }
    if (r == 0) {
        r = write_info(b, err);
    }
    return r < 0 ? r : publish(b, err);
}

/* --- entry points */

static int lock_image(const char *images, const char *name, int *ret, struct error *err)
{
    scoped(free) char *file = xasprintf(".%s.lock", name);
    scoped(free) char *path = path_join(images, file);
    int r = file_lock(path, true, ret, NULL);

    if (r == -EAGAIN) {
        log_info("waiting for another build of image '%s'", name);
        r = file_lock(path, false, ret, err);
    } else if (r < 0) {
        r = file_lock(path, true, ret, err);
    }
    return r;
}

/* deb-control(5): such as "libstdc++6"; with ":ARCH" or "/SUITE" apt takes it too, but we do not.
 */
static int check_packages(const struct strv *packages, struct error *err)
{
    for (size_t i = 0; packages && i < packages->len; i++) {
        const char *name = packages->items[i];

        if (strlen(name) < 2 || !strchr("abcdefghijklmnopqrstuvwxyz0123456789", name[0]) ||
            name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789+-.")]) {
            return error_set(err, EINVAL, "'%s' is no name of a package", name);
        }
    }
    return 0;
}

static int build_init(struct build *b, const char *name, const char *lima_home, struct error *err)
{
    scoped(free) char *work = xasprintf(".%s.tmp", name);

    b->start_ms = loop_now_ms();
    b->recipe = image_recipe_find(name);
    b->arch = image_arch_find(sys_arch());
    if (!b->recipe) {
        return error_set(err, ENOENT, "no recipe for an image '%s'", name);
    }
    if (!b->arch) {
        return error_set(err, ENOTSUP, "images for '%s' cannot be built", sys_arch());
    }
    if (check_packages(b->options->packages, err) < 0) {
        return -EINVAL;
    }
    b->images = path_join(lima_home, "_images");
    b->work = path_join(b->images, work);
    image_mirrors_find(b->recipe, "/etc", &b->mirrors);
    if (b->options->mirror) {
        free(b->mirrors.archive);
        b->mirrors.archive = xstrdup(b->options->mirror);
    }
    if (b->options->security) {
        free(b->mirrors.security);
        b->mirrors.security = xstrdup(b->options->security);
    }
    if (!b->mirrors.archive != !b->mirrors.security) {
        return error_set(err, EINVAL,
                         "no address for %s is known: give --mirror and "
                         "--security-mirror",
                         b->mirrors.archive ? "security updates" : "packages");
    }
    return build_check_needs(b, err);
}

static int build_open_cache(struct build *b, struct error *err)
{
    scoped(free) char *cache = NULL;
    int r;

    if (b->options->no_cache) {
        return 0;
    }
    r = path_cache(&cache, err);
    if (r < 0) {
        return r;
    }
    b->cache = path_join(cache, "packages", b->recipe->name);
    return file_mkdirs(b->cache, 0700, err);
}

int image_build(const char *name, const char *lima_home, const struct image_build_options *options,
                struct error *err)
{
    static const struct image_build_options plain;
    scoped(build_done) struct build b = {.options = options ? options : &plain};
    scoped(fd_close) int lock = -1;
    int r = build_init(&b, name, lima_home, err);

    if (r == 0) {
        r = file_mkdirs(b.images, 0700, err);
    }
    if (r == 0) {
        r = lock_image(b.images, name, &lock, err);
    }
    if (r < 0 || (b.options->keep && image_is_built(lima_home, name))) {
        return r < 0 ? error_wrap(err, r, "building image '%s'", name) : 0;
    }
    r = tool_remove_tree(b.work, err);
    if (r == 0) {
        r = build_open_cache(&b, err);
    }
    if (r == 0) {
        r = build_run(&b, err);
    }
    if (r == 0) {
        report(&b);
    } else {
        r = error_wrap(err, r, "building image '%s'", name);
    }
    if (tool_remove_tree(b.work, NULL) < 0) {
        log_warn("folder '%s' could not be removed, ignoring", b.work);
    }
    return r;
}

static int compare_info(const void *a, const void *b)
{
    return strcmp(((const struct image_info *)a)->name, ((const struct image_info *)b)->name);
}

int image_list_load(const char *lima_home, struct image_list *ret, struct error *err)
{
    scoped(free) char *images = path_join(lima_home, "_images");
    struct image_list list = {0};
    size_t cap = 0;
    DIR *dir = opendir(images);
    struct dirent *entry;

    if (!dir && errno != ENOENT) {
        return error_errno(err, errno, "reading '%s'", images);
    }
    while (dir && (entry = readdir(dir))) {
        scoped(free) char *info = path_join(images, entry->d_name, IMAGE_INFO);
        scoped(free) char *path = path_join(images, entry->d_name);
        struct stat st;

        if (entry->d_name[0] != '.' && stat(info, &st) == 0) {
            array_reserve(list.items, cap, list.len + 1);
            list.items[list.len++] = (struct image_info){
                .name = xstrdup(entry->d_name),
                .bytes = folder_bytes(path),
                .built = st.st_mtime,
            };
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (list.len > 1) {
        qsort(list.items, list.len, sizeof(*list.items), compare_info);
    }
    *ret = list;
    return 0;
}

void image_list_done(struct image_list *list)
{
    for (size_t i = 0; i < list->len; i++) {
        free(list->items[i].name);
    }
    free(list->items);
    *list = (struct image_list){0};
}

int image_delete(const char *name, const char *lima_home, struct error *err)
{
    scoped(free) char *images = path_join(lima_home, "_images");
    scoped(free) char *dir = image_dir(lima_home, name);
    scoped(free) char *gone = xasprintf("%s/.%s.tmp", images, name);
    scoped(free) char *lock_path = xasprintf("%s/.%s.lock", images, name);
    scoped(fd_close) int lock = -1;
    int r;

    if (!identifier_ok(name) || !file_is_dir(dir)) {
        return error_set(err, ENOENT, "image '%s' is not built", name);
    }
    r = file_lock(lock_path, true, &lock, err);
    if (r == -EAGAIN) {
        return error_set(err, EBUSY, "image '%s' is being built", name);
    }
    if (r == 0) {
        r = tool_remove_tree(gone, err);
    }
    if (r == 0 && rename(dir, gone) < 0) {
        r = error_errno(err, errno, "removing '%s'", dir);
    }
    return r < 0 ? r : file_remove_tree(gone, err);
}
