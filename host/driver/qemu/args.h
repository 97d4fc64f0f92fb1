/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of QEMU, as a pure function of the configuration and of what was found on the
 * host: golden tests show every change of a VM's machine. What differs between guest architectures
 * is one row of a table.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "config/config.h"
#include "util/strv.h"

#define QEMU_AGENT_PORT_NAME "io.lima-vm.guest_agent.0"
#define QEMU_AGENT_CHARDEV   "agent"  /* also how QMP calls the chardev */
#define QEMU_AGENT_DEVICE    "agent0" /* and the port, in VSERPORT_CHANGE */

/* One guest architecture. */
struct qemu_arch {
    const char *name;        /* Lima's */
    const char *binary;      /* qemu-system-<this> */
    const char *env;         /* overrides the binary */
    const char *package;     /* Debian's, for hints */
    bool supported;          /* by validate() */
    const char *machine;     /* for -machine */
    const char *machine_tcg; /* what tcg adds to it, "" for nothing */
    const char *cpu_tcg;     /* what tcg adds to the CPU model, NULL for nothing */
    const char *const *tcg;  /* arguments that tcg adds, NULL-terminated */
    bool firmware;           /* pflash images */
    bool legacy_bios;        /* works without them */
    bool ports;              /* devices can be added behind ports of PCI Express */
    const char *blk, *net, *rng, *scsi, *serial_bus, *gpu, *fs;
    int serial_ports; /* max_ports of serial_bus */
};

/* NULL for an unknown one. */
const struct qemu_arch *qemu_arch_find(const char *name);

/* Numbers that the child's inherited listening sockets have. */
enum {
    QEMU_FD_QMP = 3,
    QEMU_FD_SERIAL = 4,
    QEMU_FD_AGENT = 5,
    QEMU_FD_COUNT = 3,
    QEMU_FD_VSOCK = 6, /* where there is one: vhost, or a socket to its program */
};

/*
 * A folder that a program serves by vhost-user. The first QEMU_FS_PORTED are behind ports, from
 * which they can be taken; QEMU_SPARE_PORTS more are for those that come later.
 */
#define QEMU_FS_MAX      32
#define QEMU_FS_PORTED   4
#define QEMU_SPARE_PORTS 4
#define QEMU_PORTS_MAX   (QEMU_FS_PORTED + QEMU_SPARE_PORTS)
/* What QMP calls the things of a port and of a folder. */
#define QEMU_PORT       "port%d"
#define QEMU_FS_DEVICE  "fs-%s" /* the tag */
#define QEMU_FS_CHARDEV "char-%s"

struct qemu_fs_device {
    const char *tag;
    int queue_size;
};

enum qemu_vsock_kind {
    QEMU_VSOCK_NONE,
    QEMU_VSOCK_KERNEL, /* vhost */
    QEMU_VSOCK_USER,   /* vhost-user, which shares the guest's memory */
};

struct qemu_args {
    const struct config *config;
    const char *dir; /* of the instance, absolute */
    const char *accel;
    const char *cpu;
    const char *aio;         /* for the boot disk; "" for QEMU's default */
    const char *disk_format; /* "raw" or "qcow2" */
    const char *mac;
    int ssh_port; /* 0: no forward */
    bool has_iso;
    bool has_kernel, has_initrd; /* direct boot */
    const char *kernel_cmdline;  /* "" for none */
    const char *firmware_code;   /* NULL: the machine's own */
    bool firmware_code_writable; /* variables live in the same image */
    const char *firmware_vars;   /* NULL: none */
    enum qemu_vsock_kind vsock;
    unsigned vsock_cid;              /* the kernel's */
    const struct qemu_fs_device *fs; /* their sockets are from qemu_args_fs_fd() on */
    size_t fs_count;
    bool hotplug; /* reserve ports, where the machine can */
};

/* How many ports @in's machine has; 0: nothing can be added to it. */
int qemu_args_ports(const struct qemu_args *in);
/* Number of the socket of the first of @in's fs in the child. */
int qemu_args_fs_fd(const struct qemu_args *in);
/*
 * Appends everything behind the program's name and the user's extra words.
 * Errors: ENOTSUP (architecture).
 */
int qemu_args_build(const struct qemu_args *in, struct strv *ret, struct error *err);
