/* SPDX-License-Identifier: Apache-2.0 */
/* Changes the port forwards of an instance: of the running one at once, and in its lima.yaml. */
#pragma once

#include "base/error.h"
#include "util/strv.h"
#include "util/value.h"

struct lifecycle_ports_options {
    const char *lima_home;
    const char *name;
    const struct strv *specs; /* as forward/spec.h has them */
    jv extra;                 /* more keys for each rule, an object; borrowed */
    bool temporary;           /* leaves lima.yaml alone; the instance has to run */
};

/* What the host agent of a running instance says: array of objects, see agent/ports.h. */
int lifecycle_ports_list(const char *lima_home, const char *name, jv *ret, struct error *err);
/*
 * Adds a rule a spec, in front of those there are; all or none. @ret: as above, or an invalid value
 * when the instance does not run. Errors: EINVAL, EEXIST (lima.yaml has such a rule), EBUSY.
 */
int lifecycle_ports_add(const struct lifecycle_ports_options *options, jv *ret, struct error *err);
/* Removes the rules of the specs. Errors: EINVAL, ENOENT (there is no such rule), EBUSY. */
int lifecycle_ports_remove(const struct lifecycle_ports_options *options, struct error *err);
