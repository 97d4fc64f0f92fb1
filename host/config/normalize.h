/* SPDX-License-Identifier: Apache-2.0 */
/* One file's tree -> normal tree (see schema.h): types, allowed values, unknown keys. */
#pragma once

#include "config/report.h"
#include "config/schema.h"
#include "util/value.h"

struct config_source {
    const char *name;                /* of the file, for messages */
    const struct value_lines *lines; /* of its tree; may be NULL */
    bool own;                        /* the instance's file, not default.yaml or override.yaml */
};

/*
 * The normal tree of @tree (consumed) by the rows of @object. Problems go to @report; what they are
 * about is left out of the result, which is always an object.
 */
jv config_normalize(const struct schema_object *object, jv tree, const struct config_source *source,
                    struct config_report *report);
