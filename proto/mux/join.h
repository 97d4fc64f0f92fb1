/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two streams, of any two muxes, made one: what one brings the other is given, each direction ends
 * by itself, and a reset of one resets the other. Neither is read faster than the other takes: what
 * waits in memory is at most the window of each.
 */
#pragma once

#include "mux/mux.h"

struct join;

/*
 * The last callback of a join: both streams are gone. May be NULL. @ordered: each has said all, and
 * the other was given it; else one of them was reset.
 */
typedef void join_done_fn(bool ordered, void *arg);

/* Takes both streams over until they end; the join frees itself then. */
struct join *join_new(struct mux_stream *a, struct mux_stream *b, join_done_fn *done, void *arg);
/*
 * Bytes that came on @a, and its end, before they were joined; not consumed yet. At once after
 * join_new().
 */
void join_early(struct join *join, const void *data, size_t len, bool ended);
/* Resets both. done() does not come. */
void join_free(struct join *join);
