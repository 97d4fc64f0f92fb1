/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/ration.h"

#define MESSAGE_COLUMNS 44

static const struct {
    const char *name;
    const char *tag;
    int colour;
} levels[] = {
    [LOG_LEVEL_TRACE] = {"trace", "TRAC", 37}, [LOG_LEVEL_DEBUG] = {"debug", "DEBU", 37},
    [LOG_LEVEL_INFO] = {"info", "INFO", 36},   [LOG_LEVEL_WARN] = {"warning", "WARN", 33},
    [LOG_LEVEL_ERROR] = {"error", "ERRO", 31}, [LOG_LEVEL_FATAL] = {"fatal", "FATA", 31},
};

static struct {
    enum log_level level;
    enum log_format format;
    struct timespec start;
    void (*hook)(bool after, void *arg);
    void *hook_arg;
    struct ration limit; /* per_second 0: none */
} sink = {.level = LOG_LEVEL_INFO};

static void __attribute__((constructor)) sink_start(void)
{
    clock_gettime(CLOCK_MONOTONIC, &sink.start);
}

void log_set_level(enum log_level level)
{
    sink.level = level;
}

enum log_level log_get_level(void)
{
    return sink.level;
}

void log_set_format(enum log_format format)
{
    sink.format = format;
}

enum log_format log_get_format(void)
{
    return sink.format;
}

void log_set_terminal_hook(void (*hook)(bool after, void *arg), void *arg)
{
    sink.hook = hook;
    sink.hook_arg = arg;
}

void log_set_limit(unsigned burst, unsigned per_second)
{
    sink.limit = RATION_INIT(burst, per_second);
}

int log_level_parse(const char *text, enum log_level *ret)
{
    if (strcasecmp(text, "warn") == 0) {
        *ret = LOG_LEVEL_WARN;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        if (strcasecmp(text, levels[i].name) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *log_level_name(enum log_level level)
{
    return levels[level].name;
}

/* RFC 3339 in local time; with nanoseconds when @ns. */
static void put_time(struct buf *buf, bool ns)
{
    struct timespec now;
    struct tm tm;
    char date[32];
    long off;

    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_puts(buf, date);
    if (ns) {
        buf_printf(buf, ".%09ld", now.tv_nsec);
    }
    off = tm.tm_gmtoff / 60;
    if (off == 0) {
        buf_putc(buf, 'Z');
    } else {
        buf_printf(buf, "%c%02ld:%02ld", off < 0 ? '-' : '+', labs(off) / 60, labs(off) % 60);
    }
}

/* U+0080 to U+009F, which steer a terminal as the controls of ASCII do. */
static bool is_high_control(const char *s)
{
    return (unsigned char)s[0] == 0xc2 && ((unsigned char)s[1] & 0xe0) == 0x80;
}

static void put_quoted(struct buf *buf, const char *s, bool json)
{
    buf_putc(buf, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\') {
            buf_putc(buf, '\\');
            buf_putc(buf, (char)c);
        } else if (c == '\n') {
            buf_puts(buf, "\\n");
        } else if (c == '\t') {
            buf_puts(buf, "\\t");
        } else if (c == '\r') {
            buf_puts(buf, "\\r");
        } else if (c < 0x20 || c == 0x7f) {
            buf_printf(buf, json ? "\\u%04x" : "\\x%02x", c);
        } else if (!json && is_high_control(s)) {
            buf_printf(buf, "\\x%02x", (unsigned char)*++s);
        } else {
            buf_putc(buf, (char)c);
        }
    }
    buf_putc(buf, '"');
}

static bool is_bare(const char *s)
{
    static const char punct[] = "-._/@^+";

    if (!*s) {
        return false;
    }
    for (; *s; s++) {
        bool alnum =
            (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9');

        if (!alnum && !strchr(punct, *s)) {
            return false;
        }
    }
    return true;
}

static int field_compare(const void *a, const void *b)
{
    return strcmp(((const struct log_field *)a)->key, ((const struct log_field *)b)->key);
}

static size_t sorted_fields(const struct log_field *fields, struct log_field **ret)
{
    size_t count = 0;

    while (fields && fields[count].key) {
        count++;
    }
    *ret = xmemdup(fields ? fields : &(struct log_field){0}, (count + !fields) * sizeof(**ret));
    qsort(*ret, count, sizeof(**ret), field_compare);
    return count;
}

static void put_value(struct buf *buf, const char *value)
{
    if (is_bare(value)) {
        buf_puts(buf, value);
    } else {
        put_quoted(buf, value, false);
    }
}

/* Words of others may be in it; lines and tabs are ours too. */
static void put_harmless(struct buf *buf, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (is_high_control(s)) {
            s++;
            buf_putc(buf, '?');
        } else {
            buf_putc(buf, (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : (char)c);
        }
    }
}

static void format_terminal(struct buf *buf, enum log_level level, bool colour,
                            const struct log_field *fields, size_t count, const char *message)
{
    struct timespec now;
    size_t start;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (colour) {
        buf_printf(buf, "\033[%dm%s\033[0m", levels[level].colour, levels[level].tag);
    } else {
        buf_puts(buf, levels[level].tag);
    }
    buf_printf(buf, "[%04ld] ", (long)(now.tv_sec - sink.start.tv_sec));
    start = buf->len;
    put_harmless(buf, message);
    if (count == 0) {
        buf_putc(buf, '\n');
        return;
    }
    while (buf->len - start < MESSAGE_COLUMNS) {
        buf_putc(buf, ' ');
    }
    for (size_t i = 0; i < count; i++) {
        buf_putc(buf, ' ');
        if (colour) {
            buf_printf(buf, "\033[%dm%s\033[0m=", levels[level].colour, fields[i].key);
        } else {
            buf_printf(buf, "%s=", fields[i].key);
        }
        put_value(buf, fields[i].value);
    }
    buf_putc(buf, '\n');
}

static void format_plain(struct buf *buf, enum log_level level, const struct log_field *fields,
                         size_t count, const char *message)
{
    buf_puts(buf, "time=\"");
    put_time(buf, false);
    buf_printf(buf, "\" level=%s msg=", levels[level].name);
    put_value(buf, message);
    for (size_t i = 0; i < count; i++) {
        buf_printf(buf, " %s=", fields[i].key);
        put_value(buf, fields[i].value);
    }
    buf_putc(buf, '\n');
}

static void format_json(struct buf *buf, enum log_level level, const struct log_field *fields,
                        size_t count, const char *message)
{
    static const char *const own[] = {"level", "msg", "time"};
    size_t next = 0;

    buf_putc(buf, '{');
    for (size_t i = 0; i <= count; i++) {
        while (next < ARRAY_LEN(own) && (i == count || strcmp(own[next], fields[i].key) < 0)) {
            buf_printf(buf, "%s\"%s\":", buf->len > 1 ? "," : "", own[next]);
            if (next == 0) {
                put_quoted(buf, levels[level].name, true);
            } else if (next == 1) {
                put_quoted(buf, message, true);
            } else {
                buf_putc(buf, '"');
                put_time(buf, true);
                buf_putc(buf, '"');
            }
            next++;
        }
        if (i < count) {
            buf_puts(buf, buf->len > 1 ? "," : "");
            put_quoted(buf, fields[i].key, true);
            buf_putc(buf, ':');
            put_quoted(buf, fields[i].value, true);
        }
    }
    buf_puts(buf, "}\n");
}

char *log_format_line(enum log_level level, enum log_format format, bool terminal, bool colour,
                      const struct log_field *fields, const char *message)
{
    scoped(buf_done) struct buf buf = BUF_INIT;
    scoped(free) struct log_field *sorted = NULL;
    size_t count = sorted_fields(fields, &sorted);

    if (format == LOG_FORMAT_JSON) {
        format_json(&buf, level, sorted, count, message);
    } else if (terminal) {
        format_terminal(&buf, level, colour, sorted, count, message);
    } else {
        format_plain(&buf, level, sorted, count, message);
    }
    return buf_steal(&buf);
}

static void write_all(const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, data, len);

        if (n < 0 && errno != EINTR) {
            return; /* stderr is gone: there is nowhere to say so */
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
}

static void write_line(enum log_level level, const struct log_field *fields, const char *message)
{
    bool terminal = isatty(STDERR_FILENO) == 1;
    bool colour = terminal && !getenv("NO_COLOR");
    scoped(free) char *line =
        log_format_line(level, sink.format, terminal, colour, fields, message);

    if (terminal && sink.hook) {
        sink.hook(false, sink.hook_arg);
    }
    write_all(line, strlen(line));
    if (terminal && sink.hook) {
        sink.hook(true, sink.hook_arg);
    }
}

static void emit(enum log_level level, const struct log_field *fields, const char *message)
{
    unsigned dropped = sink.limit.refused;
    struct timespec now;

    if (sink.limit.per_second == 0 || level >= LOG_LEVEL_ERROR) {
        write_line(level, fields, message);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!ration_take(&sink.limit, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000)) {
        return;
    }
    if (dropped) {
        scoped(free) char *text = xasprintf("%u lines were too many, ignoring them", dropped);

        write_line(LOG_LEVEL_WARN, NULL, text);
    }
    write_line(level, fields, message);
}

void log_message(enum log_level level, const char *fmt, ...)
{
    scoped(free) char *message = NULL;
    va_list ap;

    if (level < sink.level) {
        return;
    }
    va_start(ap, fmt);
    message = xvasprintf(fmt, ap);
    va_end(ap);
    emit(level, NULL, message);
}

void log_fields(enum log_level level, const struct log_field *fields, const char *fmt, ...)
{
    scoped(free) char *message = NULL;
    va_list ap;

    if (level < sink.level) {
        return;
    }
    va_start(ap, fmt);
    message = xvasprintf(fmt, ap);
    va_end(ap);
    emit(level, fields, message);
}

void log_error_of(enum log_level level, const struct error *err, const char *fmt, ...)
{
    struct log_field fields[] = {
        {"error", error_text(err)}, {err->hint ? "hint" : NULL, err->hint}, {NULL, NULL}};
    scoped(free) char *message = NULL;
    va_list ap;

    if (level < sink.level) {
        return;
    }
    va_start(ap, fmt);
    message = xvasprintf(fmt, ap);
    va_end(ap);
    emit(level, fields, message);
}
