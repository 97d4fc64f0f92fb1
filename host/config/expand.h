/* SPDX-License-Identifier: Apache-2.0 */
/* {{templates}} in the fields that may hold them. */
#pragma once

#include "config/context.h"
#include "util/value.h"

/*
 * @tree (filled, consumed) with those fields expanded. A script whose template is wrong only warns
 * and stays as written; a wrong path is an error.
 */
jv config_expand(jv tree, const struct config_context *context);
