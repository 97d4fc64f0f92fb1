/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that one load has to say: errors and warnings, each with the place it is about.
 * Nothing is logged or returned before the end, so that a user sees all problems of a file at once.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "util/strv.h"
#include "util/value.h"

#define CONFIG_REPORT_MAX 50 /* errors, and warnings; what comes after is only counted */

struct config_report {
    struct buf errors; /* joined by newlines */
    size_t error_count;
    size_t warning_count;
    struct strv warnings;
    struct strv once; /* what config_report_once() has seen */
};

#define CONFIG_REPORT_INIT ((struct config_report){0})

void config_report_done(struct config_report *report);
SCOPED_VAL(struct config_report, config_report_done)

/* "FILE:LINE:COLUMN", or "FILE" when @pos is unknown. Caller frees. */
char *config_report_place(const char *file, struct value_pos pos) _nonnull_;

/* @place goes in front unless NULL. */
void config_report_error(struct config_report *report, const char *place, const char *fmt, ...)
    _printf_(3, 4);
void config_report_warning(struct config_report *report, const char *place, const char *fmt, ...)
    _printf_(3, 4);
/* True the first time that @what is given. */
bool config_report_once(struct config_report *report, const char *what);

/* 0, or -EINVAL with all errors. */
int config_report_result(const struct config_report *report, struct error *err);
