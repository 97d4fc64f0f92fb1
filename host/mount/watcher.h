/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lima-fileserver --watch: a process that watches a folder which others serve (9p, virtiofs), and
 * tells the guest agent what to touch there. Its standard input is a stream socket: records go out,
 * answers come in (lima/touch.h). It ends with that.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"

struct watcher_arguments {
    const char *source, *without;
    unsigned share; /* of the watches, in percent */
    size_t folders; /* told at the beginning */
    int64_t since_ns;
};

int watcher_run(const struct watcher_arguments *arguments, struct error *err);
