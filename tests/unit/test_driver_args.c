/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Golden command lines, one argument a line. After a wanted change: UPDATE_GOLDEN=1 meson test, and
 * look at the difference.
 */
#include "test.h"

#include <stdlib.h>
#include "base/buf.h"
#include "driver/qemu/args.h"
#include "driver/qemu/vsock.h"
#include "util/file.h"
#include "util/path.h"

#define GIB (1024ll * 1024 * 1024)

static struct config config_of(const char *arch)
{
    return (struct config){.instance = "a",
                           .dir = "/lima/a",
                           .vm_type = "qemu",
                           .os = "Linux",
                           .arch = (char *)arch,
                           .cpus = 2,
                           .memory = 4 * GIB,
                           .cpu_type = "",
                           .video_display = "none"};
}

static struct qemu_args args_of(const struct config *config, const char *accel)
{
    return (struct qemu_args){.config = config,
                              .dir = config->dir,
                              .accel = accel,
                              .cpu = strcmp(accel, "tcg") == 0 ? "max" : "host",
                              .aio = "io_uring",
                              .disk_format = "qcow2",
                              .mac = "52:55:55:01:02:03",
                              .ssh_port = 60022,
                              .kernel_cmdline = ""};
}

static void assert_golden(const char *name, const struct qemu_args *in)
{
    scoped(free) char *file =
        xasprintf("%s/tests/unit/golden/driver_args_%s", getenv("SOURCE_ROOT"), name);
    scoped(buf_done) struct buf want = BUF_INIT;
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *got = NULL;

    assert_works(qemu_args_build(in, &argv, &err), &err);
    strv_add(&argv, "");
    got = strv_join(&argv, "\n");
    if (getenv("UPDATE_GOLDEN")) {
        assert_works(file_write_text(file, got, 0644, &err), &err);
    }
    assert_works(file_read(file, 65536, &want, &err), &err);
    assert_string_equal(got, buf_str(&want));
}

static void test_args_of_a_uefi_guest_under_kvm(void **state)
{
    struct config config = config_of("x86_64");
    struct qemu_args in = args_of(&config, "kvm");

    in.firmware_code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    in.firmware_vars = "/lima/a/qemu-efi-vars.fd";
    assert_golden("x86_64_kvm_uefi", &in);
}

static void test_args_of_a_direct_kernel_boot_under_tcg(void **state)
{
    struct config config = config_of("x86_64");
    struct qemu_args in = args_of(&config, "tcg");

    in.aio = "";
    in.disk_format = "raw";
    in.has_kernel = in.has_initrd = true;
    in.kernel_cmdline = "root=LABEL=root console=ttyS0,115200 x=a,b";
    assert_golden("x86_64_tcg_kernel", &in);
}

static void assert_append(const struct qemu_args *in, const char *want)
{
    scoped(strv_done) struct strv argv = STRV_INIT;

    assert_int_equal(qemu_args_build(in, &argv, NULL), 0);
    for (size_t i = 0; i < argv.len; i++) {
        if (str_eq(argv.items[i], "-append")) {
            assert_string_equal(argv.items[i + 1], want);
            return;
        }
    }
    assert_string_equal("", want);
}

static void test_args_rely_on_the_tsc_of_emulated_cpus_unless_the_image_says_otherwise(void **state)
{
    struct config config = config_of("x86_64");
    struct qemu_args tcg = args_of(&config, "tcg"), kvm = args_of(&config, "kvm");

    tcg.has_kernel = kvm.has_kernel = true;
    assert_append(&tcg, "tsc=reliable");
    assert_append(&kvm, "");
    tcg.kernel_cmdline = kvm.kernel_cmdline = "quiet";
    assert_append(&tcg, "quiet tsc=reliable");
    assert_append(&kvm, "quiet");
    tcg.kernel_cmdline = "tsc=unstable";
    assert_append(&tcg, "tsc=unstable");
    tcg.kernel_cmdline = "clocksource=hpet";
    assert_append(&tcg, "clocksource=hpet");
}

static void test_args_of_a_legacy_bios_guest_with_an_iso(void **state)
{
    struct config config = config_of("x86_64");
    struct qemu_args in = args_of(&config, "tcg");

    config.legacy_bios = true;
    in.has_iso = true;
    assert_golden("x86_64_tcg_bios_iso", &in);
}

static void test_args_of_vsock_by_the_kernel_and_by_a_program(void **state)
{
    struct config config = config_of("x86_64");
    struct qemu_args in = args_of(&config, "kvm");

    in.vsock = QEMU_VSOCK_KERNEL;
    in.vsock_cid = 1234567;
    assert_golden("x86_64_kvm_vsock", &in);
    in.vsock = QEMU_VSOCK_USER;
    assert_golden("x86_64_kvm_vsock_user", &in);
}

static void test_args_of_folders_by_virtiofs(void **state)
{
    static const struct qemu_fs_device devices[] = {{"lima-0123456789abcdef", 1024},
                                                    {"lima-fedcba9876543210", 512}};
    struct config config = config_of("x86_64");
    struct qemu_args in = args_of(&config, "kvm");

    in.fs = devices;
    in.fs_count = ARRAY_LEN(devices);
    assert_golden("x86_64_kvm_virtiofs", &in);
    assert_int_equal(qemu_args_ports(&in), 0);
    in.hotplug = true;
    assert_golden("x86_64_kvm_virtiofs_hotplug", &in);
    assert_int_equal(qemu_args_ports(&in), 2 + QEMU_SPARE_PORTS);
    config.arch = "riscv64";
    assert_int_equal(qemu_args_ports(&in), 0);
    config.arch = "x86_64";
    assert_int_equal(qemu_args_fs_fd(&in), QEMU_FD_VSOCK);
    in.vsock = QEMU_VSOCK_USER;
    assert_int_equal(qemu_args_fs_fd(&in), QEMU_FD_VSOCK + 1);
}

static void test_vsock_addresses_are_usable_and_differ(void **state)
{
    unsigned first = qemu_vsock_cid_of("/home/a/.lima/a", 0);

    assert_int_equal(first, qemu_vsock_cid_of("/home/a/.lima/a", 0));
    for (unsigned i = 0; i < 100000; i++) {
        unsigned cid = qemu_vsock_cid_of("/home/a/.lima/a", i);

        assert_true(cid >= 3 && cid <= INT32_MAX);
        assert_true(i == 0 || cid != first);
    }
    assert_int_not_equal(first, qemu_vsock_cid_of("/home/a/.lima/b", 0));
}

static void test_args_of_a_combined_firmware_image(void **state)
{
    struct config config = config_of("x86_64");
    struct qemu_args in = args_of(&config, "kvm");

    in.firmware_code = "/lima/a/qemu-efi-code.fd";
    in.firmware_code_writable = true;
    in.ssh_port = 0;
    assert_golden("x86_64_kvm_combined", &in);
}

static void test_args_of_foreign_architectures(void **state)
{
    static const char *const names[] = {"aarch64", "armv7l", "riscv64", "ppc64le", "s390x"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct config config = config_of(names[i]);
        struct qemu_args in = args_of(&config, "tcg");
        scoped(free) char *name = xasprintf("%s_tcg", names[i]);

        if (qemu_arch_find(names[i])->firmware) {
            in.firmware_code = "/usr/share/code.fd";
        }
        assert_golden(name, &in);
    }
}

static void test_args_refuse_an_unknown_architecture(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv argv = STRV_INIT;
    struct config config = config_of("vax");
    struct qemu_args in = args_of(&config, "tcg");

    assert_fails(qemu_args_build(&in, &argv, &err), &err, ENOTSUP, "'vax'");
    assert_int_equal(argv.len, 0);
}

/* A comma in a path would otherwise start another option, wherever the path is used. */
static void test_args_keep_commas_of_paths_inside(void **state)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    struct config config = config_of("x86_64");
    struct qemu_args in = args_of(&config, "tcg");
    int doubled = 0, plain = 0;

    in.dir = "/li,readonly=off/a";
    in.has_iso = in.has_kernel = in.has_initrd = true;
    in.firmware_code = "/li,readonly=off/code";
    in.firmware_vars = "/li,readonly=off/vars";
    assert_int_equal(qemu_args_build(&in, &argv, NULL), 0);
    for (size_t i = 0; i < argv.len; i++) {
        doubled += strstr(argv.items[i], "/li,,readonly=off/") != NULL;
        plain += strstr(argv.items[i], "/li,readonly=off/") != NULL;
    }
    assert_int_equal(doubled, 6); /* disk, ISO, seed, serial log, firmware and its variables */
    assert_int_equal(plain, 3);   /* kernel, initrd, pid file: whole arguments */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args_of_a_uefi_guest_under_kvm),
        cmocka_unit_test(test_args_of_a_direct_kernel_boot_under_tcg),
        cmocka_unit_test(
            test_args_rely_on_the_tsc_of_emulated_cpus_unless_the_image_says_otherwise),
        cmocka_unit_test(test_args_of_a_legacy_bios_guest_with_an_iso),
        cmocka_unit_test(test_args_of_vsock_by_the_kernel_and_by_a_program),
        cmocka_unit_test(test_args_of_folders_by_virtiofs),
        cmocka_unit_test(test_vsock_addresses_are_usable_and_differ),
        cmocka_unit_test(test_args_of_a_combined_firmware_image),
        cmocka_unit_test(test_args_of_foreign_architectures),
        cmocka_unit_test(test_args_refuse_an_unknown_architecture),
        cmocka_unit_test(test_args_keep_commas_of_paths_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
