/* SPDX-License-Identifier: Apache-2.0 */
/* Port forward rules outside of a file: single ones that a user gives to a running instance. */
#pragma once

#include "base/error.h"
#include "config/config.h"
#include "util/value.h"

/*
 * One item of portForwards as it may stand in lima.yaml (@rule, consumed), checked and filled as
 * if it stood there; unknown keys are errors. @config is the instance's. The caller ends @ret with
 * config_forward_done(). Errors: EINVAL (all problems, joined by newlines).
 */
int config_forward_parse(jv rule, const char *lima_home, const struct config *config,
                         struct config_port_forward *ret, struct error *err);
/* With strings of its own, for config_forward_done(). */
struct config_port_forward config_forward_copy(const struct config_port_forward *rule);
void config_forward_done(struct config_port_forward *rule);
SCOPED_VAL(struct config_port_forward, config_forward_done)
