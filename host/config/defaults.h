/* SPDX-License-Identifier: Apache-2.0 */
/* Values for what no file set: constants of the schema and facts of the host. */
#pragma once

#include "config/context.h"
#include "util/value.h"

/* @tree (normal, merged, consumed) with every default, and without what plain mode leaves out. */
jv config_fill(jv tree, const struct config_context *context);
/* The same for the list of 'mounts' alone, which is made after all else. */
jv config_fill_mounts(jv list, const struct config_context *context);
