/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the lines of a file that another process appends to, as they come; told by the kernel,
 * never polling. The file may appear later and may be replaced by a new one.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "util/loop.h"

#define LIFECYCLE_LINE_MAX (1u << 20) /* the rest of a longer line is dropped */

struct lifecycle_tail;

/* One line without its end. The tail must not be freed from here. */
typedef void (*lifecycle_line_fn)(const char *line, void *arg);

/* Watches @file in folder @dir. @from_end: what is there already is skipped. */
int lifecycle_tail_new(struct loop *loop, const char *dir, const char *file, bool from_end,
                       lifecycle_line_fn fn, void *arg, struct lifecycle_tail **ret,
                       struct error *err);
void lifecycle_tail_free(struct lifecycle_tail *tail);
SCOPED_PTR(struct lifecycle_tail, lifecycle_tail_free)
/* Hands over what is there now; called once after creation and before the last look. */
void lifecycle_tail_drain(struct lifecycle_tail *tail);
