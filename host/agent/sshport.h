/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host port that is forwarded to the guest's sshd: the configured one, else the one of the last
 * start while it is free (so that saved host:port pairs stay valid), else any free one.
 */
#pragma once

#include "base/error.h"
#include "instance/instance.h"

/* Errors: EADDRINUSE (a configured port is taken). */
int sshport_choose(const struct instance *inst, int *ret, struct error *err);
/* Any free port. */
int sshport_any(int *ret, struct error *err);
