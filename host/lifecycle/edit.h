/* SPDX-License-Identifier: Apache-2.0 */
/* Changes the configuration of an existing instance. */
#pragma once

#include "base/error.h"
#include "util/strv.h"

/* The text that lima.yaml would have after @expressions, checked by all rules. Caller frees. */
int lifecycle_edit_check(const char *lima_home, const char *name, const struct strv *expressions,
                         char **ret_text, struct error *err);
/* Replaces lima.yaml by a text that was checked. */
int lifecycle_edit_save(const char *lima_home, const char *name, const char *text,
                        struct error *err);
