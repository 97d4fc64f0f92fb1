/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout of the disk:
 *
 *   1 MiB            ESP, FAT32: EFI/BOOT/BOOTX64.EFI
 *   behind it        root, ext4, the last partition so that it can grow
 *   last MiB         second copy of the partition table
 *
 * Each program writes into its range of one sparse file: no loop device, no mount.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "image/build_internal.h"
#include "image/kernel.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"

#define ESP_START MIB
#define ESP_MIN   (128 * MIB)
#define ROOT_MIN  (2048 * MIB)

/* --- kernel, initrd, command line */

/* The one file in the tree's /boot that matches. */
static int find_boot_file(const struct build *b, const char *pattern, char **ret, struct error *err)
{
    scoped(free) char *boot = build_work_path(b, "tree/boot");
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

int build_stage_boot_files(struct build *b, struct error *err)
{
    scoped(free) char *cmdline = xasprintf("%s console=%s\n", image_cmdline, b->arch->console);
    scoped(free) char *out_kernel = build_work_path(b, "out/" IMAGE_KERNEL);
    scoped(free) char *out_initrd = build_work_path(b, "out/" IMAGE_INITRD);
    scoped(free) char *out_cmdline = build_work_path(b, "out/" IMAGE_CMDLINE);
    scoped(free) char *vmlinuz = NULL;
    scoped(free) char *initrd = NULL;
    scoped(free) char *linux_file = build_work_path(b, "linux");
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
    scoped(free) char *osrel = build_work_path(b, "osrel");
    scoped(free) char *cmdline = build_work_path(b, "out/" IMAGE_CMDLINE);
    scoped(free) char *initrd = build_work_path(b, "out/" IMAGE_INITRD);
    scoped(free) char *linux_file = build_work_path(b, "linux");
    scoped(free) char *uki = build_work_path(b, "uki");
    scoped(free) char *from = build_work_path(b, "tree/usr/lib/os-release");
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
    scoped(free) char *raw = build_work_path(b, "raw");
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

int build_stage_disk(struct build *b, struct error *err)
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
