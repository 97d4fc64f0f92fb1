/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts about this machine and this agent.
 */
#pragma once

#include "guest.pb.h"
#include "rpc.h"

#define INFO_PROTOCOL 1

/* Everything but instance_id. What cannot be read stays empty. @rpc brings its features. */
void info_fill(lima_guest_v1_Info *info, const struct rpc *rpc);
/* The value of @key in os-release text, quotes and escapes undone, into @out. False: not there. */
bool info_os_release(const char *text, const char *key, char *out, size_t size);
