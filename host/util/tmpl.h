/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go text/template, the part that templates and --format use: fields, if/else/end, range (with
 * break/continue left out), with, variables, pipelines, comments, trim markers; the functions
 *
 *     and or not eq ne lt le gt ge len index slice print printf println
 *     json yaml indent [N] missing [MESSAGE]
 *
 * string, number, true, false and nil literals, parentheses. Text is hostile: nesting, steps and
 * the length of the result are bounded.
 */
#pragma once

#include "base/error.h"
#include "util/value.h"

#define TMPL_MAX_DEPTH  64
#define TMPL_MAX_STEPS  1000000
#define TMPL_MAX_OUTPUT (16u << 20) /* bytes */

/*
 * Expands @text over @data (consumed). With @strict an unknown field fails ("can't evaluate field
 * X"); without it prints "<no value>". null prints "<nil>", a list "[a b]", a map "map[a:1 b:2]".
 * Errors: EINVAL (line, column and reason), E2BIG (a limit above).
 */
int tmpl_expand(const char *text, jv data, bool strict, char **ret, struct error *err);
