/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/firmware.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "instance/layout.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"

#define HEAD_SIZE 32

/* Names beside QEMU's own data files. */
static const struct {
    const char *arch, *code, *vars;
} bundled[] = {
    {"x86_64", "edk2-x86_64-code.fd", "edk2-i386-vars.fd"},
    {"aarch64", "edk2-aarch64-code.fd", "edk2-arm-vars.fd"},
    {"armv7l", "edk2-arm-code.fd", "edk2-arm-vars.fd"},
    {"riscv64", "edk2-riscv-code.fd", "edk2-riscv-vars.fd"},
};

/* Names under /usr/share, in order. Images without a second name are combined ones. */
static const struct {
    const char *arch, *code, *vars;
} packaged[] = {
    {"x86_64", "edk2/x64/OVMF_CODE.4m.fd", "edk2/x64/OVMF_VARS.4m.fd"},
    {"x86_64", "OVMF/OVMF_CODE.fd", "OVMF/OVMF_VARS.fd"},
    {"x86_64", "OVMF/OVMF_CODE_4M.fd", "OVMF/OVMF_VARS_4M.fd"},
    {"x86_64", "edk2/ovmf/OVMF_CODE.fd", "edk2/ovmf/OVMF_VARS.fd"},
    {"x86_64", "qemu/ovmf-x86_64.bin", NULL},
    {"x86_64", "qemu/ovmf-x86_64-4m.bin", NULL},
    {"aarch64", "edk2/aarch64/QEMU_CODE.fd", "edk2/aarch64/QEMU_VARS.fd"},
    {"aarch64", "AAVMF/AAVMF_CODE.fd", "AAVMF/AAVMF_VARS.fd"},
    {"aarch64", "qemu-efi-aarch64/QEMU_EFI.fd", NULL},
    {"armv7l", "edk2/arm/QEMU_CODE.fd", "edk2/arm/QEMU_VARS.fd"},
    {"armv7l", "AAVMF/AAVMF32_CODE.fd", "AAVMF/AAVMF32_VARS.fd"},
    {"riscv64", "qemu-efi-riscv64/RISCV_VIRT_CODE.fd", "qemu-efi-riscv64/RISCV_VIRT_VARS.fd"},
    {"riscv64", "edk2/riscv/RISCV_VIRT_CODE.fd", "edk2/riscv/RISCV_VIRT_VARS.fd"},
};

void qemu_firmware_done(struct qemu_firmware *fw)
{
    free(fw->code);
    free(fw->vars);
    *fw = (struct qemu_firmware){0};
}

/* gEfiSystemNvDataFvGuid, which stands behind the 16 zero bytes a firmware volume begins with. */
bool qemu_firmware_has_vars(const void *head, size_t len)
{
    static const unsigned char guid[16] = {0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c,
                                           0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50};

    return len >= HEAD_SIZE && memcmp((const char *)head + 16, guid, sizeof(guid)) == 0;
}

static bool try_pair(const char *dir, const char *code, const char *vars, char **ret_code,
                     char **ret_vars)
{
    scoped(free) char *code_path = path_join(dir, code);
    scoped(free) char *vars_path = vars ? path_join(dir, vars) : NULL;

    if (!file_exists(code_path)) {
        return false;
    }
    *ret_code = steal(code_path);
    *ret_vars = vars_path && file_exists(vars_path) ? steal(vars_path) : NULL;
    return true;
}

/* The folders in which QEMU's own images may be, most personal first. */
static void bundled_dirs(const char *binary, struct strv *dirs)
{
    scoped(free) char *bin_dir = path_dir(binary);
    scoped(free) char *prefix = path_dir(bin_dir);

    if (path_home()) {
        strv_take(dirs, path_join(path_home(), ".local/share/qemu"));
    }
    strv_take(dirs, path_join(prefix, "share/qemu"));
    strv_take(dirs, path_join(bin_dir, "share"));
}

static bool find_bundled(const char *arch, const char *binary, char **ret_code, char **ret_vars)
{
    scoped(strv_done) struct strv dirs = STRV_INIT;

    bundled_dirs(binary, &dirs);
    for (size_t i = 0; i < ARRAY_LEN(bundled); i++) {
        for (size_t d = 0; d < dirs.len && str_eq(bundled[i].arch, arch); d++) {
            if (try_pair(dirs.items[d], bundled[i].code, bundled[i].vars, ret_code, ret_vars)) {
                return true;
            }
        }
    }
    return false;
}

int qemu_firmware_find(const char *arch, const char *binary, char **ret_code, char **ret_vars,
                       struct error *err)
{
    if (find_bundled(arch, binary, ret_code, ret_vars)) {
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(packaged); i++) {
        if (str_eq(packaged[i].arch, arch) &&
            try_pair("/usr/share", packaged[i].code, packaged[i].vars, ret_code, ret_vars)) {
            return 0;
        }
    }
    error_set(err, ENOENT, "no UEFI firmware for %s guests was found", arch);
    if (str_eq(arch, "x86_64")) {
        error_hint(err, "install the package ovmf (edk2-ovmf elsewhere), or set "
                        "firmware.legacyBIOS to true");
    } else {
        error_hint(err, "install your distribution's EDK2 package for %s", arch);
    }
    return -ENOENT;
}

static bool file_has_vars(const char *path)
{
    scoped(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char head[HEAD_SIZE];
    ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof(head));

    return n > 0 && qemu_firmware_has_vars(head, (size_t)n);
}

static off_t file_size(const char *path)
{
    struct stat st;

    return stat(path, &st) < 0 ? -1 : st.st_size;
}

/* The instance's store, made from @template when it is missing or of another layout. */
static int prepare_vars(const char *template, const char *path, struct error *err)
{
    off_t size = file_size(path);

    if (size >= 0 && size == file_size(template)) {
        return 0;
    }
    if (size >= 0) {
        log_debug("the firmware's variables have another size than before, starting afresh");
    }
    return file_copy(template, path, 0600, err);
}

int qemu_firmware_prepare(const char *arch, const char *binary, const char *dir,
                          struct qemu_firmware *ret, struct error *err)
{
    scoped(qemu_firmware_done) struct qemu_firmware fw = {.code = path_join(dir, LAYOUT_EFI_CODE)};
    scoped(free) char *own_vars = path_join(dir, LAYOUT_EFI_VARS);
    scoped(free) char *template = NULL;
    int r;

    if (!file_exists(fw.code)) {
        scoped(free) char *own_code = steal(fw.code);

        r = qemu_firmware_find(arch, binary, &fw.code, &template, err);
        if (r < 0) {
            return r;
        }
        if (file_has_vars(fw.code)) { /* combined: it becomes the instance's own */
            r = file_copy(fw.code, own_code, 0600, err);
            if (r < 0) {
                return r;
            }
            free(fw.code);
            fw.code = steal(own_code);
        }
    }
    fw.code_writable = path_is_below(fw.code, dir) && file_has_vars(fw.code);
    if (template && !fw.code_writable) {
        r = prepare_vars(template, own_vars, err);
        if (r < 0) {
            return error_wrap(err, r, "preparing the firmware's variables");
        }
        fw.vars = steal(own_vars);
    }
    *ret = fw;
    fw = (struct qemu_firmware){0};
    return 0;
}
