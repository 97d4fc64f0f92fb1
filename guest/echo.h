/* SPDX-License-Identifier: Apache-2.0 */
/* The service "Echo": what comes goes back. The host measures its ways into the guest with it. */
#pragma once

#include "rpc.h"

/* @arg: not looked at. */
int echo_serve(const struct rpc_call *call, void *arg, struct error *err);
