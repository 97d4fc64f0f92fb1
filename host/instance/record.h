/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance as a tree: what `list` prints and what templates over instances see. One table gives
 * the JSON key and the Go field name of each member, in the order of output.
 */
#pragma once

#include "instance/instance.h"
#include "util/value.h"

/* Object with JSON keys in output order; members that are empty are left out as the reference does.
 */
jv instance_record(const struct instance *inst, const char *lima_home);
/* The same for templates: every field is there, named as in Go ("SSHLocalPort"), Config's fields
 * too. */
jv instance_record_go(const struct instance *inst, const char *lima_home);
/* Names of the template fields but the deprecated ones, byte order. */
void instance_record_fields(struct strv *ret);

/* The expanded `message:` without its last newline, "" if unset. Errors: EINVAL (its template). */
int instance_message(const struct instance *inst, const char *lima_home, char **ret,
                     struct error *err);
