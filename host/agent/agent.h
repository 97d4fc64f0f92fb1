/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host agent: one process per running instance; owns the driver, the guest connection, forwards
 * and the API. Entered by agent/main.c alone.
 */
#pragma once

#include "base/error.h"

struct agent_options {
    const char *lima_home;
    const char *instance;
    const char *pidfile;
    const char *socket; /* ha.sock */
};

/*
 * Runs until the VM is down. The seed (cidata.iso) must be there: `start` writes it. The VM is
 * taken over if it runs already, else started. Events go to stdout, logs to stderr. 0 after an
 * orderly end; errors end with an "exiting" event too.
 */
int agent_run(const struct agent_options *options, struct error *err);
