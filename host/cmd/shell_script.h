/* SPDX-License-Identifier: Apache-2.0 */
/* What `limactl shell` has the guest's shell do. Pure. */
#pragma once

#include "util/strv.h"

struct shell_script {
    const char *workdir;      /* NULL: where ssh logs in */
    const char *shell;        /* login shell; NULL: the user's own, "$SHELL" */
    const struct strv *env;   /* "KEY=VALUE" words to set; may be NULL */
    const char *const *words; /* the command, NULL-terminated; empty for an interactive shell */
};

/*
 * `cd DIR || exit 1 ; exec [env K=V...] SHELL -l [-c 'WORDS']`. Every word arrives as it is,
 * blanks, quotes and line breaks included; leading words such as NAME=value stay assignments.
 * Caller frees.
 */
char *shell_script_make(const struct shell_script *script);

/*
 * The WORDS of that script: one text for SHELL -c. NULL when there are none. Caller frees.
 */
char *shell_script_command(const char *const *words);
