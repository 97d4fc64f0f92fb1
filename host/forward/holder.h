/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a port of the host that we want. */
#pragma once

#include "forward/endpoint.h"

/*
 * "instance 'dev' (process 12)", "process 34 (nginx)", "a process of uid 1000", or NULL when nobody
 * is found or the system does not tell. Looks at all processes: not for every day. Caller frees.
 */
char *forward_holder_find(const struct forward_endpoint *host);
