/* SPDX-License-Identifier: Apache-2.0 */
/* The seed medium of the boot that is about to begin. */
#pragma once

#include "base/error.h"
#include "instance/instance.h"

/* Writes cidata.iso anew, making the user's ssh key first if there is none. */
int lifecycle_write_seed(const struct instance *inst, const char *lima_home, struct error *err);
