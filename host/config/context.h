/* SPDX-License-Identifier: Apache-2.0 */
/* What one load knows besides the files; handed from step to step. */
#pragma once

#include "config/report.h"

struct config_context {
    const char *lima_home;
    const char *instance;
    const char *dir;        /* of the instance */
    const char *created_by; /* version that made it; "" unknown, so old; NULL: a new instance */
    struct config_report *report;
};
