/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service "Exec": commands that the host runs here, as a user, with three pipes or a terminal.
 * A command is a child of the agent in a session of its own; neither PAM nor logind takes part, so
 * it belongs to no login session, but has the user's groups, environment and service manager.
 */
#pragma once

#include "child.h"
#include "loop.h"
#include "rpc.h"

struct execs;

struct execs_options {
    struct loop *loop; /* borrowed, as the next */
    struct children *children;
    /* Name of the instance's user, borrowed; NULL: whoever runs this program. */
    const char *(*user)(void *arg);
    void *arg;
};

struct execs *execs_new(const struct execs_options *options);
/* Hangs all of them up. */
void execs_free(struct execs *execs);
/* For the table of services. @arg is the struct execs. */
int execs_serve(const struct rpc_call *call, void *arg, struct error *err);
