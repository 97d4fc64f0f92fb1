/* SPDX-License-Identifier: Apache-2.0 */
/* A growable NULL-terminated vector of strings that it owns; argv and lists of names. */
#pragma once

#include <stdbool.h>
#include "base/macros.h"

struct strv {
    char **items; /* NULL-terminated once anything was added; may be NULL before */
    size_t len;
    size_t alloc; /* private */
};

#define STRV_INIT ((struct strv){0})

void strv_done(struct strv *v);
SCOPED_VAL(struct strv, strv_done)

void strv_add(struct strv *v, const char *s);
void strv_addf(struct strv *v, const char *fmt, ...) _printf_(2, 3);
void strv_take(struct strv *v, char *take_s);
/* Ends with NULL. */
void strv_add_all(struct strv *v, ...) __attribute__((sentinel));
void strv_extend(struct strv *v, const struct strv *other);
bool strv_contains(const struct strv *v, const char *s);
void strv_sort(struct strv *v); /* byte order */
/* Splits at every @sep; empty parts are kept. */
void strv_split(struct strv *v, const char *s, char sep);
/* Joined with @sep; caller frees. */
char *strv_join(const struct strv *v, const char *sep) _nonnull_;
/* argv view that process_start() takes; never NULL. */
const char *const *strv_argv(const struct strv *v);

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* NULL equals NULL. */
bool str_eq(const char *a, const char *b);
/* "" for NULL. */
const char *str_or_empty(const char *s);
/* New string without white space at both ends. */
char *str_trim(const char *s) _nonnull_;
