/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration flags of create, start and restart: cli.md 1.4. */
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
