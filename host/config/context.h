/* SPDX-License-Identifier: Apache-2.0 */
/* What one load knows besides the files; handed from step to step. */
#pragma once

#include "config/report.h"

struct config_source {
    const char *name;                /* of the file, for messages */
    const struct value_lines *lines; /* of its tree; may be NULL */
    bool own;                        /* the instance's file, not default.yaml or override.yaml */
};

struct config_context {
    const char *lima_home;
    const char *instance;
    const char *dir;        /* of the instance */
    const char *created_by; /* version that made it; "" unknown, so old; NULL: a new instance */
    const struct config_source *sources; /* the layers, highest first */
    size_t source_count;
    struct config_report *report;
};

/*
 * Where the value of @path ("user.home") was set, in the highest layer that has it; else the name
 * of the own file. Caller frees.
 */
char *config_context_place(const struct config_context *context, const char *path) _nonnull_;

/* The guest's host name: "lima-" and @instance with every '.' and '_' as '-'. Caller frees. */
char *config_hostname(const char *instance) _nonnull_;
