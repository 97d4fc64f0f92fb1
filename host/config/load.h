/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From text to struct config: parse, check against the schema (unknown keys warn, wrong types and
 * values are errors with file, line, key and what is allowed), layer default.yaml below and
 * override.yaml above, fill defaults from the host, expand {{templates}}, validate across fields.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "config/config.h"
#include "util/strv.h"
#include "util/value.h"

#define CONFIG_MAX_BYTES (4u << 20) /* of one file */

struct config_load_options {
    const char *lima_home;  /* for _config/default.yaml and override.yaml */
    const char *instance;   /* name, for {{.Name}} and user defaults */
    const char *created_by; /* content of lima-version; NULL: a new instance */
    bool warn;              /* log unknown and not yet honoured keys */
    bool alone;             /* without default.yaml and override.yaml */
    struct strv *warnings;  /* not NULL: the warnings go here instead */
};

/*
 * Reads and loads @path. Errors: ENOENT (@path itself), EFBIG, EINVAL (all problems, joined by
 * newlines).
 */
int config_load(const char *path, const struct config_load_options *options, struct config **ret,
                struct error *err);
/* The same from text; @name stands for the file in messages. */
int config_load_text(const char *name, const char *text, const struct config_load_options *options,
                     struct config **ret, struct error *err);
void config_free(struct config *config);
SCOPED_PTR(struct config, config_free)

/* The effective configuration with the file's own keys, for list --json and validate --fill. */
jv config_dump(const struct config *config);
/* JSON Schema of the file, from the table that checks it. */
jv config_json_schema(void);
