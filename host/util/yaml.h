/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML text to value trees and back, by libyaml, in the dialect that Lima's users know: YAML 1.2
 * core booleans, 0644 and 0o644 octal, duplicate keys refused, anchors, aliases, merge keys,
 * !!binary, first document only. Input is hostile: depth, alias expansion and size are bounded.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "util/value.h"

#define YAML_MAX_BYTES (4u << 20) /* of one document, as the reference */
#define YAML_MAX_DEPTH 64
#define YAML_MAX_NODES 1000000 /* after alias expansion */

/*
 * Parses the first document of @text. An empty one gives null. @name is used in messages:
 * "NAME:LINE:COLUMN: ...". @ret_lines may be NULL. A plain scalar that is not a string keeps its
 * source text reachable for string fields: see yaml_source_text(). Errors: EINVAL (syntax,
 * duplicate key, unknown alias), E2BIG (a limit above).
 */
int yaml_load(const char *name, const char *text, size_t len, jv *ret,
              struct value_lines **ret_lines, struct error *err);

/* Block style, indent 2, sequences not indented below their key, strings quoted only when needed.
 */
void yaml_dump(jv value, struct buf *out); /* consumes @value */

/*
 * Edits by path that keep comments, order and layout of everything else: @path in jq form
 * (".ssh.localPort", ".images[0].arch"), @value as JSON-like tree; an invalid jv deletes. The
 * result is the whole new text. Creates missing maps on the way. Errors: EINVAL (text or path not
 * usable; position named).
 */
int yaml_edit(const char *text, const char *path, jv value, char **ret_text, struct error *err);
