/* SPDX-License-Identifier: Apache-2.0 */
/* One file's tree -> normal tree (see schema.h): types, allowed values, unknown keys. */
#pragma once

#include "config/context.h"
#include "config/schema.h"
#include "util/value.h"

/*
 * The normal tree of @tree (consumed) by the rows of @object. Problems go to @report; what they are
 * about is left out of the result, which is always an object.
 */
jv config_normalize(const struct schema_object *object, jv tree, const struct config_source *source,
                    struct config_report *report);
