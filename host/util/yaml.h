/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML text to value trees and back, by libyaml, in the dialect that Lima's users know: YAML 1.2
 * core booleans, 0644 and 0o644 octal, duplicate keys refused, anchors, aliases, merge keys,
 * !!binary, first document only. Input is hostile: depth, alias expansion and size are bounded.
 *
 * A plain scalar becomes null, a boolean, a number, or else a string. The tree holds numbers as
 * doubles; the exact text that a string field gets from any scalar ("420" from 0644, "1.5"
 * from 1.50, "true" from True) is kept in struct value_lines: use value_text() and value_int() of
 * value.h instead of looking at the kind of the node.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "util/value.h"

#define YAML_MAX_BYTES    (4u << 20)  /* of one text, as the reference */
#define YAML_MAX_DEPTH    64          /* after alias expansion */
#define YAML_MAX_NODES    200000      /* after alias expansion */
#define YAML_MAX_EXPANDED (16u << 20) /* bytes of all scalars after alias expansion */

/*
 * Parses the first document of @text. An empty one gives null. @name is used in messages:
 * "NAME:LINE:COLUMN: ...". @ret_lines may be NULL. No text holds a NUL character.
 * Errors: EINVAL (syntax, duplicate key, unknown alias, bad merge key or tag), E2BIG (a limit
 * above).
 */
int yaml_load(const char *name, const char *text, size_t len, jv *ret,
              struct value_lines **ret_lines, struct error *err);

/* Block style, indent 2, sequences not indented below their key, strings quoted only when needed.
 */
void yaml_dump(jv value, struct buf *out); /* consumes @value */

/*
 * Edits by path that keep comments, order and layout of everything else: @path in jq form
 * (".ssh.localPort", ".images[0].arch"), @value (consumed) the new value; an invalid jv deletes. An
 * index equal to the length of the list appends. Creates missing maps and lists on the way. The
 * result is the whole new text. Errors: EINVAL (text or path not usable; position named), E2BIG.
 */
int yaml_edit(const char *text, const char *path, jv value, char **ret_text, struct error *err);
/* Puts @value (consumed) before item @index of the list at @path; the length of the list appends.
 */
int yaml_insert(const char *text, const char *path, size_t index, jv value, char **ret_text,
                struct error *err);

/*
 * Changes the text so that it means @tree (borrowed), by as few edits as above as the two differ
 * in. Errors: as yaml_edit().
 */
int yaml_update(const char *text, jv tree, char **ret_text, struct error *err);
