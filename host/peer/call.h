/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call of the guest: one stream, its request written as room comes, its answer split into
 * messages. For the other modules of this folder, each of which knows one service; they embed the
 * struct as their first member, and it is freed as one with theirs.
 *
 *   call_init()   the request is put together in @request
 *   call_start()  the stream is open or being opened, the request on its way
 *   accepted()    the StreamReply has come without an error
 *   message()     once for each message behind it
 *   ended()       exactly once, and the last; or call_take(), and the stream is another's
 */
#pragma once

#include <stdbool.h>
#include "base/buf.h"
#include "mux/delimited.h"
#include "mux/mux.h"
#include "peer/ways.h"
#include "peer/client.h"

struct call;

enum call_result {
    CALL_ON,
    CALL_TAKEN, /* call_take() was called, or the call was freed: it must not be touched again */
};

struct call_ops {
    /*
     * Both return CALL_ON, CALL_TAKEN, or -errno: what came makes no sense, and the stream is
     * reset. NULL @accepted: CALL_ON.
     */
    int (*accepted)(struct call *call);
    int (*message)(struct call *call, const uint8_t *data, size_t len);
    /*
     * It is over: 0 the guest ended it in good order, or -errno: the guest's own in its StreamReply
     * (@text has its words, else NULL), or ENOTCONN with the session. Frees the call.
     */
    void (*ended)(struct call *call, int r, const char *text);
    bool finish; /* our direction ends behind the request */
};

struct call {
    struct peer *peer;
    const struct call_ops *ops;
    enum way_kind kind;        /* of the stream; the caller sets it behind call_init() */
    struct way_dial *dial;     /* a connection for the stream is being made */
    struct mux_stream *stream; /* NULL: gone, or not there yet */
    struct buf request;        /* not yet written */
    struct delimited replies;
    bool replied;
    bool *gone; /* set when the call is freed while messages are taken */
};

/* @call is zeroed memory from xnew(). Puts StreamOpen into the request; the caller adds to it. */
void call_init(struct call *call, struct peer *peer, const struct call_ops *ops,
               const char *service);
/* False when no stream can be had now; then the call is freed and ended() does not come. */
bool call_start(struct call *take_call);
/* Queues more for the guest, behind what waits: whole messages, with their length. */
void call_send(struct call *call, const void *data, size_t len);
/* Hands the stream out, to have its ops set at once; the call is freed. Inside a callback only. */
struct mux_stream *call_take(struct call *call);
/* Drops it: the stream is reset, no callback comes. */
void call_free(struct call *call);

/* Of client.c: a new stream of the session, or NULL. */
struct mux_stream *peer_stream_open(struct peer *peer, const struct mux_stream_ops *ops, void *arg);
struct ways *peer_ways(const struct peer *peer);
