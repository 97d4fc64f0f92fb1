/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line-oriented files of the seed medium: KEY=VALUE, one a line, nothing quoted. Pure: no I/O,
 * the same input gives the same text. Since a line break cannot be expressed, no value may hold
 * one.
 */
#pragma once

#include <stdbool.h>
#include "base/buf.h"
#include "base/error.h"
#include "config/config.h"

struct vars_facts {
    const struct config *config;
    const char *instance_id;
    const char *hostname;
    bool debug;
};

/*
 * lima.env: LIMA_CIDATA_*, under the names that Lima's scripts know.
 * Errors: EINVAL (a value with a line break; it is named).
 */
int vars_lima_env(const struct vars_facts *facts, struct buf *out, struct error *err);
/* param.env: PARAM_<key>=<value>. Errors: EINVAL (a key that is no identifier, or a line break). */
int vars_param_env(const struct config_pairs *param, struct buf *out, struct error *err);
/* etc_environment: the `env` map. Errors: EINVAL (a key that is no identifier, or a line break). */
int vars_etc_environment(const struct config_pairs *env, struct buf *out, struct error *err);

/* The comment of a user as passwd can hold it: printable, no ':'. Caller frees. */
char *vars_gecos(const char *comment);
