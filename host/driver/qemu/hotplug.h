/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders by virtiofs that a running VM is given, and that are taken from it: by QMP, behind the
 * ports that the VM has been started with (args.h). The guest has to let a device go.
 */
#pragma once

#include <jv.h>
#include "driver/qemu/qmp.h"
#include "driver/qemu/virtiofs.h"

struct qemu_hotplug;

/* @why is borrowed. Both are last statements of callbacks. */
struct qemu_hotplug_events {
    /* The device is there; or it is not, and never comes: @why. */
    void (*added)(const char *tag, const char *why, void *arg);
    /* It is gone, and its server too; or the guest keeps it: @why. */
    void (*removed)(const char *tag, const char *why, void *arg);
};

/* @virtiofs is borrowed. @ports: of the VM. */
struct qemu_hotplug *qemu_hotplug_new(struct loop *loop, struct qemu_virtiofs *virtiofs,
                                      const struct qemu_hotplug_events *events, void *arg);
void qemu_hotplug_free(struct qemu_hotplug *hotplug);
SCOPED_PTR(struct qemu_hotplug, qemu_hotplug_free)
/* The VM has so many, of which those of virtiofs' servers are taken. */
void qemu_hotplug_set_ports(struct qemu_hotplug *hotplug, int count);

/* Errors: EOPNOTSUPP (the VM has no ports), ENOSPC (all are taken), what a start of virtiofsd
 * gives. */
int qemu_hotplug_add(struct qemu_hotplug *hotplug, struct qmp *qmp,
                     const struct config_mount *mount, struct error *err);
/* Errors: ENOENT (no device behind a port has this tag), EBUSY. */
int qemu_hotplug_remove(struct qemu_hotplug *hotplug, struct qmp *qmp, const char *tag,
                        struct error *err);
/* An event of QMP. */
void qemu_hotplug_event(struct qemu_hotplug *hotplug, struct qmp *qmp, const char *name, jv data);
