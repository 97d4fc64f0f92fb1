/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From arguments and configuration flags to the text of a lima.yaml: what create, start and restart
 * share. cli.md 1.4 and 3.2.
 */
#pragma once

#include "base/error.h"
#include "cmd/cmd.h"

/* Registers the configuration flags that a command of kind @which takes. */
void cmd_config_add(struct cmd_flags *flags, const char *section, enum cmd_config_flags which);
/* True if any of them was given. */
bool cmd_config_given(const struct cmd_flags *flags);
/*
 * The expressions for those given, for a text @text; warnings are logged. @is_new: the instance
 * does not exist yet. Errors: EINVAL.
 */
int cmd_config_expressions(const struct cmd_flags *flags, const char *text, bool is_new,
                           struct strv *ret, struct error *err);

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
int cmd_config_apply(const struct cmd_context *ctx, const char *name, struct error *err);
/* The text after the flags, checked, or NULL if none was given; nothing is saved. Caller frees. */
int cmd_config_check(const struct cmd_context *ctx, const char *name, char **ret_text,
                     struct error *err);
