/* SPDX-License-Identifier: Apache-2.0 */
/* How one value is written for ssh; shared by the files of this folder. */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "util/strv.h"

/*
 * Adds `key="value"`. @expands: the option is one in which ssh expands '%' and "${".
 * Errors: EINVAL (ssh cannot be given this value).
 */
int options_add_quoted(struct strv *ret, const char *key, const char *value, bool expands,
                       struct error *err);
