/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits of configuration texts: old text in, new text out, nothing else touched. Each is idempotent
 * and its result ends in a newline. The caller frees.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Makes @name resolve to @address: any other line naming it loses the name. */
char *text_hosts(const char *old, const char *address, const char *name);
/* True when a line of a hosts text gives @name. */
bool text_hosts_names(const char *hosts, const char *name);
/*
 * The block between the lines @begin and @end says @body (lines, possibly none); appended when
 * there is no such block. An empty @body removes the block.
 */
char *text_block(const char *old, const char *begin, const char *end, const char *body);
/* Every non-blank line of @lines is a line of the result; missing ones are appended. */
char *text_with_lines(const char *old, const char *lines);
/* A line "user:start:count", unless @user has one. */
char *text_subid(const char *old, const char *user, unsigned long start, unsigned long count);
/* The scalar of a top-level key of simple YAML ("instance-id: x"), quotes dropped; NULL: not there.
 */
char *text_yaml_scalar(const char *text, const char *key);
