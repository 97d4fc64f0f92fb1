/* SPDX-License-Identifier: Apache-2.0 */
/* The process of a command: from the request to descriptors. Only exec.c uses it. */
#pragma once

#include "exec.h"
#include "execwire.h"

/* All of it belongs to whoever got it. */
struct exec_process {
    struct process *process;
    int status;       /* see spawn() */
    int in, out, err; /* our ends; they do not block. A terminal: the master twice, err is -1 */
    char *name;       /* of the program */
    char *dir;        /* where it was to begin */
};

typedef void exec_ended_fn(const struct process_end *end, void *arg);

/* Errors: ENOENT (no such user), EPERM (not root, and another user). */
int exec_process_start(const struct execs_options *options, const struct exec_request *request,
                       exec_ended_fn *ended, void *arg, struct exec_process *ret,
                       struct error *err);
