/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What driver.c (one QEMU process, and what is heard from it) and launch.c (how it is started or
 * taken over) share. Nobody else includes it.
 */
#pragma once

#include "driver/driver.h"
#include "driver/qemu/accel.h"
#include "driver/qemu/caps.h"
#include "driver/qemu/hotplug.h"
#include "driver/qemu/qmp.h"
#include "driver/qemu/tail.h"
#include "driver/qemu/virtiofs.h"
#include "driver/qemu/vsock.h"
#include "util/strv.h"

enum state {
    STATE_IDLE,
    STATE_LAUNCHED,
    STATE_RUNNING,
    STATE_GONE,
};

struct driver {
    struct loop *loop;
    const struct config *config;
    char *dir;
    int ssh_port;
    const struct driver_events *events;
    void *events_arg;

    char *binary;
    struct strv extra; /* words of the user, in front */
    struct qemu_caps *caps;
    struct qemu_accel_choice accel;

    enum state state;
    pid_t pid;
    struct loop_child *child;
    struct loop_timer *kill_timer;
    struct qmp *qmp;
    struct qemu_vsock *vsock; /* NULL: none */
    struct qemu_virtiofs *virtiofs;
    struct qemu_hotplug *hotplug;
    struct tail *tail;
    bool end_wanted;        /* by shutdown() or kill() */
    bool guest_powered_off; /* by itself or because it was asked */
    int port_open;          /* as last told upwards; -1: nothing yet */
    bool listening, closed; /* closed while on_qemu_exit() listens: it frees the rest */
    char *qmp_failure;      /* why QMP ended before the VM ran */
};

/* ---- driver.c ---- */

/* Path of a file of the instance. Caller frees. */
char *qemu_driver_file(const struct driver *driver, const char *name);
/* Takes away what only a running VM has. */
void qemu_driver_clean(const struct driver *driver);
/* Watches the process and talks to it. */
int qemu_driver_follow(struct driver *driver, int *take_qmp_fd, bool from_end, struct error *err);

/* ---- launch.c: of driver_ops ---- */

int qemu_driver_start(struct driver *driver, struct error *err);
int qemu_driver_attach(struct driver *driver, struct error *err);
