/* SPDX-License-Identifier: Apache-2.0 */
/* One verb at a time: every verb holds the instance's lock file while it changes something. */
#pragma once

#include "base/error.h"

/*
 * Takes the lock of the instance in @dir; the caller closes *ret_fd, which gives it back. Never
 * waits. Errors: EBUSY (another limactl holds it), ENOENT (no such folder).
 */
int lifecycle_lock(const char *dir, const char *name, int *ret_fd, struct error *err);
