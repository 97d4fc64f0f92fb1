/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that wait to be accepted: somebody has been told an id and has a time to
 * ask for it with AcceptRequest. What waits is either a descriptor (of a listener that the host has
 * asked for) or a stream (that the host has opened for a service of a guest program). Ids are drawn
 * from getrandom(), so nobody guesses one; what the host may accept a guest program may not, and
 * the other way round.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "loop.h"
#include "mux/mux.h"

#define INCOMING_WAIT_MS 10000
#define INCOMING_MAX     256 /* that wait for one owner */

struct incoming;

enum incoming_for { /* who may accept */
                    INCOMING_FOR_HOST,
                    INCOMING_FOR_GUEST,
};

/* Who is told the ids; embedded in place by the listener or registration. */
struct incoming_owner {
    enum incoming_for accepts;
    size_t waiting; /* connections; kept by this module */
    /* One of the owner's went away or was taken, so there is room again. NULL: nobody asks. */
    void (*room)(struct incoming_owner *owner);
};

/* What was accepted: the caller's now. */
struct incoming_taken {
    int fd;                    /* -1: a stream */
    struct mux_stream *stream; /* its ops are to be set at once; NULL: a descriptor */
    struct buf early;          /* what came on the stream meanwhile, not consumed yet */
    bool ended;                /* and behind it its end */
};

/* @wait_ms: INCOMING_WAIT_MS but in tests. */
struct incoming *incoming_new(struct loop *loop, unsigned wait_ms);
/* Closes and resets all that waits. */
void incoming_free(struct incoming *incoming);
SCOPED_PTR(struct incoming, incoming_free)

/* Whether @owner may add one more. */
bool incoming_has_room(const struct incoming_owner *owner);
/* Takes the descriptor. @owner must have room. Returns the id, never 0. */
uint64_t incoming_add_fd(struct incoming *incoming, struct incoming_owner *owner, int take_fd);
/* The same with a stream, which was opened and has not been answered. */
uint64_t incoming_add_stream(struct incoming *incoming, struct incoming_owner *owner,
                             struct mux_stream *stream);
/* False: nothing with this id waits for @by. */
bool incoming_take(struct incoming *incoming, uint64_t id, enum incoming_for by,
                   struct incoming_taken *ret);
/* The owner ends: closes and resets what waits for it. */
void incoming_drop(struct incoming *incoming, struct incoming_owner *owner);
