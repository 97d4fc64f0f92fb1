/* SPDX-License-Identifier: Apache-2.0 */
/* Rules across fields; what one value alone may be, the schema's rows say. */
#pragma once

#include "config/context.h"
#include "util/value.h"

/* Problems of @tree (filled, expanded, borrowed) go to the report. */
void config_validate(jv tree, const struct config_context *context);
/*
 * Every param of the instance's own file (@raw: its tree as read, borrowed) has to be used in it,
 * as {{.Param.KEY}} or PARAM_KEY: a wrong name is found so.
 */
void config_validate_params(jv raw, const struct config_source *own,
                            const struct config_context *context);
