/* SPDX-License-Identifier: Apache-2.0 */
/* Text tables for terminals: left-aligned columns, each as wide as its longest cell plus four
 * blanks. */
#pragma once

#include <stdio.h>
#include "base/macros.h"

struct table;

/* @headers ends with NULL. */
struct table *table_new(const char *const *headers);
void table_free(struct table *table);
SCOPED_PTR(struct table, table_free)
/* One cell per header; copied. */
void table_row(struct table *table, const char *const *cells);
void table_print(const struct table *table, FILE *out);
