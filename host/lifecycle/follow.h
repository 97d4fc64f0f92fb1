/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waits for a host agent: follows its events, relays its warnings, shows its progress, notices its
 * end. What counts as progress is any event, any line of its log, any finished line on the guest's
 * console.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"
#include "util/strv.h"

enum lifecycle_goal {
    LIFECYCLE_GOAL_READY, /* read events from the first; end at "running" */
    LIFECYCLE_GOAL_EXIT,  /* read new events; end with the process */
};

struct lifecycle_follow_options {
    const char *dir;
    pid_t agent;
    enum lifecycle_goal goal;
    int64_t timeout_ms; /* 0: none */
    int64_t stall_ms;   /* 0: none */
    int *lock_fd;       /* closed and set to -1 at the first event: the agent is up. May be NULL */
};

enum lifecycle_end {
    LIFECYCLE_END_NONE,
    LIFECYCLE_END_READY,
    LIFECYCLE_END_DEGRADED, /* ready, with errors */
    LIFECYCLE_END_GONE,     /* the agent has ended */
    LIFECYCLE_END_TIMEOUT,
    LIFECYCLE_END_STALLED,
    LIFECYCLE_END_INTERRUPTED, /* SIGINT or SIGTERM came */
};

struct lifecycle_result {
    enum lifecycle_end end;
    bool at_once;       /* ready already in the events that were there */
    int status;         /* wait status of an agent that was our child, else -1 */
    int ssh_port;       /* 0: not told */
    struct strv errors; /* of its events, each once */
    char *stage;        /* last progress, or NULL */
    char *detail;       /* of it: a script, a line of the console; or NULL */
};

#define LIFECYCLE_RESULT_INIT ((struct lifecycle_result){.status = -1})

void lifecycle_result_done(struct lifecycle_result *result);
SCOPED_VAL(struct lifecycle_result, lifecycle_result_done)

/* Blocks. Negative only if following itself failed. */
int lifecycle_follow(const struct lifecycle_follow_options *options, struct lifecycle_result *ret,
                     struct error *err);
