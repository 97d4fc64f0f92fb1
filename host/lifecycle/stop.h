/* SPDX-License-Identifier: Apache-2.0 */
/* Stops an instance. */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "instance/instance.h"

/*
 * Asks the host agent to power the guest down and waits until agent and VM are gone. With @force
 * kills both, waits for their end and clears pid files and sockets, in any status. Errors: ENOENT,
 * EBUSY, ESRCH (not running), ETIMEDOUT.
 */
int lifecycle_stop(const char *lima_home, const char *name, bool force, struct error *err);

/* The forced stop for a verb that holds the lock already. */
int lifecycle_kill(const struct instance *inst, struct error *err);
