/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines. A function returns its error or logs it, never both. Messages are lower case without a
 * full stop; warnings end in "ignoring" or "retrying". Three formats go to stderr:
 *
 *   LOG_TEXT  terminal: "WARN[0003] message   key=value", colours only on a terminal;
 *             otherwise: time="RFC 3339" level=warning msg="message" key=value
 *             On a terminal controls but line ends and tabs become '?'.
 *   LOG_JSON  {"key":"value","level":"warning","msg":"message","time":"RFC 3339 with ns"}
 *
 * The sink is the only mutable global of the project.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include "base/error.h"
#include "base/macros.h"

enum log_level {
    LOG_LEVEL_TRACE,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_INFO,
    LOG_LEVEL_WARN,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_FATAL, /* a text level only: nothing exits */
};

enum log_format {
    LOG_FORMAT_TEXT,
    LOG_FORMAT_JSON,
};

struct log_field {
    const char *key;
    const char *value;
};

/* Lines of a level below @level are dropped. The default is INFO, text. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
void log_set_format(enum log_format format);
enum log_format log_get_format(void);
/* Names: trace, debug, info, warn or warning, error, fatal. Returns 0, or -EINVAL. */
int log_level_parse(const char *text, enum log_level *ret);
const char *log_level_name(enum log_level level); /* "warning" for WARN */

/*
 * Lets through @burst lines at once and then @per_second, and says how many were dropped: for a
 * process whose log grows with what somebody hostile does. Errors always come through.
 */
void log_set_limit(unsigned burst, unsigned per_second);

/*
 * Called before and after each line that goes to a terminal, so that a progress line there can be
 * cleared and drawn again. NULL for none.
 */
void log_set_terminal_hook(void (*hook)(bool after, void *arg), void *arg);

void log_message(enum log_level level, const char *fmt, ...) _printf_(2, 3);
/* @fields ends with an entry whose key is NULL; may be NULL. */
void log_fields(enum log_level level, const struct log_field *fields, const char *fmt, ...)
    _printf_(3, 4);
/* "fmt" with field error=err, the hint behind it. */
void log_error_of(enum log_level level, const struct error *err, const char *fmt, ...)
    _printf_(3, 4);

#define log_trace(...) log_message(LOG_LEVEL_TRACE, __VA_ARGS__)
#define log_debug(...) log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)  log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...)  log_message(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_message(LOG_LEVEL_ERROR, __VA_ARGS__)

/* Formats one line (with its newline) as it would be written, for tests and relays. Caller frees.
 */
char *log_format_line(enum log_level level, enum log_format format, bool terminal, bool colour,
                      const struct log_field *fields, const char *message);
