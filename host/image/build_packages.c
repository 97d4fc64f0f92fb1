/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "image/build_internal.h"
#include "util/file.h"
#include "util/process.h"
#include "util/strv.h"
#include "util/sys.h"

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

int build_check_needs(const struct build *b, struct error *err)
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

static int write_apt_options(const struct build *b, struct error *err)
{
    static const char *const argv[] = {"apt-config", "dump", "Acquire", NULL};
    scoped(free) char *path = build_work_path(b, "apt.conf");
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
    scoped(free) char *sources = build_work_path(b, "sources.list");
    scoped(free) char *guest_sources = build_work_path(b, "guest.list");
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
    scoped(free) char *early = build_work_path(b, "early.tar");
    scoped(free) char *late = build_work_path(b, "late.tar");
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
    scoped(free) char *list = build_work_path(b, "archives.list");
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

int build_stage_packages(struct build *b, struct error *err)
{
    scoped(free) char *link = build_work_path(b, "archives");
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
