/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Follows a file that another process appends to, by inotify. A file that shrinks is read again
 * from its start.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "util/loop.h"

struct tail;

/* May free the tail. */
typedef void (*tail_fn)(const char *text, size_t len, void *arg);

/* Follows @path, which must exist; with @from_end what it holds now is skipped. */
int tail_new(struct loop *loop, const char *path, bool from_end, tail_fn fn, void *arg,
             struct tail **ret, struct error *err);
/*
 * Hands over what was appended but not yet seen. False when the callback freed the tail. At most
 * some MiB: what comes after that waits for the loop.
 */
bool tail_flush(struct tail *tail);
void tail_free(struct tail *tail);
SCOPED_PTR(struct tail, tail_free)
