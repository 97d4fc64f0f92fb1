/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes to a lima.yaml text: the configuration flags of create, start, edit and --set expressions, applied
 * so that comments and layout of the rest stay. See cli.md 1.4 for the list; expressions are jq's.
 */
#pragma once

#include "base/error.h"
#include "util/strv.h"

/*
 * Applies jq update expressions (".cpus = 4", ".ssh.localPort = 60022 | .plain = true") in order.
 * env, file and system operators are refused with the words "env operations have been disabled" and the
 * like. @ret_text is the whole new text. No expression: a copy. Errors: EINVAL.
 */
int config_edit(const char *text, const struct strv *expressions, char **ret_text,
                struct error *err);
