/* SPDX-License-Identifier: Apache-2.0 */
/* For targets that serve files: a shared folder with a file and links in it, a canary beside it. */
#pragma once

#include <stdbool.h>
#include "mount/tree.h"

#define WORLD_SECRET "the canary sings" /* in the canary */

struct world {
    char *top;
    char *shared; /* in @top, as "canary" is */
    char *file;   /* in @shared, as are a link to it, and two that lead to the canary */
    struct tree *tree;
    bool writable;
};

/* @name is the target's. No file can grow beyond a few MiB from here on. */
void world_begin(struct world *ret, const char *name, bool writable);
/* What must hold: the canary is as it was, and so is a shared folder that is not writable. */
void world_end(struct world *world);
