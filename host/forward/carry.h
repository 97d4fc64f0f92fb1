/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of the host joined to a stream of the guest. Each direction ends by itself, a reset
 * of one resets the other, and neither is read faster than the other takes: what waits in memory is
 * at most the stream's window.
 */
#pragma once

#include "mux/mux.h"
#include "util/loop.h"

struct carry;

/* The last callback: it is over, and freed. */
typedef void (*carry_ended_fn)(void *arg);

/*
 * Takes the non-blocking socket and does nothing with it yet. @connecting: connect(2) is under way,
 * and its failure resets the stream.
 */
struct carry *carry_new(struct loop *loop, int take_fd, bool connecting, carry_ended_fn ended,
                        void *arg);
/* Takes the stream; bytes go both ways from now on. ended() may come at once. */
void carry_join(struct carry *carry, struct mux_stream *stream);
/* Ends it so that both sides see a reset, and frees it; ended() does not come. NULL is fine. */
void carry_abort(struct carry *carry);
