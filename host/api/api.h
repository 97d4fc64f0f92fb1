/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the host agent and the command line: event lines in ha.stdout.log (cli.md 2.4) and HTTP on
 * ha.sock (cli.md 2.5).
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "util/loop.h"
#include "util/strv.h"
#include "util/value.h"

/* One event; zero members are left out of the line. Strings are borrowed when written. */
struct api_event {
    bool running, degraded, exiting;
    const struct strv *errors;
    int ssh_local_port;
    const char *progress;       /* ours: "progress":{"stage":...}: for start's display; NULL none */
    const char *progress_detail;
    const char *forward_type;   /* "forwarding", "not-forwarding", "stopping", "failed"; NULL none */
    const char *forward_proto, *forward_guest, *forward_host, *forward_error;
};

/* One JSON line with the time, in a single write(). Errors: I/O. */
int api_event_write(int fd, const struct api_event *event, struct error *err);

/* An event that was read back; @json is the whole "status" object. */
struct api_event_in {
    int64_t time_ns; /* CLOCK_REALTIME */
    jv status;
};
/* Parses one line (without newline). EINVAL: not an event. The caller frees status. */
int api_event_parse(const char *line, struct api_event_in *ret, struct error *err);

struct api_server;
/* Answers GET; returns a JSON document. Called for "/v1/info". */
typedef jv (*api_info_fn)(void *arg);
/* Listens on @path (0600, stale socket replaced). */
int api_server_new(struct loop *loop, const char *path, api_info_fn info, void *arg,
                   struct api_server **ret, struct error *err);
void api_server_free(struct api_server *server);
SCOPED_PTR(struct api_server, api_server_free)

/* GET @resource from @path, blocking, at most @timeout_ms. Errors: ECONNREFUSED, ENOENT, ETIMEDOUT, EPROTO. */
int api_get(const char *path, const char *resource, int64_t timeout_ms, jv *ret,
            struct error *err);
