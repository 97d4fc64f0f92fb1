/* SPDX-License-Identifier: Apache-2.0 */
/* What has to be on disk before a start: the driver's consent, the guest agent, image and kernel.
 */
#pragma once

#include "base/error.h"
#include "instance/instance.h"

/* The caller holds the lock. Blocks while an image is fetched or built. Does nothing twice. */
int lifecycle_prepare(const struct instance *inst, const char *lima_home, struct error *err);
/* Opens, locks and prepares. Errors: ENOENT, EBUSY, EINVAL (its configuration). */
int lifecycle_prepare_name(const char *lima_home, const char *name, struct error *err);

/*
 * Path of the guest agent's binary for the architecture of @config; NULL in plain mode. Caller
 * frees. Errors: ENOENT.
 */
int lifecycle_guestagent(const struct config *config, char **ret, struct error *err);
