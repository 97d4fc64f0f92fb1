/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes to a lima.yaml text: the configuration flags of create, start, edit and --set
 * expressions, applied so that comments and layout of the rest stay. See flags.h for the flags.
 *
 * Expressions are jq's. What users write for the reference (yq) mostly reads the same:
 *
 *     .cpus = 4 | .ssh.localPort = 60022          .portForwards[0].guestPort = 80
 *     .mounts += [{"location": "~"}]              del(.networks)
 *
 * and differs in: "+=" of a map to a list needs brackets; keys with other characters than letters,
 * digits and "_" need quotes (."my-key"); object keys in {...} with such characters too; texts take
 * double quotes only; merging is "*" (no "*+", "*n"); "reduce" for "ireduce"; no comment, anchor,
 * tag or style operators.
 */
#pragma once

#include "base/error.h"
#include "util/strv.h"

/*
 * Applies jq update expressions (".cpus = 4", ".ssh.localPort = 60022 | .plain = true") in order;
 * each has to give exactly one map. env and file operators are refused with the words "env
 * operations have been disabled", "file operations have been disabled". @ret_text is the whole new
 * text; when nothing changes, a copy. Errors: EINVAL, E2BIG (limits of yaml.h).
 */
int config_edit(const char *text, const struct strv *expressions, char **ret_text,
                struct error *err);
