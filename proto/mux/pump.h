/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes between a plain connection and a segmented one (mux/direct.h), moved by the kernel:
 * splice(2) through a pipe. Little pieces are copied, since they leave with their length in one
 * packet then. Each direction ends by itself. Unlike the rest of this folder it does I/O, on
 * descriptors that are its user's, as is the waiting; both agents run it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/macros.h"

struct pump;

/*
 * Both non-blocking; borrowed. @segment_left: bytes to come of the segment that has begun. @opener:
 * our side has made the segmented connection, and so closes it first.
 */
struct pump *pump_new(int plain_fd, int segmented_fd, uint32_t segment_left, bool opener);
void pump_free(struct pump *pump);
SCOPED_PTR(struct pump, pump_free)

/*
 * Moves what can be moved, up to one turn's worth. 1: it is over, close both; 0: goes on when one
 * of the descriptors is ready as pump_wants() says; -errno: broken, reset the plain one, close
 * both.
 */
int pump_run(struct pump *pump);

struct pump_wants {
    bool plain_in, plain_out, segmented_in, segmented_out;
};

struct pump_wants pump_wants(const struct pump *pump);
