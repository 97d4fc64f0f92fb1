/* SPDX-License-Identifier: Apache-2.0 */
/* Trees on stdout, as list, info and validate print them: coloured and indented on a terminal. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "util/value.h"

enum cmd_output {
    CMD_OUTPUT_JSON_LINES, /* one line each; indented on a terminal */
    CMD_OUTPUT_JSON,       /* always indented */
    CMD_OUTPUT_YAML,       /* a document each, beginning with "---" */
};

/* Appends @value (consumed) with its line end. */
void cmd_output_put(jv value, enum cmd_output form, struct buf *out);
/*
 * Appends every result of the jq program @query over @value (consumed); strings bare. @query NULL:
 * the value itself. Errors: EINVAL.
 */
int cmd_output_query(jv value, const char *query, enum cmd_output form, struct buf *out,
                     struct error *err);
