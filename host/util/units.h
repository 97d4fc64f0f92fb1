/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes ("4GiB"), durations ("10m"), names: the scalar formats of configuration and flags. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

/*
 * A non-negative decimal number, one optional blank, optional suffix b, or k m g t p with nothing,
 * b or ib behind; case-insensitive, base 1024; truncated. Errors: EINVAL, ERANGE.
 */
int size_parse(const char *text, int64_t *ret, struct error *err);
/* "%.4g" of the value in the largest unit below 1024: "4GiB", "2.441KiB", "0B". Caller frees. */
char *size_format(int64_t bytes);

/* Go's duration syntax: "10m0s", "1.5h", "300ms"; a bare "0" too. Errors: EINVAL. */
int duration_parse(const char *text, int64_t *ret_ms, struct error *err);
/* "1m30s", "2.5s". Caller frees. */
char *duration_format(int64_t ms);

/* ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$, 1..76 bytes. */
bool identifier_ok(const char *name);
/* An identifier that does not end in .yml or .yaml, in any case. */
bool instance_name_ok(const char *name);
/* "vX.Y.Z-suffix" by the rules of Lima: <0, 0, >0; unparsable counts as newest, "" as oldest. */
int version_compare(const char *a, const char *b);
bool version_ok(const char *text);
