/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KEY=VALUE lists: parsed from files, handed to children as their environment.
 */
#pragma once

#include <stddef.h>
#include "base/error.h"

#define ENVLIST_MAX 4096 /* entries; more is an error */

struct envlist {
    char **items; /* "KEY=VALUE", ended by NULL unless empty and never touched */
    size_t count;
    size_t cap;
};

void envlist_done(struct envlist *list);
SCOPED_VAL(struct envlist, envlist_done)
/* Sets or replaces. */
void envlist_set(struct envlist *list, const char *key, const char *value);
/* The value, or NULL; borrowed. */
const char *envlist_get(const struct envlist *list, const char *key);
/* The value, or "". */
const char *envlist_text(const struct envlist *list, const char *key);
/* Sets all of @from whose key begins with @prefix. */
void envlist_merge(struct envlist *list, const struct envlist *from, const char *prefix);

/*
 * Adds the lines of @text: no quoting, blank lines and lines that begin with '#' skipped. EINVAL
 * for a line without '=' or with a key that no shell would take; @name is for the message.
 */
int envlist_parse(struct envlist *list, const char *text, const char *name, struct error *err);
/* As pam_env reads /etc/environment: "export " and one pair of quotes dropped; odd lines skipped.
 */
void envlist_parse_lenient(struct envlist *list, const char *text);
