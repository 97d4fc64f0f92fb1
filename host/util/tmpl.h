/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go text/template, the part that templates and --format use: fields, if/else/end, range, with,
 * variables, pipelines, comments, trim markers, and or not eq ne lt le gt ge len index printf print
 * println json yaml indent missing, string and number literals, parentheses.
 */
#pragma once

#include "base/error.h"
#include "util/value.h"

/*
 * Expands @text over @data (consumed). With @strict an unknown field fails ("can't evaluate field
 * X"); without it prints "<no value>". Errors: EINVAL (position and reason).
 */
int tmpl_expand(const char *text, jv data, bool strict, char **ret, struct error *err);
