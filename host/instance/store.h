/* SPDX-License-Identifier: Apache-2.0 */
/* All instances below $LIMA_HOME: their names, and what a new name has to be. Reading only. */
#pragma once

#include "base/error.h"
#include "util/strv.h"

/* Names of all instances, byte order: folders of @lima_home that do not start with '_' or '.'. */
int instance_names(const char *lima_home, struct strv *ret, struct error *err);
/* Folder of @name. Caller frees. */
char *instance_dir(const char *lima_home, const char *name);
/* True when the folder exists, whatever is in it. */
bool instance_exists(const char *lima_home, const char *name);
/*
 * Whether @name may be an instance's: its form, and that every socket path below its folder fits.
 * Errors: EINVAL, ENAMETOOLONG.
 */
int instance_check_name(const char *lima_home, const char *name, struct error *err);
