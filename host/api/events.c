/* SPDX-License-Identifier: Apache-2.0 */
#include "api/events.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/file.h"

#define LINE_MAX_BYTES (256u << 10)

char *api_time_now(void)
{
    struct timespec now;
    struct tm tm;
    char date[32];
    long off;

    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    off = tm.tm_gmtoff / 60;
    if (off == 0) {
        return xasprintf("%s.%09ldZ", date, now.tv_nsec);
    }
    return xasprintf("%s.%09ld%c%02ld:%02ld", date, now.tv_nsec, off < 0 ? '-' : '+',
                     labs(off) / 60, labs(off) % 60);
}

/* Digits after the point, as nanoseconds; moves @p behind them. */
static int64_t parse_fraction(const char **p)
{
    int64_t ns = 0, unit = 100000000;

    if (**p != '.') {
        return 0;
    }
    for (++*p; **p >= '0' && **p <= '9'; ++*p) {
        ns += (**p - '0') * unit;
        unit /= 10;
    }
    return ns;
}

int api_time_parse(const char *text, int64_t *ret_ns, struct error *err)
{
    struct tm tm = {0};
    const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int hours = 0, minutes = 0, used = 0;
    int64_t ns;

    if (!p) {
        return error_set(err, EINVAL, "'%s' is not a time", text);
    }
    ns = parse_fraction(&p);
    if (*p == '+' || *p == '-') {
        if (sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || p[1 + used]) {
            return error_set(err, EINVAL, "'%s' has no valid zone", text);
        }
        if (*p == '-') {
            hours = -hours;
            minutes = -minutes;
        }
    } else if (strcmp(p, "Z") != 0) {
        return error_set(err, EINVAL, "'%s' has no zone", text);
    }
    *ret_ns = ((int64_t)timegm(&tm) - hours * 3600 - minutes * 60) * 1000000000 + ns;
    return 0;
}

static jv set_text(jv object, const char *key, const char *text)
{
    return text ? jv_object_set(object, jv_string(key), jv_string(text)) : object;
}

static jv set_flag(jv object, const char *key, bool flag)
{
    return flag ? jv_object_set(object, jv_string(key), jv_true()) : object;
}

static jv event_status(const struct api_event *event)
{
    jv status = jv_object();

    status = set_flag(status, "running", event->running);
    status = set_flag(status, "degraded", event->degraded);
    status = set_flag(status, "exiting", event->exiting);
    if (event->errors && event->errors->len > 0) {
        jv errors = jv_array();

        for (size_t i = 0; i < event->errors->len; i++) {
            errors = jv_array_append(errors, jv_string(event->errors->items[i]));
        }
        status = jv_object_set(status, jv_string("errors"), errors);
    }
    if (event->ssh_local_port) {
        status = jv_object_set(status, jv_string("sshLocalPort"), jv_number(event->ssh_local_port));
    }
    if (event->progress) {
        jv progress = set_text(jv_object(), "stage", event->progress);

        progress = set_text(progress, "detail", event->progress_detail);
        status = jv_object_set(status, jv_string("progress"), progress);
    }
    if (event->forward_type) {
        jv forward = set_text(jv_object(), "type", event->forward_type);

        forward = set_text(forward, "protocol", event->forward_proto);
        forward = set_text(forward, "guestAddr", event->forward_guest);
        forward = set_text(forward, "hostAddr", event->forward_host);
        forward = set_text(forward, "error", event->forward_error);
        status = jv_object_set(status, jv_string("portForward"), forward);
    }
    return status;
}

int api_event_write(int fd, const struct api_event *event, struct error *err)
{
    scoped(free) char *now = api_time_now();
    scoped(free) char *status = value_to_json(event_status(event), false);
    scoped(free) char *line = xasprintf("{\"time\":\"%s\",\"status\":%s}\n", now, status);
    int r = fd_write_all(fd, line, strlen(line));

    return r < 0 ? error_errno(err, -r, "writing an event") : 0;
}

int api_event_parse(const char *line, struct api_event_in *ret, struct error *err)
{
    jv event, time, status;
    int64_t ns = 0;
    int r;

    if (strlen(line) > LINE_MAX_BYTES) {
        return error_set(err, EINVAL, "an event line of more than %u bytes", LINE_MAX_BYTES);
    }
    r = value_from_json(line, &event, err);
    if (r < 0) {
        return error_wrap(err, r, "reading an event");
    }
    if (jv_get_kind(event) != JV_KIND_OBJECT) {
        jv_free(event);
        return error_set(err, EINVAL, "reading an event: not an object");
    }
    time = jv_object_get(jv_copy(event), jv_string("time"));
    status = jv_object_get(event, jv_string("status"));
    if (jv_get_kind(time) != JV_KIND_STRING || jv_get_kind(status) != JV_KIND_OBJECT) {
        r = error_set(err, EINVAL, "reading an event: 'time' or 'status' is missing");
    } else {
        r = api_time_parse(jv_string_value(time), &ns, err);
    }
    jv_free(time);
    if (r < 0) {
        jv_free(status);
        return r;
    }
    ret->time_ns = ns;
    ret->status = status;
    return 0;
}
