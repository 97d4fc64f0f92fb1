/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything is collected in the folder "image.tmp" of the instance and moved into place at the
 * end, the disk last: whoever finds a disk finds the kernel that belongs to it. Entries of the
 * configuration are tried in order, each from scratch.
 */
#include "image/prepare.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "image/build.h"
#include "image/cache.h"
#include "image/disk.h"
#include "image/unpack.h"
#include "util/digest.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"

/* Names in the instance folder, as instance/layout.h has them, which ranks above this folder. */
#define OUT_DISK    "disk"
#define OUT_ISO     "iso"
#define OUT_KERNEL  "kernel"
#define OUT_CMDLINE "kernel.cmdline"
#define OUT_INITRD  "initrd"
#define WORK        "image.tmp"
#define FETCHED     "image"
#define BUILT       "image:"
#define CMDLINE_MAX 65536

struct prepare {
    const struct config *config;
    const char *lima_home;
    const char *dir;
    char *work;
    char *cache;
};

static void prepare_done(struct prepare *p)
{
    free(p->work);
    free(p->cache);
}
SCOPED_VAL(struct prepare, prepare_done)

static bool is_url(const char *location)
{
    return str_starts(location, "http://") || str_starts(location, "https://");
}

static void say_attempt(const struct config_file *file, const char *what)
{
    const struct log_field fields[] = {
        {"arch", file->arch}, {"digest", file->digest}, {"location", file->location}, {0}};

    log_fields(LOG_LEVEL_INFO, fields, "Attempting to download %s", what);
}

/* The local file behind a location, downloaded if need be, its digest checked. */
static int locate(const struct prepare *p, const struct config_file *file, const char *what,
                  char **ret, struct error *err)
{
    scoped(free) char *path = NULL;
    int r;

    if (is_url(file->location)) {
        say_attempt(file, what);
        r = cache_get(p->cache, file->location, file->digest, what, ret, err);
        if (r == CACHE_DOWNLOADED) {
            log_info("Downloaded %s from `%s`", what, file->location);
        } else if (r == CACHE_USED) {
            log_info("Using cache `%s`", *ret);
        }
        return MIN(r, 0);
    }
    if (strstr(file->location, "://") && !str_starts(file->location, "file://")) {
        return error_set(err, EINVAL, "'%s': unsupported kind of location", file->location);
    }
    r = path_expand(file->location + (str_starts(file->location, "file://") ? 7 : 0), &path, err);
    if (r < 0) {
        return r;
    }
    if (!file_exists(path)) {
        return error_set(err, ENOENT, "'%s' does not exist", path);
    }
    if (*file->digest) {
        r = digest_check_file(path, file->digest, err);
    }
    if (r == 0) {
        *ret = steal(path);
    }
    return r;
}

/* Brings one file into the work folder. */
static int take(const struct prepare *p, const struct config_file *file, const char *what,
                const char *name, bool unpack, struct error *err)
{
    scoped(free) char *from = NULL;
    scoped(free) char *to = path_join(p->work, name);
    int r = locate(p, file, what, &from, err);

    if (r < 0) {
        return r;
    }
    return unpack && unpack_is_packed(from) ? unpack_file(from, to, err)
                                            : file_copy(from, to, 0644, err);
}

/* --- images built here */

static int take_built_file(const struct prepare *p, const char *image, const char *file,
                           const char *name, struct error *err)
{
    scoped(free) char *from = path_join(image, file);
    scoped(free) char *to = path_join(p->work, name);

    return file_copy(from, to, 0644, err);
}

static int take_built(const struct prepare *p, const char *name, struct error *err)
{
    const struct image_build_options options = {.keep = true};
    scoped(free) char *dir = image_dir(p->lima_home, name);
    int r = 0;

    if (!image_is_built(p->lima_home, name)) {
        log_info("Image `%s` has not been built yet, building it", name);
        r = image_build(name, p->lima_home, &options, err);
    }
    if (r == 0) {
        log_info("Using the image `%s` built on this machine", name);
        r = take_built_file(p, dir, IMAGE_DISK, FETCHED, err);
    }
    if (r == 0) {
        r = take_built_file(p, dir, IMAGE_KERNEL, OUT_KERNEL, err);
    }
    if (r == 0) {
        r = take_built_file(p, dir, IMAGE_INITRD, OUT_INITRD, err);
    }
    return r < 0 ? r : take_built_file(p, dir, IMAGE_CMDLINE, OUT_CMDLINE, err);
}

/* --- one entry of the configuration */

static int write_cmdline(const struct prepare *p, const char *cmdline, struct error *err)
{
    scoped(free) char *path = path_join(p->work, OUT_CMDLINE);

    return *cmdline ? file_write_text(path, cmdline, 0644, err) : 0;
}

static int take_image(const struct prepare *p, const struct config_image *image, struct error *err)
{
    int r;

    if (str_starts(image->file.location, BUILT)) {
        r = take_built(p, image->file.location + strlen(BUILT), err);
        return r < 0 || !image->has_kernel ? r : write_cmdline(p, image->kernel_cmdline, err);
    }
    r = take(p, &image->file, "the image", FETCHED, true, err);
    if (r == 0 && image->has_kernel) {
        r = take(p, &image->kernel, "the kernel", OUT_KERNEL, true, err);
    }
    if (r == 0 && image->has_kernel) {
        r = write_cmdline(p, image->kernel_cmdline, err);
    }
    if (r == 0 && image->has_initrd) {
        r = take(p, &image->initrd, "the initrd", OUT_INITRD, false, err);
    }
    return r;
}

/* What was fetched becomes the disk, or the medium that installs onto an empty one. */
static int make_disk(const struct prepare *p, struct error *err)
{
    scoped(free) char *image = path_join(p->work, FETCHED);
    scoped(free) char *disk = path_join(p->work, OUT_DISK);
    scoped(free) char *iso = path_join(p->work, OUT_ISO);
    struct disk_info info;
    int r = disk_probe(image, &info, err);

    if (r < 0) {
        return r;
    }
    if (info.format == DISK_FORMAT_ISO) {
        if (rename(image, iso) < 0) {
            return error_errno(err, errno, "moving '%s'", image);
        }
        return disk_create(disk, p->config->disk, err);
    }
    r = disk_grow(image, &info, p->config->disk, err);
    if (r == 0 && rename(image, disk) < 0) {
        r = error_errno(err, errno, "moving '%s'", image);
    }
    return r;
}

/* Moves the parts into the instance folder; a part that this image lacks is removed there. */
static int publish(const struct prepare *p, struct error *err)
{
    static const char *const names[] = {OUT_KERNEL, OUT_CMDLINE, OUT_INITRD, OUT_ISO, OUT_DISK};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        scoped(free) char *from = path_join(p->work, names[i]);
        scoped(free) char *to = path_join(p->dir, names[i]);
        int r = file_exists(from) ? 0 : file_remove(to, err);

        if (r < 0) {
            return r;
        }
        if (file_exists(from) && rename(from, to) < 0) {
            return error_errno(err, errno, "writing '%s'", to);
        }
    }
    return 0;
}

static int try_image(const struct prepare *p, const struct config_image *image, struct error *err)
{
    int r = file_remove_tree(p->work, err);

    if (r == 0) {
        r = file_mkdirs(p->work, 0700, err);
    }
    if (r == 0) {
        r = take_image(p, image, err);
    }
    if (r == 0) {
        r = make_disk(p, err);
    }
    return r < 0 ? r : publish(p, err);
}

/* --- choice */

/* The first entry of the architecture says which variants are wanted. */
static const struct config_image *wanted_image(const struct config *config)
{
    for (size_t i = 0; i < config->image_count; i++) {
        if (str_eq(config->images[i].file.arch, config->arch)) {
            return &config->images[i];
        }
    }
    return NULL;
}

static bool fits(const struct config *config, const struct config_image *image,
                 const struct config_image *wanted)
{
    /* What is built here has no variants: it can stand in for any. */
    bool built = str_starts(image->file.location, BUILT);

    return str_eq(image->file.arch, config->arch) &&
           (built || (str_eq(image->variant, wanted->variant) &&
                      str_eq(image->arch_variant, wanted->arch_variant)));
}

/* Nothing after such a failure can work any better. */
static bool is_final(int r)
{
    return r == -EINTR || r == -ENOSPC || r == -EDQUOT;
}

static int choose(const struct prepare *p, struct error *err)
{
    const struct config_image *wanted = wanted_image(p->config);
    scoped(buf_done) struct buf errors = BUF_INIT;
    scoped(error_done) struct error why = ERROR_INIT;
    int r = -ENOENT;

    if (!wanted) {
        return error_set(err, ENOENT, "no image for architecture '%s'", p->config->arch);
    }
    for (size_t i = 0; i < p->config->image_count; i++) {
        const struct config_image *image = &p->config->images[i];

        if (!fits(p->config, image, wanted)) {
            log_debug("image '%s' has another architecture or variant", image->file.location);
            continue;
        }
        if (errors.len > 0) {
            log_info("Image not available (%s); trying `%s`", error_text(&why),
                     image->file.location);
        }
        error_done(&why);
        r = try_image(p, image, &why);
        if (r == 0 || is_final(r)) {
            return r < 0 ? error_move(err, &why) : 0;
        }
        buf_printf(&errors, "%s%s", errors.len > 0 ? "; " : "", error_text(&why));
    }
    error_set(err, -r, "no image could be used: %s", buf_str(&errors));
    if (why.hint) {
        error_hint(err, "%s", why.hint);
    }
    return r;
}

static int grow_existing(const struct config *config, const char *disk, struct error *err)
{
    struct disk_info info;
    int r = disk_probe(disk, &info, err);

    return r < 0 ? r : disk_grow(disk, &info, config->disk, err);
}

int image_prepare(const struct config *config, const char *lima_home, const char *dir,
                  struct error *err)
{
    scoped(prepare_done) struct prepare p = {
        .config = config, .lima_home = lima_home, .dir = dir, .work = path_join(dir, WORK)};
    scoped(free) char *disk = path_join(dir, OUT_DISK);
    int r;

    if (file_exists(disk)) {
        return grow_existing(config, disk, err);
    }
    r = path_cache(&p.cache, err);
    if (r == 0) {
        r = choose(&p, err);
    }
    if (file_remove_tree(p.work, NULL) < 0) {
        log_warn("folder '%s' could not be removed, ignoring", p.work);
    }
    return r;
}
