/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of 'mounts': the layers' lists become one, keyed by mount point. */
#pragma once

#include "config/config.h"
#include "config/context.h"
#include "util/value.h"

/*
 * @list (normal, expanded, consumed; lowest layer first) with cleaned locations, a mount point
 * each, and one entry a mount point: a later entry of the same one overrides what it sets, but for
 * the location. Then defaults.
 */
jv config_mounts_combine(jv list, const struct config_context *context);

/*
 * One entry as it may stand in lima.yaml (@mount, consumed), expanded, filled and checked as if it
 * stood there. The caller ends @ret with config_mount_done(). Errors: EINVAL.
 */
int config_mount_parse(jv mount, const char *lima_home, const struct config *config,
                       struct config_mount *ret, struct error *err);
struct config_mount config_mount_copy(const struct config_mount *mount);
void config_mount_done(struct config_mount *mount);
SCOPED_VAL(struct config_mount, config_mount_done)
