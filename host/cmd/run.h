/* SPDX-License-Identifier: Apache-2.0 */
/* From argv to a running command, and the texts on the way. Entered by main() and tests. */
#pragma once

#include "cmd/cmd.h"

/* The whole program: parses, runs, prints errors; returns the exit status. */
int cmd_main(int argc, char **argv);

/* The set of flags that @cmd accepts: its own, the configuration's, the global ones. NULL:
 * limactl's. */
struct cmd_flags *cmd_flags_of(const struct cmd *cmd) _nonnull_;
/* Text of `limactl [PARENT] [CMD] --help`; both may be NULL. Caller frees. */
char *cmd_help(const struct cmd *parent, const struct cmd *cmd) _nonnull_;
/* "limactl image build NAME... [flags]". Caller frees. */
char *cmd_use_line(const struct cmd *parent, const struct cmd *cmd) _nonnull_;
/* By name or alias in a NULL-terminated list; NULL if there is none. */
const struct cmd *cmd_find(const struct cmd *const *table, const char *word);
/* "unknown command ...", with what was probably meant. -EINVAL. */
int cmd_unknown(const struct cmd *parent, const char *word, struct error *err);
/* Checks the number of arguments. Errors: EINVAL in the words of the reference. */
int cmd_check_args(const struct cmd *parent, const struct cmd *cmd, const struct strv *args,
                   struct error *err);
