/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs a virtual machine. A driver is a const table of operations; one that it lacks is NULL,
 * and callers test for that. The host agent owns one struct driver per VM; the command line tools
 * use the operations that need no running VM (validate, describe).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"
#include "config/config.h"
#include "util/loop.h"

struct driver; /* private to the implementation */

/* Upward calls; each may close the driver. */
struct driver_events {
    /* The VM runs (QMP answers) and guest_connect() may be called; once, after start() or attach().
     */
    void (*started)(void *arg);
    /*
     * The VM process ended; its runtime files are gone and close() is all that is left to do.
     * @expected: after shutdown() or kill(), or because the guest powered itself off. @reason,
     * borrowed: "the VM powered down", "QEMU (process 7) ended with exit status 1: last lines of
     * its log".
     */
    void (*exited)(bool expected, const char *reason, void *arg);
    /*
     * The machine was told to power down, reset, goes on after a stop, or panicked: "shutdown",
     * "reset", "resumed", "guest-panicked".
     */
    void (*notice)(const char *what, void *arg);
    /* The guest opened or closed the agent's port. The stream of guest_connect() restarts its
     * session. */
    void (*guest_port)(bool open, void *arg);
    /* The program that serves the mount with this tag has ended, for good. Strings are borrowed. */
    void (*mount_lost)(const char *tag, const char *reason, void *arg);
    /* Ends of mount_add() and mount_remove(). @why it did not work, or NULL. */
    void (*mount_added)(const char *tag, const char *why, void *arg);
    void (*mount_removed)(const char *tag, const char *why, void *arg);
    /* New text on the serial console. */
    void (*console)(const char *text, size_t len, void *arg);
};

struct driver_options {
    const struct config *config;
    const char *dir;   /* instance folder */
    int ssh_port;      /* host port forwarded to the guest's 22 on 127.0.0.1 */
    const char *accel; /* NULL: decide */
};

struct driver_ops {
    const char *name;

    /* Refuses what this driver cannot do, before anything is created. */
    int (*validate)(const struct config *config, struct error *err);
    /* One line about how it will run, e.g. "accelerator tcg: the CPU lists neither vmx nor svm". */
    char *(*describe)(const struct config *config);

    int (*open)(struct loop *loop, const struct driver_options *options,
                const struct driver_events *events, void *events_arg, struct driver **ret,
                struct error *err);
    /* Stops watching; a running VM goes on. */
    void (*close)(struct driver *driver);

    /*
     * Launches the VM; started() and later exited() follow. A launch that fails after this returned
     * is an exited() before any started(). Errors: EADDRINUSE (ssh_port is taken), the program's
     * own words.
     */
    int (*start)(struct driver *driver, struct error *err);
    /* Takes over a VM that runs already (its host agent died). ESRCH: there is none. */
    int (*attach)(struct driver *driver, struct error *err);
    /* Asks the guest to power down; exited() follows, or never. */
    int (*shutdown)(struct driver *driver, struct error *err);
    /*
     * Ends it now, without the guest's doing: QEMU gets the chance to flush its disks, and is
     * killed if it does not take it within seconds. exited() follows.
     */
    int (*kill)(struct driver *driver, struct error *err);
    /* Connects to the agent's port: a non-blocking stream that the caller owns. */
    int (*guest_connect)(struct driver *driver, int *ret_fd, struct error *err);
    /*
     * Connects to port @port of the guest by vsock: a non-blocking socket, connected or being
     * connected, that the caller owns. *@ret_line: it brings a line "OK NUMBER\n" first.
     * Errors: EOPNOTSUPP (this VM has no vsock).
     */
    int (*vsock_connect)(struct driver *driver, unsigned port, int *ret_fd, bool *ret_line,
                         struct error *err);
    /*
     * Gives the running VM a device for @mount, by virtiofs: mount_added() follows. The guest takes
     * its time to see it. Errors: EOPNOTSUPP (this VM cannot be given one), ENOSPC (no more).
     */
    int (*mount_add)(struct driver *driver, const struct config_mount *mount, struct error *err);
    /*
     * Takes it out again: mount_removed() follows. Errors: ENOENT (there is none that could be),
     * EBUSY.
     */
    int (*mount_remove)(struct driver *driver, const char *tag, struct error *err);
    /* There is a device by virtiofs with this tag that works, or it is on its way. */
    bool (*mount_has)(const struct driver *driver, const char *tag);
    pid_t (*pid)(const struct driver *driver);
};

/* The table of @name ("qemu"). Errors: ENOTSUP (unknown or not built for this host). */
int driver_find(const char *name, const struct driver_ops **ret, struct error *err);
