/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A short exchange over each way into the guest, with the service Echo: how long a call takes, one
 * byte and back, a burst and back. For this folder alone.
 */
#pragma once

#include "peer/ways.h"

struct measure;

/* Of a way that failed NULL. The measure is gone then. */
typedef void (*measure_fn)(const struct way_figures *session, const struct way_figures *vsock,
                           void *arg);

/* @done comes once, never before this has returned. */
struct measure *measure_new(struct peer *peer, struct loop *loop, measure_fn done, void *arg);
/* Before @done came: it does not come then. NULL is fine. */
void measure_free(struct measure *measure);
