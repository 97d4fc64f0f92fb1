/* SPDX-License-Identifier: Apache-2.0 */
/* Makes an instance from the text of a template. */
#pragma once

#include "base/error.h"

struct lifecycle_create_options {
    const char *lima_home;
    const char *name;   /* of the new instance */
    const char *text;   /* the final lima.yaml */
    const char *source; /* what the text is called in messages, such as "template:default" */
};

/*
 * Checks name and configuration, makes the folder (0700), writes lima.yaml and lima-version and has
 * the driver agree. The image comes later: see lifecycle_prepare(). A failure leaves nothing
 * behind. Errors: EEXIST, EINVAL, ENAMETOOLONG.
 */
int lifecycle_create(const struct lifecycle_create_options *options, struct error *err);
