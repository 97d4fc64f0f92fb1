/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Value trees: jv of libjq (immutable, reference-counted: every jv_* call consumes its arguments)
 * with helpers, JSON text, jq programs, and the source position of each node.
 *
 * Positions: a tree that yaml_load() made comes with a struct value_lines that maps a path such as
 * ".mounts[0].location" to line and column.
 */
#pragma once

#include <jv.h>
#include <stdbool.h>
#include "base/error.h"
#include "base/macros.h"

struct value_lines; /* path -> position */

struct value_pos {
    int line;   /* from 1; 0: unknown */
    int column; /* from 1 */
};

struct value_lines *value_lines_new(void);
void value_lines_free(struct value_lines *lines);
SCOPED_PTR(struct value_lines, value_lines_free)
void value_lines_set(struct value_lines *lines, const char *path, struct value_pos pos);
/* Position of @path, else of its nearest parent. @lines may be NULL. */
struct value_pos value_lines_find(const struct value_lines *lines, const char *path);

/* Compact JSON without HTML escapes; object keys keep insertion order only if @sort is false. */
char *value_to_json(jv value, bool sort); /* consumes @value; caller frees */
/* Errors: EINVAL with the parser's words. */
int value_from_json(const char *text, jv *ret, struct error *err);
/*
 * Runs a jq program over @input (consumed) and returns an array of its results. File and
 * environment access are off. Errors: EINVAL (compile or run-time error, the message is jq's).
 */
int value_query(jv input, const char *program, jv *ret_results, struct error *err);
