/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two muxes and the two pipes between them, for tests: bytes move when the test says, in pieces of
 * the size it says, and can be lost, kept for later or forged. Each end records what happened to
 * it.
 */
#pragma once

#include "base/buf.h"
#include "mux/mux.h"

#define PAIR_STREAMS 512

struct pair_end;

/* What one end knows of a stream. */
struct pair_stream {
    struct pair_end *end;
    struct mux_stream *handle; /* NULL after closed() or reset */
    struct buf got;            /* what data() gave */
    bool fin;
    bool closed;
    uint32_t code;
    int writable; /* calls */
    bool hold;    /* don't consume what arrives */
    size_t held;
    const char *send; /* writable() goes on with these */
    size_t send_left;
    bool finish; /* and then finishes */
};

struct pair_end {
    struct mux *mux;
    struct buf pipe; /* what it has sent and the other has not got */
    int ups, downs, pongs;
    bool refuse;                              /* set no ops in opened() */
    bool ignore;                              /* set ops that do nothing, and record nothing */
    bool hold;                                /* of new streams */
    struct pair_stream streams[PAIR_STREAMS]; /* in the order they began here */
    size_t count;
};

struct pair {
    struct pair_end host, guest;
    uint8_t seed; /* of the nonces */
};

extern const struct mux_stream_ops pair_stream_ops;

void pair_init(struct pair *pair);
void pair_done(struct pair *pair);
/* Takes all output of @end into its pipe. Returns how much there was. */
size_t pair_pull(struct pair_end *end);
/* Gives @to the first @len bytes of @from's pipe, in pieces of @piece bytes (0: one). */
void pair_push(struct pair_end *from, struct pair_end *to, size_t len, size_t piece);
/* Until both ends have nothing to say. */
void pair_run(struct pair *pair, size_t piece);
/* Starts both and runs; asserts that a session came up. */
void pair_up(struct pair *pair);
struct pair_stream *pair_open(struct pair_end *end);
/* Writes all of it as credit and room come. */
void pair_send(struct pair_stream *stream, const void *data, size_t len, bool finish);
/* The stream that the other end opened last. */
struct pair_stream *pair_last(struct pair_end *end);
void pair_consume(struct pair_stream *stream);
