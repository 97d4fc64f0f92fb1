/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the seed's scripts, one after another, and reports each as events. A script that fails is
 * reported with the last lines it said, and the next one runs.
 */
#pragma once

#include "child.h"
#include "events.h"
#include "loop.h"
#include "seed.h"
#include "system.h"

#define PROVISION_ARGS_MAX 4
#define PROVISION_PROBE_LIMIT_MS                                                                   \
    (10u * 60 * 1000) /* a probe that never succeeded by then has failed */

struct provision;

typedef void provision_done_fn(void *arg);

/* All are borrowed. */
struct provision *provision_new(struct loop *loop, struct children *children, struct events *events,
                                const struct seed *seed);
/* A running script is signalled. */
void provision_free(struct provision *provision);
SCOPED_PTR(struct provision, provision_free)

/*
 * Runs all scripts of @mode; one run at a time. @user is the account for user scripts and probes,
 * borrowed until done(), which may come before this returns.
 */
void provision_run(struct provision *provision, enum seed_mode mode, const struct system_user *user,
                   provision_done_fn *done, void *arg);

/*
 * What to execute for the script @path that begins with @head: the interpreter of its #! line with
 * its one argument, or /bin/sh where there is no such line; the path itself for an ELF file. @ret
 * gets up to PROVISION_ARGS_MAX words and NULL; the caller frees each.
 */
void provision_command(const char *head, const char *path, char *ret[PROVISION_ARGS_MAX + 1]);
