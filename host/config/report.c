/* SPDX-License-Identifier: Apache-2.0 */
#include "config/report.h"

#include "base/alloc.h"

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

void config_report_error(struct config_report *report, const char *place, const char *fmt, ...)
{
    va_list ap;

    if (report->errors.len > 0) {
        buf_putc(&report->errors, '\n');
    }
    if (place) {
        buf_printf(&report->errors, "%s: ", place);
    }
    va_start(ap, fmt);
    buf_vprintf(&report->errors, fmt, ap);
    va_end(ap);
}

void config_report_warning(struct config_report *report, const char *place, const char *fmt, ...)
{
    scoped(free) char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = xvasprintf(fmt, ap);
    va_end(ap);
    strv_addf(&report->warnings, "%s%s%s", place ? place : "", place ? ": " : "", text);
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
    return error_set(err, EINVAL, "%s", buf_str(&report->errors));
}
