/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a file server gives up before it hears the first byte of a guest: new privileges, files
 * outside its folders (Landlock), and system calls that serving files does not need (seccomp). What
 * the kernel lacks is reported, and goes without.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"

struct sandbox_options {
    const char *source; /* the shared folder */
    bool writable;
    const char *state_dir; /* where the server's own files are; NULL: it has none */
    /*
     * Called once files are confined, and before threads cannot be made any more; returns when all
     * of them run. -errno. NULL: there are none.
     */
    int (*start_threads)(void *arg, struct error *err);
    void *arg;
};

/* Of a process with one thread. *@ret_missing: "Landlock", ... for a warning, or NULL. */
int sandbox_enter(const struct sandbox_options *options, const char **ret_missing,
                  struct error *err);
