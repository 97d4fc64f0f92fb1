/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name of every file in an instance folder, in one place. Existing Lima instances and scripts
 * rely on them; what we add is marked "ours".
 */
#pragma once

#include "util/path.h"

#define LAYOUT_CONFIG        "lima.yaml"
#define LAYOUT_VERSION       "lima-version"
#define LAYOUT_CLOUD_CONFIG  "cloud-config.yaml"
#define LAYOUT_CIDATA        "cidata.iso"
#define LAYOUT_IMAGE         "image"
#define LAYOUT_DISK          "disk"
#define LAYOUT_ISO           "iso"
#define LAYOUT_KERNEL        "kernel"
#define LAYOUT_KERNEL_CMD    "kernel.cmdline"
#define LAYOUT_INITRD        "initrd"
#define LAYOUT_HA_PID        "ha.pid"
#define LAYOUT_HA_SOCK       "ha.sock"
#define LAYOUT_HA_STDOUT     "ha.stdout.log"
#define LAYOUT_HA_STDERR     "ha.stderr.log"
#define LAYOUT_QEMU_PID      "qemu.pid"
#define LAYOUT_QEMU_LOG      "qemu.log" /* ours: stdout and stderr of QEMU */
#define LAYOUT_EFI_CODE      "qemu-efi-code.fd"
#define LAYOUT_EFI_VARS      "qemu-efi-vars.fd" /* ours: the firmware's variables */
#define LAYOUT_QMP_SOCK      "qmp.sock"
#define LAYOUT_SERIAL_LOG    "serial.log"
#define LAYOUT_SERIAL_SOCK   "serial.sock"
#define LAYOUT_GA_SOCK       "ga.sock"
#define LAYOUT_GUEST_PORT    "ga.port.sock"      /* ours: QEMU's end of the agent's virtio port */
#define LAYOUT_VSOCK_DEVICE  "vsock.dev.sock"    /* ours: vhost-user, between QEMU and its vsock */
#define LAYOUT_VSOCK_SOCK    "vsock.sock"        /* ours: the host's side of that */
#define LAYOUT_VIRTIOFS_SOCK "virtiofsd-%s.sock" /* of this tag, until QEMU is connected */
#define LAYOUT_VIRTIOFS_PID  "virtiofsd-%s.pid"
#define LAYOUT_VIRTIOFS_LOG  "virtiofsd.log"
#define LAYOUT_VSOCK_LOG     "vsock.log"
#define LAYOUT_MOUNTS_DIR    "mnt" /* ours: a folder a file server, mnt/DIGITS */
#define LAYOUT_SSH_CONFIG    "ssh.config"
#define LAYOUT_SSH_SOCK      "ssh.sock"
#define LAYOUT_SOCK_DIR      "sock"
#define LAYOUT_PROTECTED     "protected"
#define LAYOUT_LOCK          "lima.lock" /* ours: one verb at a time */

#define LAYOUT_CONFIG_DIR "_config"
#define LAYOUT_IMAGES_DIR "_images" /* ours: images built here */

/* Longest suffix that a socket path in an instance folder may need (ssh's ControlPath temporary).
 */
#define LAYOUT_SOCKET_PROBE "ssh.sock.1234567890123456"
