/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that run one after another as root, each whatever became of the one before.
 */
#pragma once

#include "base/error.h"
#include "child.h"

#define STEPS_MAX      8
#define STEPS_ARGS_MAX 20

struct steps;

/* @failed: how many did not exit with 0. The handle is invalid from here on. */
typedef void steps_done_fn(unsigned failed, void *arg);

struct steps *steps_new(struct children *children, steps_done_fn *done, void *arg);
/* Before steps_start(): up to STEPS_MAX commands of up to STEPS_ARGS_MAX words, ended by NULL. */
void steps_add(struct steps *steps, const char *word, ...) __attribute__((sentinel));
/* Goes on by itself and frees itself after done(), which may come before this returns. */
void steps_start(struct steps *steps);
/* Forgets it without done(); a running command is signalled. */
void steps_free(struct steps *steps);
