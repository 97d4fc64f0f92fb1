/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/args.h"

#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "instance/layout.h"
#include "mount/mount.h"
#include "util/path.h"

#define MIB (1024 * 1024)

static const char *const tcg_any[] = {"-accel", "tcg,thread=multi,tb-size=512", NULL};
/* Sleep states only cost the guest time; nobody wakes it up. */
static const char *const tcg_x86[] = {
    "-accel",  "tcg,thread=multi,tb-size=512", "-global", "ICH9-LPC.disable_s3=1",
    "-global", "ICH9-LPC.disable_s4=1",        NULL};

#define PCI_DEVICES                                                                                \
    .blk = "virtio-blk-pci", .net = "virtio-net-pci", .rng = "virtio-rng-pci",                     \
    .scsi = "virtio-scsi-pci", .serial_bus = "virtio-serial-pci", .serial_ports = 2,               \
    .fs = "vhost-user-fs-pci"

/*
 * "-erms": kernels and C libraries copy with REP MOVSB where a CPU says that this is fast. TCG does
 * one byte at a time; without the flag they use REP MOVSQ, which is eight times as fast.
 */
static const struct qemu_arch archs[] = {
    {.name = "x86_64",
     .binary = "x86_64",
     .env = "QEMU_SYSTEM_X86_64",
     .package = "qemu-system-x86",
     .supported = true,
     .machine = "q35",
     .machine_tcg = ",vmport=off",
     .cpu_tcg = ",-erms",
     .tcg = tcg_x86,
     .firmware = true,
     .legacy_bios = true,
     .ports = true,
     PCI_DEVICES,
     .gpu = "virtio-vga"},
    {.name = "aarch64",
     .binary = "aarch64",
     .env = "QEMU_SYSTEM_AARCH64",
     .package = "qemu-system-arm",
     .machine = "virt",
     .machine_tcg = "",
     .tcg = tcg_any,
     .firmware = true,
     .ports = true,
     PCI_DEVICES,
     .gpu = "virtio-gpu"},
    {.name = "armv7l",
     .binary = "arm",
     .env = "QEMU_SYSTEM_ARM",
     .package = "qemu-system-arm",
     .machine = "virt",
     .machine_tcg = "",
     .tcg = tcg_any,
     .firmware = true,
     .legacy_bios = true,
     PCI_DEVICES,
     .gpu = "virtio-gpu"},
    {.name = "riscv64",
     .binary = "riscv64",
     .env = "QEMU_SYSTEM_RISCV64",
     .package = "qemu-system-misc",
     .machine = "virt,acpi=off",
     .machine_tcg = "",
     .tcg = tcg_any,
     .firmware = true,
     PCI_DEVICES,
     .gpu = "virtio-vga"},
    {.name = "ppc64le",
     .binary = "ppc64",
     .env = "QEMU_SYSTEM_PPC64",
     .package = "qemu-system-ppc",
     .machine = "pseries",
     .machine_tcg = "",
     .tcg = tcg_any,
     PCI_DEVICES,
     .gpu = "virtio-gpu"},
    {.name = "s390x",
     .binary = "s390x",
     .env = "QEMU_SYSTEM_S390X",
     .package = "qemu-system-misc",
     .machine = "s390-ccw-virtio",
     .machine_tcg = "",
     .tcg = tcg_any,
     .blk = "virtio-blk-ccw",
     .net = "virtio-net-ccw",
     .rng = "virtio-rng-ccw",
     .scsi = "virtio-scsi-ccw",
     .serial_bus = "virtio-serial-ccw",
     .fs = "vhost-user-fs-ccw",
     .gpu = "virtio-gpu",
     .serial_ports = 2},
};

const struct qemu_arch *qemu_arch_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(archs); i++) {
        if (str_eq(archs[i].name, name)) {
            return &archs[i];
        }
    }
    return NULL;
}

/* A path as the value of a QEMU option: a comma would end it, so it is doubled. Caller frees. */
static char *option_value(const char *text)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    for (; *text; text++) {
        buf_puts(&out, *text == ',' ? ",," : (char[]){*text, '\0'});
    }
    return buf_steal(&out);
}

static char *file_value(const struct qemu_args *in, const char *name)
{
    scoped(free) char *path = path_join(in->dir, name);

    return option_value(path);
}

static bool has_display(const struct qemu_args *in)
{
    const char *display = in->config->video_display;

    return display && *display && !str_eq(display, "none");
}

int qemu_args_ports(const struct qemu_args *in)
{
    const struct qemu_arch *arch = qemu_arch_find(in->config->arch);

    return in->hotplug && arch && arch->ports
               ? QEMU_SPARE_PORTS + (int)MIN(in->fs_count, QEMU_FS_PORTED)
               : 0;
}

/* Programs that serve a device by vhost-user read and write the guest's memory. */
static bool shares_memory(const struct qemu_args *in)
{
    return in->vsock == QEMU_VSOCK_USER || in->fs_count > 0 || qemu_args_ports(in) > 0;
}

static void add_machine(const struct qemu_args *in, const struct qemu_arch *arch, struct strv *v)
{
    bool tcg = str_eq(in->accel, "tcg");
    int cpus = in->config->cpus;

    /* Whatever a machine has by default (floppy, CD-ROM, network card) only costs boot time. */
    strv_add_all(v, "-nodefaults", "-no-user-config", NULL);
    strv_add(v, "-m");
    strv_addf(v, "%lld", (long long)(in->config->memory / MIB));
    strv_add(v, "-cpu");
    strv_addf(v, "%s%s", in->cpu, tcg && arch->cpu_tcg ? arch->cpu_tcg : "");
    strv_add(v, "-machine");
    /* Without graphics the firmware of a PC talks to the serial line, where its errors are seen. */
    strv_addf(v, "%s%s%s%s", arch->machine, tcg ? arch->machine_tcg : "",
              has_display(in) ? "" : ",graphics=off",
              shares_memory(in) ? ",memory-backend=mem0" : "");
    if (tcg) {
        for (size_t i = 0; arch->tcg[i]; i++) {
            strv_add(v, arch->tcg[i]);
        }
    } else {
        strv_add_all(v, "-accel", in->accel, NULL);
    }
    strv_add(v, "-smp");
    strv_addf(v, "%d,sockets=1,cores=%d,threads=1", cpus, cpus);
}

static void add_firmware(const struct qemu_args *in, struct strv *v)
{
    if (!in->firmware_code) {
        return;
    }
    scoped(free) char *code = option_value(in->firmware_code);

    strv_add(v, "-drive");
    strv_addf(v, "if=pflash,unit=0,format=raw,readonly=%s,file=%s",
              in->firmware_code_writable ? "off" : "on", code);
    if (in->firmware_vars) {
        scoped(free) char *vars = option_value(in->firmware_vars);

        strv_add(v, "-drive");
        strv_addf(v, "if=pflash,unit=1,format=raw,file=%s", vars);
    }
}

static void add_boot_disk(const struct qemu_args *in, const struct qemu_arch *arch, struct strv *v)
{
    scoped(free) char *disk = file_value(in, LAYOUT_DISK);

    strv_add_all(v, "-object", "iothread,id=io0", "-drive", NULL);
    strv_addf(v, "file=%s,if=none,id=boot-disk,format=%s,discard=unmap%s%s", disk, in->disk_format,
              *in->aio ? ",aio=" : "", in->aio);
    strv_add(v, "-device");
    strv_addf(v, "%s,drive=boot-disk,iothread=io0,bootindex=%d", arch->blk, in->has_iso ? 2 : 1);
    /* Only what has a bootindex is tried, so that a blank disk fails at once and not after PXE. */
    strv_add_all(v, "-boot", "strict=on", NULL);
}

static void add_install_medium(const struct qemu_args *in, const struct qemu_arch *arch,
                               struct strv *v)
{
    if (!in->has_iso) {
        return;
    }
    scoped(free) char *iso = file_value(in, LAYOUT_ISO);

    strv_add(v, "-device");
    strv_addf(v, "%s,id=scsi0", arch->scsi);
    strv_add(v, "-drive");
    strv_addf(v, "id=install,if=none,format=raw,readonly=on,file=%s", iso);
    strv_add_all(v, "-device", "scsi-cd,bus=scsi0.0,drive=install,bootindex=1", NULL);
}

/*
 * A disk of the kind that the guest boots from anyway, not a CD-ROM: a slow guest takes seconds to
 * load and wake a SCSI bus and a drive, and every boot waits for its seed. Found by its label
 * either way.
 */
static void add_seed(const struct qemu_args *in, const struct qemu_arch *arch, struct strv *v)
{
    scoped(free) char *seed = file_value(in, LAYOUT_CIDATA);

    strv_add(v, "-drive");
    strv_addf(v, "id=seed,if=none,format=raw,readonly=on,file=%s", seed);
    strv_add(v, "-device");
    strv_addf(v, "%s,drive=seed,serial=cidata", arch->blk);
}

/*
 * Linux takes the time stamp counters of several emulated CPUs for unsynchronized and reads the
 * HPET instead, which costs an exit from translated code at each look at the clock. QEMU derives
 * all of them from one clock (cpu_get_ticks), so they may be relied on.
 */
static const char *clock_option(const struct qemu_args *in)
{
    bool emulated = str_eq(in->accel, "tcg") && str_eq(in->config->arch, "x86_64");
    bool decided = strstr(in->kernel_cmdline, "tsc=") || strstr(in->kernel_cmdline, "clocksource=");

    return emulated && !decided ? "tsc=reliable" : "";
}

static void add_kernel(const struct qemu_args *in, struct strv *v)
{
    if (!in->has_kernel) {
        return;
    }
    scoped(free) char *kernel = path_join(in->dir, LAYOUT_KERNEL);
    const char *clock = clock_option(in), *space = *in->kernel_cmdline && *clock ? " " : "";

    strv_add_all(v, "-kernel", kernel, NULL);
    if (*in->kernel_cmdline || *clock) {
        strv_add(v, "-append");
        strv_addf(v, "%s%s%s", in->kernel_cmdline, space, clock);
    }
    if (in->has_initrd) {
        scoped(free) char *initrd = path_join(in->dir, LAYOUT_INITRD);

        strv_add_all(v, "-initrd", initrd, NULL);
    }
}

static void add_network(const struct qemu_args *in, const struct qemu_arch *arch, struct strv *v)
{
    strv_add(v, "-netdev");
    if (in->ssh_port > 0) {
        strv_addf(v,
                  "user,id=net0,net=192.168.5.0/24,dhcpstart=192.168.5.15,"
                  "hostfwd=tcp:127.0.0.1:%d-:22",
                  in->ssh_port);
    } else {
        strv_add(v, "user,id=net0,net=192.168.5.0/24,dhcpstart=192.168.5.15");
    }
    strv_add(v, "-device");
    strv_addf(v, "%s,netdev=net0,mac=%s%s", arch->net, in->mac,
              str_ends(arch->net, "-pci") ? ",romfile=" : ""); /* no PXE */
    strv_add_all(v, "-device", arch->rng, NULL);
}

static void add_display(const struct qemu_args *in, const struct qemu_arch *arch, struct strv *v)
{
    if (!has_display(in)) {
        strv_add_all(v, "-display", "none", "-vga", "none", NULL);
        return;
    }
    strv_add_all(v, "-display", in->config->video_display, "-device", arch->gpu, "-device",
                 "qemu-xhci,id=usb-bus", "-device", "virtio-keyboard-pci", "-device",
                 "virtio-mouse-pci", NULL);
}

/* Sockets listen already when QEMU starts: nobody has to wait for them. */
static void add_sockets(const struct qemu_args *in, const struct qemu_arch *arch, struct strv *v)
{
    scoped(free) char *log = file_value(in, LAYOUT_SERIAL_LOG);

    strv_add(v, "-chardev");
    strv_addf(v, "socket,id=char-serial,fd=%d,server=on,wait=off,logfile=%s", QEMU_FD_SERIAL, log);
    strv_add_all(v, "-serial", "chardev:char-serial", "-device", NULL);
    strv_addf(v, "%s,id=agent-bus,max_ports=%d", arch->serial_bus, arch->serial_ports);
    strv_add(v, "-chardev");
    strv_addf(v, "socket,id=" QEMU_AGENT_CHARDEV ",fd=%d,server=on,wait=off", QEMU_FD_AGENT);
    strv_add_all(v, "-device",
                 "virtserialport,bus=agent-bus.0,id=" QEMU_AGENT_DEVICE
                 ",chardev=" QEMU_AGENT_CHARDEV ",name=" QEMU_AGENT_PORT_NAME,
                 "-chardev", NULL);
    strv_addf(v, "socket,id=char-qmp,fd=%d,server=on,wait=off", QEMU_FD_QMP);
    strv_add_all(v, "-qmp", "chardev:char-qmp", NULL);
}

static void add_shared_memory(const struct qemu_args *in, struct strv *v)
{
    if (shares_memory(in)) {
        strv_add(v, "-object");
        strv_addf(v, "memory-backend-memfd,id=mem0,size=%lldM,share=on",
                  (long long)(in->config->memory / MIB));
    }
}

static void add_vsock(const struct qemu_args *in, struct strv *v)
{
    switch (in->vsock) {
    case QEMU_VSOCK_NONE:
        return;
    case QEMU_VSOCK_KERNEL:
        strv_add(v, "-device");
        strv_addf(v, "vhost-vsock-pci,guest-cid=%u,vhostfd=%d", in->vsock_cid, QEMU_FD_VSOCK);
        return;
    case QEMU_VSOCK_USER:
        strv_add(v, "-chardev");
        strv_addf(v, "socket,id=char-vsock,fd=%d", QEMU_FD_VSOCK);
        strv_add_all(v, "-device", "vhost-user-vsock-pci,chardev=char-vsock", NULL);
        return;
    }
}

/* The device's kind follows from "virtio-9p" by the machine's own bus. */
static void add_mounts(const struct qemu_args *in, struct strv *v)
{
    const struct config *config = in->config;

    for (size_t i = 0; i < config->mount_count; i++) {
        const struct config_mount *mount = &config->mounts[i];
        scoped(free) char *path = option_value(mount->location);
        scoped(free) char *tag = NULL;

        if (mount_choose(mount, config->mount_type).type != CONFIG_MOUNT_9P) {
            continue;
        }
        tag = mount_tag(mount);
        strv_add(v, "-virtfs");
        strv_addf(v, "local,mount_tag=%s,path=%s,security_model=%s%s", tag, path,
                  mount->security_model, mount->writable ? "" : ",readonly=on");
    }
}

int qemu_args_fs_fd(const struct qemu_args *in)
{
    return in->vsock == QEMU_VSOCK_NONE ? QEMU_FD_VSOCK : QEMU_FD_VSOCK + 1;
}

/* An empty slot for a device each; those on the board itself can only be filled before the start.
 */
static void add_ports(const struct qemu_args *in, struct strv *v)
{
    for (int i = 0; i < qemu_args_ports(in); i++) {
        strv_add(v, "-device");
        strv_addf(v, "pcie-root-port,id=" QEMU_PORT ",chassis=%d", i, i + 1);
    }
}

static void add_virtiofs(const struct qemu_args *in, const struct qemu_arch *arch, struct strv *v)
{
    int ports = qemu_args_ports(in);

    for (size_t i = 0; i < in->fs_count; i++) {
        const struct qemu_fs_device *fs = &in->fs[i];
        scoped(free) char *bus =
            i < QEMU_FS_PORTED && ports ? xasprintf(",bus=" QEMU_PORT, (int)i) : xstrdup("");

        strv_add(v, "-chardev");
        strv_addf(v, "socket,id=" QEMU_FS_CHARDEV ",fd=%d", fs->tag, qemu_args_fs_fd(in) + (int)i);
        strv_add(v, "-device");
        strv_addf(v, "%s,id=" QEMU_FS_DEVICE "%s,chardev=" QEMU_FS_CHARDEV ",tag=%s,queue-size=%d",
                  arch->fs, fs->tag, bus, fs->tag, fs->tag, fs->queue_size);
    }
}

int qemu_args_build(const struct qemu_args *in, struct strv *ret, struct error *err)
{
    const struct qemu_arch *arch = qemu_arch_find(in->config->arch);
    scoped(free) char *pidfile = path_join(in->dir, LAYOUT_QEMU_PID);

    if (!arch) {
        return error_set(err, ENOTSUP, "QEMU cannot run guests of architecture '%s'",
                         in->config->arch);
    }
    add_machine(in, arch, ret);
    add_firmware(in, ret);
    add_boot_disk(in, arch, ret);
    add_install_medium(in, arch, ret);
    add_seed(in, arch, ret);
    add_kernel(in, ret);
    add_network(in, arch, ret);
    add_display(in, arch, ret);
    add_sockets(in, arch, ret);
    add_shared_memory(in, ret);
    add_vsock(in, ret);
    add_mounts(in, ret);
    add_ports(in, ret);
    add_virtiofs(in, arch, ret);
    strv_add(ret, "-name");
    strv_addf(ret, "lima-%s", in->config->instance);
    strv_add_all(ret, "-pidfile", pidfile, NULL);
    return 0;
}
