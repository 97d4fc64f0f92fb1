/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notices that something on the host may be free now that was not: a socket of any process has
 * gone, an address has come. Says too much rather than too little; a system that tells nothing
 * stays silent, so whoever waits tries again from time to time too.
 */
#pragma once

#include <stdint.h>
#include "base/macros.h"
#include "util/loop.h"

struct forward_release;

/* @port: of the socket that has gone; 0: anything may have changed. May free the release. */
typedef void (*forward_release_fn)(uint16_t port, void *arg);

/* NULL where the system tells nothing. */
struct forward_release *forward_release_new(struct loop *loop, forward_release_fn fn, void *arg);
void forward_release_free(struct forward_release *release);
SCOPED_PTR(struct forward_release, forward_release_free)
