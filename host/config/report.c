/* SPDX-License-Identifier: Apache-2.0 */
#include "config/report.h"

#include <string.h>
#include "base/alloc.h"

#define TEXT_MAX 1000 /* bytes of one message */

void config_report_done(struct config_report *report)
{
    buf_done(&report->errors);
    strv_done(&report->warnings);
    strv_done(&report->once);
}

char *config_report_place(const char *file, struct value_pos pos)
{
    if (pos.line == 0) {
        return xasprintf("%s", file);
    }
    return xasprintf("%s:%d:%d", file, pos.line, pos.column);
}

/* "PLACE: text", of a length that a terminal bears. */
static _printf_(2, 0) char *format(const char *place, const char *fmt, va_list ap)
{
    scoped(free) char *text = xvasprintf(fmt, ap);
    bool cut = strlen(text) > TEXT_MAX;

    return xasprintf("%s%s%.*s%s", place ? place : "", place ? ": " : "", TEXT_MAX, text,
                     cut ? "..." : "");
}

void config_report_error(struct config_report *report, const char *place, const char *fmt, ...)
{
    scoped(free) char *text = NULL;
    va_list ap;

    if (report->error_count++ >= CONFIG_REPORT_MAX) {
        return;
    }
    va_start(ap, fmt);
    text = format(place, fmt, ap);
    va_end(ap);
    buf_printf(&report->errors, "%s%s", report->errors.len > 0 ? "\n" : "", text);
}

void config_report_warning(struct config_report *report, const char *place, const char *fmt, ...)
{
    va_list ap;

    if (report->warning_count++ >= CONFIG_REPORT_MAX) {
        return;
    }
    va_start(ap, fmt);
    strv_take(&report->warnings, format(place, fmt, ap));
    va_end(ap);
}

bool config_report_once(struct config_report *report, const char *what)
{
    if (strv_contains(&report->once, what)) {
        return false;
    }
    strv_add(&report->once, what);
    return true;
}

int config_report_result(const struct config_report *report, struct error *err)
{
    if (report->errors.len == 0) {
        return 0;
    }
    if (report->error_count > CONFIG_REPORT_MAX) {
        return error_set(err, EINVAL, "%s\nand %zu more", buf_str(&report->errors),
                         report->error_count - CONFIG_REPORT_MAX);
    }
    return error_set(err, EINVAL, "%s", buf_str(&report->errors));
}
