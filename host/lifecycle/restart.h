/* SPDX-License-Identifier: Apache-2.0 */
/* Stops what runs and starts it again. */
#pragma once

#include "lifecycle/start.h"

/* Not running is a warning. @force: see lifecycle_stop(). */
int lifecycle_restart(const struct lifecycle_start_options *options, bool force, struct error *err);
