/* SPDX-License-Identifier: Apache-2.0 */
/* What every verb asks before it does anything. */
#pragma once

#include "base/error.h"
#include "instance/instance.h"

/* Fails with all of inst->errors when the configuration could not be loaded. EINVAL. */
int lifecycle_check_config(const struct instance *inst, struct error *err);
/* Has the driver of @config agree. Errors: ENOTSUP (no such driver), and the driver's. */
int lifecycle_check_driver(const struct config *config, struct error *err);
