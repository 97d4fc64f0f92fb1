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
#include "spawn.h"

struct children;
struct child;
struct process;

struct child_options {
    const char *const *argv; /* argv[0] is searched in the usual folders unless it has a '/' */
    const char *const *envp;
    /*
     * Instead of a program: called in the child, for what may wait; its result is the status. What
     * it prints is the output. @keep_fd (above 2; else none) stays open.
     */
    int (*run)(void *arg);
    int keep_fd;
    int stdin_fd;                    /* its standard input; 0: nothing */
    const struct spawn_identity *as; /* NULL: root as we are; else with its groups */
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
pid_t child_pid(const struct child *child);
/* Signals its process group; the end is reported as usual. */
void child_kill(struct child *child, int signal);
/* No more callbacks of this child; it runs on. The handle is invalid from here on. */
void child_forget(struct child *child);

/*
 * Processes: started as asked, the descriptors are their owner's business.
 *
 * @ended is called once. Until process_release() the number of the process is not given to another
 * one, so its group can be signalled safely; a released process runs on by itself.
 */
struct process_end {
    int status; /* 0..255, or 128+N for signal N */
    int signal; /* 0: exited by itself */
    bool core;
};

/* *ret_status_fd: see spawn(). */
int process_start(struct children *children, const struct spawn_options *options,
                  void (*ended)(const struct process_end *end, void *arg), void *arg,
                  struct process **ret, int *ret_status_fd, struct error *err);
/* Signals its process group, whether or not its first process is still there. */
void process_kill(const struct process *process, int signal);
void process_release(struct process *process);
