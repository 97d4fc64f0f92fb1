/* SPDX-License-Identifier: Apache-2.0 */
/* The service "Touch": its stream is led to a child process (touching.h), which may wait. */
#pragma once

#include "child.h"
#include "loop.h"
#include "mounts.h"
#include "rpc.h"

struct touch_service {
    struct loop *loop;
    struct children *children;
    const struct mounts *mounts;
};

/* @arg: the struct touch_service, which outlives all calls. */
int touch_serve(const struct rpc_call *call, void *arg, struct error *err);
