/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes of the loop: started, their output read as it comes, their end reported once.
 * Whatever a child leaves running keeps its output pipe; that output goes on to our own stderr.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/error.h"
#include "loop.h"

struct children;
struct child;

struct child_identity {
    const char *name;
    uid_t uid;
    gid_t gid;
};

struct child_options {
    const char *const *argv; /* argv[0] is searched in the usual folders unless it has a '/' */
    const char *const *envp;
    const struct child_identity *as; /* NULL: root as we are; else with its groups */
    const char *dir;                 /* working folder; "/" when it cannot be entered */
    bool quiet;                      /* the output is for output() alone, not for our stderr */
    /* Output of stdout and stderr, which has gone to our stderr already; may be NULL. */
    void (*output)(const void *data, size_t len, void *arg);
    /* @status is 0..255, or 128+N for signal N. The child handle is invalid from here on. */
    void (*exited)(int status, void *arg);
    void *arg;
};

/* Children get the resource limits that hold now. */
struct children *children_new(struct loop *loop);
/* Kills (SIGTERM, whole process groups) what runs; no callbacks. */
void children_free(struct children *children);
/* To be called after SIGCHLD. Calls exited() of those that ended. */
void children_reap(struct children *children);

int child_start(struct children *children, const struct child_options *options, struct child **ret,
                struct error *err);
/* Signals its process group; the end is reported as usual. */
void child_kill(struct child *child, int signal);
/* No more callbacks of this child; it runs on. The handle is invalid from here on. */
void child_forget(struct child *child);
