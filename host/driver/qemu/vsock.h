/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock of one VM: the kernel's (vhost-vsock), else that of the program vhost-device-vsock, which
 * speaks vhost-user and has a Unix socket for the host's side. There may be neither: nothing here
 * makes a start fail.
 *
 * The program is a child that ends with us: QEMU 7.2 cannot connect to another one, so a host agent
 * that takes a running VM over does without.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "driver/qemu/args.h"
#include "driver/qemu/caps.h"
#include "util/loop.h"

struct qemu_vsock;

/*
 * What is to be had for a new VM in folder @dir, or NULL; may wait some 10 ms for the program to
 * listen. LIMA_GUEST_TRANSPORT=virtio forbids it,
 * and the program is started for LIMA_GUEST_TRANSPORT=vsock alone.
 */
struct qemu_vsock *qemu_vsock_start(struct loop *loop, const char *dir,
                                    const struct qemu_caps *caps, const struct qemu_arch *arch);
/* Of a VM that runs with the arguments @args, or NULL. */
struct qemu_vsock *qemu_vsock_attach(const struct strv *args);
/* Ends the program, removes its sockets. */
void qemu_vsock_free(struct qemu_vsock *vsock);
SCOPED_PTR(struct qemu_vsock, qemu_vsock_free)

/* For QEMU's arguments. */
enum qemu_vsock_kind qemu_vsock_kind(const struct qemu_vsock *vsock); /* NULL: none */
unsigned qemu_vsock_cid(const struct qemu_vsock *vsock);
/* The descriptor that becomes QEMU_FD_VSOCK in the child; borrowed. */
int qemu_vsock_fd(const struct qemu_vsock *vsock);
/* QEMU has it. */
void qemu_vsock_passed(struct qemu_vsock *vsock);

/* As driver_ops.vsock_connect. */
int qemu_vsock_connect(const struct qemu_vsock *vsock, unsigned port, int *ret_fd, bool *ret_line,
                       struct error *err);

/* Pure: the address number @attempt to try for the VM of folder @dir; not one of the reserved. */
unsigned qemu_vsock_cid_of(const char *dir, unsigned attempt);
