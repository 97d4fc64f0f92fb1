/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The running agent: owns the loop and everything on it, and joins transport, multiplexer and
 * services.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"

struct agent_options {
    const char *transport;     /* see transport.h */
    bool no_bpf;               /* find ports by the clock, for diagnosis */
    bool no_boot;              /* leave the machine alone: all stages are reached at once */
    const char *socket;        /* for programs of this guest; NULL: none */
    const char *stream_socket; /* stands for vsock; NULL: vsock itself, unless no_boot */
    char *const *argv;         /* of the program, for when a newer one takes over */
};

/* Runs until SIGTERM, SIGINT or the end of an inherited transport. */
int agent_run(const struct agent_options *options, struct error *err);
