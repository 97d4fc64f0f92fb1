/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which variables of the host `limactl shell --preserve-env` passes on: all but those that match a
 * pattern of the block list and none of the allow list. Patterns are letters, digits, '_', and '*'
 * for any run of characters.
 */
#pragma once

#include "base/error.h"
#include "util/strv.h"

/*
 * The block list: the built-in one; @setting (LIMA_SHELLENV_BLOCK, may be NULL) replaces it, or
 * adds to it when it begins with '+'. Errors: EINVAL (a pattern with another character).
 */
int shell_env_block(const char *setting, struct strv *ret, struct error *err);

/*
 * Adds the "KEY=VALUE" entries of @environ that pass. @block and @allow are LIMA_SHELLENV_BLOCK and
 * LIMA_SHELLENV_ALLOW, or NULL. Errors: EINVAL (as above).
 */
int shell_env_select(const char *const *environment, const char *block, const char *allow,
                     struct strv *ret, struct error *err);
