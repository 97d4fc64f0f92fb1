/* SPDX-License-Identifier: Apache-2.0 */
/* The first half of a restart; lifecycle_start() is the second. */
#pragma once

#include <stdbool.h>
#include "base/error.h"

/* Stops what runs of the instance; nothing running is a warning only. @force: see lifecycle_stop().
 */
int lifecycle_restart_stop(const char *lima_home, const char *name, bool force, struct error *err);
