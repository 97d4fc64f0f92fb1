/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `limactl shell` over the guest agent: one connection to the host agent's ga.sock carries the
 * command; this process moves bytes between it and our own standard streams, passes signals and
 * sizes on, and ends as the command ended.
 */
#pragma once

#include "base/error.h"
#include "peer/exec.h"

/*
 * Runs @request over the socket @path. Returns the exit status; 255 when the connection broke
 * meanwhile, which is said on stderr. @name is the instance's, for messages.
 * Errors: EOPNOTSUPP (nobody serves it: no such socket, no agent in the guest, or one that cannot
 * run commands), before anything was read from stdin or started; and the guest's own, see
 * peer_exec_take().
 */
int shell_agent_run(const char *path, const char *name, const struct peer_exec_request *request,
                    struct error *err);
