/* SPDX-License-Identifier: Apache-2.0 */
/* From the arguments of create and start to an instance: cli.md 3.2. */
#pragma once

#include "base/error.h"
#include "cmd/cmd.h"

/* Flags of create that start takes too. */
extern const struct cmd_flag cmd_create_flags[];

/*
 * What a command line of create or start is about. @ret_exists: instance @ret_name is there already
 * (start uses it, create refuses it). Else it has been created from its template.
 */
int cmd_target(const struct cmd_context *ctx, bool reuse, char **ret_name, bool *ret_exists,
               struct error *err);
/* Prints what --list-templates or --list-drivers ask for. 1: done; 0: neither was given. */
int cmd_target_lists(const struct cmd_context *ctx, struct error *err);
/* Applies the configuration flags, if any, to an existing instance. */
int cmd_target_apply(const struct cmd_context *ctx, const char *name, struct error *err);
/* The text after the flags, checked, or NULL if none was given; nothing is saved. Caller frees. */
int cmd_target_check(const struct cmd_context *ctx, const char *name, char **ret_text,
                     struct error *err);
