/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All work happens in _images/.NAME.tmp, under a lock; what is finished lies in its folder "out",
 * which takes the place of _images/NAME at the very end. Layout of the disk:
 *
 *   1 MiB            ESP, FAT32: EFI/BOOT/BOOTX64.EFI
 *   behind it        root, ext4, the last partition so that it can grow
 *   last MiB         second copy of the partition table
 *
 * Each program writes into its range of one sparse file: no loop device, no mount.
 */
#include "image/build.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "image/kernel.h"
#include "image/sources.h"
#include "image/tool.h"
#include "util/file.h"
#include "util/loop.h"
#include "util/path.h"
#include "util/process.h"
#include "util/strv.h"
#include "util/sys.h"
#include "util/units.h"
#include "util/value.h"

#define MIB          (INT64_C(1) << 20)
#define ESP_START    MIB
#define ESP_MIN      (128 * MIB)
#define ROOT_MIN     (2048 * MIB)
#define CMDLINE_MAX  4096
#define OSREL_MAX    65536
#define VERSION_WAIT 10000

struct build {
    const struct image_recipe *recipe;
    const struct image_arch *arch;
    const struct image_build_options *options;
    char *images; /* $LIMA_HOME/_images */
    char *work;   /* .NAME.tmp in it */
    char *cache;  /* packages of earlier builds; NULL: none kept */
    struct tool *tool;
    struct image_mirrors mirrors;
    int64_t esp_size;
    int64_t root_size;
    int64_t start_ms;
};

static void build_done(struct build *b)
{
    tool_close(b->tool);
    image_mirrors_done(&b->mirrors);
    free(b->images);
    free(b->work);
    free(b->cache);
}
SCOPED_VAL(struct build, build_done)

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

/* --- what the host must have */

struct need {
    const char *program; /* looked up; or a file when it begins with '/' */
    const char *package; /* Debian's and Ubuntu's name */
};

static const struct need needs[] = {
    {"mmdebstrap", "mmdebstrap"}, {"mke2fs", "e2fsprogs"},   {"sfdisk", "fdisk"},
    {"mkfs.vfat", "dosfstools"},  {"mcopy", "mtools"},       {"objcopy", "binutils"},
    {"qemu-img", "qemu-utils"},   {"unshare", "util-linux"}, {"gpgv", "gpgv"},
    {"apt-get", "apt"},
};

static void need_check(const char *program, const char *package, struct strv *names,
                       struct strv *packages)
{
    scoped(free) char *found = *program == '/' ? NULL : tool_find(program);

    if (*program == '/' ? !file_exists(program) : !found) {
        strv_addf(names, "'%s'", program);
        strv_add(packages, package);
    }
}

static int check_needs(const struct build *b, struct error *err)
{
    scoped(strv_done) struct strv names = STRV_INIT;
    scoped(strv_done) struct strv packages = STRV_INIT;
    scoped(free) char *keyring = xasprintf("%s-archive-keyring", b->recipe->id);
    scoped(free) char *missing = NULL;
    scoped(free) char *install = NULL;

    for (size_t i = 0; i < ARRAY_LEN(needs); i++) {
        need_check(needs[i].program, needs[i].package, &names, &packages);
    }
    need_check(b->arch->efi_stub, "systemd-boot-efi", &names, &packages);
    need_check(b->recipe->keyring, keyring, &names, &packages);
    if (sys_uid() != 0) {
        need_check("newuidmap", "uidmap", &names, &packages);
    }
    if (names.len == 0) {
        return tool_check_privilege(err);
    }
    missing = strv_join(&names, ", ");
    install = strv_join(&packages, " ");
    error_set(err, ENOENT, "missing on this machine: %s", missing);
    error_hint(err, "as root, run: apt-get install -y %s", install);
    return -ENOENT;
}

/* --- packages */

static char *work_path(const struct build *b, const char *name)
{
    return path_join(b->work, name);
}

static int write_apt_options(const struct build *b, struct error *err)
{
    static const char *const argv[] = {"apt-config", "dump", "Acquire", NULL};
    scoped(free) char *path = work_path(b, "apt.conf");
    scoped(buf_done) struct buf dump = BUF_INIT;
    scoped(buf_done) struct buf options = BUF_INIT;
    int r = process_check(argv, 0, &dump, err);

    if (r < 0) {
        return r;
    }
    image_apt_options(buf_str(&dump), &options);
    buf_puts(&options, "APT::Install-Recommends \"false\";\n");
    return file_write_text(path, buf_str(&options), 0600, err);
}

/* Only for known mirrors: otherwise mmdebstrap chooses, and tells the guest itself. */
static int write_sources(const struct build *b, struct error *err)
{
    scoped(free) char *sources = work_path(b, "sources.list");
    scoped(free) char *guest_sources = work_path(b, "guest.list");
    scoped(buf_done) struct buf text = BUF_INIT;
    int r;

    if (!b->mirrors.archive) {
        return 0;
    }
    image_sources_format(b->recipe, &b->mirrors, false, &text);
    r = file_write_text(sources, buf_str(&text), 0600, err);
    if (r < 0) {
        return r;
    }
    buf_truncate(&text, 0);
    image_sources_format(b->recipe, &b->mirrors, true, &text);
    return file_write_text(guest_sources, buf_str(&text), 0644, err);
}

/* What mmdebstrap reads: sources, apt options, the two overlays. */
static int write_inputs(struct build *b, struct error *err)
{
    scoped(free) char *early = work_path(b, "early.tar");
    scoped(free) char *late = work_path(b, "late.tar");
    time_t now = time(NULL);
    int r = write_sources(b, err);

    if (r == 0) {
        r = image_overlay_write(image_overlay_early, now, early, err);
    }
    if (r == 0) {
        r = image_overlay_write(image_overlay_late, now, late, err);
    }
    return r < 0 ? r : write_apt_options(b, err);
}

static void mmdebstrap_cache_argv(const struct build *b, struct strv *argv)
{
    if (!b->cache) {
        return;
    }
    strv_add(argv, "--skip=essential/unlink");
    strv_add(argv, "--setup-hook=mkdir -p \"$1/var/cache/apt/archives/partial\" && find -H archives"
                   " -name '*.deb' -exec cp -t \"$1/var/cache/apt/archives\" {} +");
    strv_add(argv, "--customize-hook=cd \"$1/var/cache/apt/archives\" && ls > "
                   "\"$OLDPWD/archives.list\" && find . -maxdepth 1 -name '*.deb' -exec cp -n -t "
                   "\"$OLDPWD/archives/\" {} +");
}

static int run_mmdebstrap(struct build *b, struct error *err)
{
    scoped(strv_done) struct strv argv = STRV_INIT;

    strv_add_all(&argv, "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
                 "--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold", "--aptopt=apt.conf", NULL);
    strv_addf(&argv, "--architectures=%s", b->arch->deb);
    strv_addf(&argv, "--keyring=%s", b->recipe->keyring);
    strv_addf(&argv, "--include=%s,%s", b->recipe->packages, b->arch->kernel);
    for (size_t i = 0; b->options->packages && i < b->options->packages->len; i++) {
        strv_addf(&argv, "--include=%s", b->options->packages->items[i]);
    }
    mmdebstrap_cache_argv(b, &argv);
    strv_add(&argv, "--essential-hook=tar-in early.tar /");
    for (const char *const *hook = image_customize; *hook; hook++) {
        strv_addf(&argv, "--customize-hook=%s", *hook);
    }
    strv_add(&argv, "--customize-hook=tar-in late.tar /");
    if (b->mirrors.archive) {
        strv_add(&argv, "--customize-hook=upload guest.list /etc/apt/sources.list");
    }
    strv_add_all(&argv, b->recipe->suite, "tree", b->mirrors.archive ? "sources.list" : NULL, NULL);
    return tool_run(b->tool, &argv, NULL, NULL, err);
}

/* Packages of older versions are of no more use. */
static void cache_prune(const struct build *b)
{
    scoped(free) char *list = work_path(b, "archives.list");
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(strv_done) struct strv used = STRV_INIT;
    DIR *dir = b->cache ? opendir(b->cache) : NULL;
    struct dirent *entry;

    if (dir && file_read(list, 4 * MIB, &text, NULL) == 0) {
        strv_split(&used, buf_str(&text), '\n');
        while ((entry = readdir(dir))) {
            if (str_ends(entry->d_name, ".deb") && !strv_contains(&used, entry->d_name)) {
                unlinkat(dirfd(dir), entry->d_name, 0);
            }
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static int stage_packages(struct build *b, struct error *err)
{
    scoped(free) char *link = work_path(b, "archives");
    int r;

    tool_stage(b->tool, "installing packages");
    if (b->cache && symlink(b->cache, link) < 0) {
        return error_errno(err, errno, "creating '%s'", link);
    }
    r = write_inputs(b, err);
    if (r == 0) {
        r = run_mmdebstrap(b, err);
    }
    if (r == 0) {
        cache_prune(b);
    }
    return r;
}

/* --- kernel, initrd, command line */

/* The one file in the tree's /boot that matches. */
static int find_boot_file(const struct build *b, const char *pattern, char **ret, struct error *err)
{
    scoped(free) char *boot = work_path(b, "tree/boot");
    scoped(free) char *found = NULL;
    DIR *dir = opendir(boot);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (fnmatch(pattern, entry->d_name, 0) == 0) {
            free(found);
            found = path_join(boot, entry->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (!found) {
        return error_set(err, ENOENT, "the packages brought no '/boot/%s'", pattern);
    }
    *ret = steal(found);
    return 0;
}

static int stage_boot_files(struct build *b, struct error *err)
{
    scoped(free) char *cmdline = xasprintf("%s console=%s\n", image_cmdline, b->arch->console);
    scoped(free) char *out_kernel = work_path(b, "out/" IMAGE_KERNEL);
    scoped(free) char *out_initrd = work_path(b, "out/" IMAGE_INITRD);
    scoped(free) char *out_cmdline = work_path(b, "out/" IMAGE_CMDLINE);
    scoped(free) char *vmlinuz = NULL;
    scoped(free) char *initrd = NULL;
    scoped(free) char *linux_file = work_path(b, "linux");
    int r;

    tool_stage(b->tool, "taking the kernel out");
    r = find_boot_file(b, "vmlinuz-*", &vmlinuz, err);
    if (r == 0) {
        r = find_boot_file(b, "initrd.img-*", &initrd, err);
    }
    if (r == 0) {
        r = file_copy(vmlinuz, linux_file, 0644, err);
    }
    if (r == 0) {
        r = kernel_extract_elf(vmlinuz, out_kernel, err);
    }
    if (r > 0) {
        r = file_copy(vmlinuz, out_kernel, 0644, err);
    }
    if (r == 0) {
        r = file_copy(initrd, out_initrd, 0644, err);
    }
    return r < 0 ? r : file_write_text(out_cmdline, cmdline, 0644, err);
}

/* --- disk */

static int64_t round_up(int64_t value, int64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static int make_uki(struct build *b, struct error *err)
{
    scoped(free) char *osrel = work_path(b, "osrel");
    scoped(free) char *cmdline = work_path(b, "out/" IMAGE_CMDLINE);
    scoped(free) char *initrd = work_path(b, "out/" IMAGE_INITRD);
    scoped(free) char *linux_file = work_path(b, "linux");
    scoped(free) char *uki = work_path(b, "uki");
    scoped(free) char *from = work_path(b, "tree/usr/lib/os-release");
    scoped(strv_done) struct strv argv = STRV_INIT;
    struct stat st;
    int r = file_copy(from, osrel, 0644, err);

    if (r == 0) {
        r = kernel_uki_argv(b->arch->efi_stub, osrel, cmdline, initrd, linux_file, uki, &argv, err);
    }
    if (r == 0) {
        r = tool_run(b->tool, &argv, NULL, NULL, err);
    }
    if (r == 0 && stat(uki, &st) < 0) {
        r = error_errno(err, errno, "reading '%s'", uki);
    }
    if (r == 0) {
        b->esp_size = MAX(ESP_MIN, round_up(2 * st.st_size, MIB));
    }
    return r;
}

static int measure_tree(struct build *b, struct error *err)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(buf_done) struct buf out = BUF_INIT;
    int64_t used;
    int r;

    strv_add_all(&argv, "du", "-s", "-B1", "tree", NULL);
    r = tool_run(b->tool, &argv, NULL, &out, err);
    if (r < 0) {
        return r;
    }
    used = strtoll(buf_str(&out), NULL, 10);
    b->root_size = MAX(ROOT_MIN, round_up(used + used / 2, MIB));
    return 0;
}

static int make_partitions(struct build *b, struct error *err)
{
    scoped(free) char *raw = work_path(b, "raw");
    scoped(free) char *script = NULL;
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(fd_close) int fd = open(raw, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, ESP_START + b->esp_size + b->root_size + MIB) < 0) {
        return error_errno(err, errno, "creating '%s'", raw);
    }
    script = xasprintf("label: gpt\nunit: sectors\n"
                       "start=%" PRId64 ", size=%" PRId64 ", type=U, name=ESP\n"
                       "start=%" PRId64 ", size=%" PRId64 ", type=%s, name=root\n",
                       ESP_START / 512, b->esp_size / 512, (ESP_START + b->esp_size) / 512,
                       b->root_size / 512, b->arch->root_type);
    strv_add_all(&argv, "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "raw", NULL);
    return tool_run(b->tool, &argv, script, NULL, err);
}

static int fill_root(struct build *b, struct error *err)
{
    scoped(free) char *extended =
        xasprintf("offset=%" PRId64 ",lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0",
                  ESP_START + b->esp_size);
    scoped(free) char *size = xasprintf("%" PRId64 "k", b->root_size / 1024);

    return tool_call(b->tool, err, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-m", "1",
                     "-E", extended, "-d", "tree", "raw", size, NULL);
}

static int fill_esp(struct build *b, struct error *err)
{
    scoped(free) char *sector = xasprintf("%" PRId64, ESP_START / 512);
    scoped(free) char *kib = xasprintf("%" PRId64, b->esp_size / 1024);
    scoped(free) char *image = xasprintf("raw@@%" PRId64, ESP_START);
    scoped(free) char *target = xasprintf("::/EFI/BOOT/%s", b->arch->efi_name);
    int r = tool_call(b->tool, err, "mkfs.vfat", "-F", "32", "-s", "1", "-n", "ESP", "--offset",
                      sector, "raw", kib, NULL);

    if (r == 0) {
        r = tool_call(b->tool, err, "mmd", "-i", image, "::/EFI", "::/EFI/BOOT", NULL);
    }
    if (r == 0) {
        r = tool_call(b->tool, err, "mcopy", "-i", image, "uki", target, NULL);
    }
    return r;
}

static int stage_disk(struct build *b, struct error *err)
{
    int r;

    tool_stage(b->tool, "making the disk");
    r = make_uki(b, err);
    if (r == 0) {
        r = measure_tree(b, err);
    }
    if (r == 0) {
        r = make_partitions(b, err);
    }
    if (r == 0) {
        r = fill_root(b, err);
    }
    if (r == 0) {
        r = fill_esp(b, err);
    }
    if (r < 0) {
        return r;
    }
    tool_stage(b->tool, "compressing the disk");
    return tool_call(b->tool, err, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o",
                     "compression_type=zstd", "raw", "out/" IMAGE_DISK, NULL);
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
    scoped(free) char *path = work_path(b, "out/" IMAGE_INFO);
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
    scoped(free) char *out = work_path(b, "out");
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
    scoped(free) char *out = work_path(b, "out");
    int r = file_mkdirs(out, 0700, err);

    if (r == 0) {
        r = tool_open(b->work, &b->tool, err);
    }
    if (r == 0) {
        r = stage_packages(b, err);
    }
    if (r == 0) {
        r = stage_boot_files(b, err);
    }
    if (r == 0) {
        r = stage_disk(b, err);
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
    return check_needs(b, err);
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
