/* SPDX-License-Identifier: Apache-2.0 */
/* Changes the mounts of an instance: of the running one at once, and in its lima.yaml. */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "util/value.h"

struct lifecycle_mounts_options {
    const char *lima_home;
    const char *name;
    bool temporary; /* leaves lima.yaml alone; the instance has to run */
    bool force;     /* when removing: also if it is in use */
};

/*
 * What the host agent of a running instance says, else what its lima.yaml has: array of objects,
 * see agent/mounts.h.
 */
int lifecycle_mounts_list(const char *lima_home, const char *name, jv *ret, struct error *err);
/*
 * Adds @mount (as it stands in lima.yaml; consumed). Errors: EINVAL, EEXIST (there is one at this
 * mount point), the guest's own.
 */
int lifecycle_mounts_add(const struct lifecycle_mounts_options *options, jv mount,
                         struct error *err);
/* Removes the one at @mount_point. Errors: ENOENT, EBUSY (in use). */
int lifecycle_mounts_remove(const struct lifecycle_mounts_options *options, const char *mount_point,
                            struct error *err);
