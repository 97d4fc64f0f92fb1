/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts an instance: prepares it, starts its host agent in the background and follows the agent's
 * events until the guest is ready. An agent that died while the VM runs is replaced by a new one,
 * which takes the running VM over.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

#define LIFECYCLE_STALL_MS (5 * 60 * 1000)

struct lifecycle_start_options {
    const char *lima_home;
    const char *name;
    const char *limactl; /* program that is run as `limactl hostagent`; NULL: this one */
    int64_t timeout_ms;  /* for all of it; 0: none */
    int64_t stall_ms;    /* without any progress; 0: LIFECYCLE_STALL_MS */
    bool foreground;     /* become the host agent; returns only on errors */
    bool quiet;          /* nothing about READY and how to get in (shell --start) */
};

/*
 * 0 also when it runs already. If it fails, the VM that this call started has been stopped, but for
 * EINTR (Ctrl-C), where it goes on starting and ENOTRECOVERABLE (ready, but provisioning failed),
 * where it goes on running. Errors: ENOENT (no such instance), EBUSY (another verb is at work),
 * ETIMEDOUT (timeout or no progress).
 */
int lifecycle_start(const struct lifecycle_start_options *options, struct error *err);
