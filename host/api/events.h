/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event lines of a host agent: one JSON object per line on its standard output, which `start`
 * has pointed at ha.stdout.log: {"time": RFC 3339 with nanoseconds, "status": {...}}. Each line
 * carries only what is new in it (a forward, a stage) beside the standing state (running, port).
 *
 * Beyond the members that Lima knows there is "progress": {"stage": text, "detail": text}.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "util/strv.h"
#include "util/value.h"

/* Zero members are left out of the line. All strings are borrowed. */
struct api_event {
    bool running, degraded, exiting;
    const struct strv *errors;
    int ssh_local_port;
    const char *progress; /* stage; NULL: none */
    const char *progress_detail;
    const char *forward_type; /* "forwarding", "not-forwarding", "stopping", "failed"; NULL: none */
    const char *forward_proto, *forward_guest, *forward_host, *forward_error;
};

/* Writes one line in a single write(). Errors: I/O. */
int api_event_write(int fd, const struct api_event *event, struct error *err);

/* An event that was read back. The caller frees status with jv_free(). */
struct api_event_in {
    int64_t time_ns; /* CLOCK_REALTIME */
    jv status;       /* an object */
};

/* Parses one line, without its newline. Errors: EINVAL (not an event). */
int api_event_parse(const char *line, struct api_event_in *ret, struct error *err);

/* RFC 3339 with nanoseconds and zone, now. Caller frees. */
char *api_time_now(void);
/* Errors: EINVAL. */
int api_time_parse(const char *text, int64_t *ret_ns, struct error *err);
