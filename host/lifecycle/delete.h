/* SPDX-License-Identifier: Apache-2.0 */
/* Deletes an instance. */
#pragma once

#include <stdbool.h>
#include "base/error.h"

/*
 * Kills what is left of it (with @force in any status, else only when it is stopped) and removes
 * its folder. Errors: ENOENT (no folder of that name), EPERM (protected), EBUSY (running and no
 * @force; or another verb is at work), EINVAL (the folder has no lima.yaml: it is kept).
 */
int lifecycle_delete(const char *lima_home, const char *name, bool force, struct error *err);
