/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that this agent serves. A stream begins with StreamOpen and, where the service has one,
 * its request; then the handler of the service, found in a table, has it. See proto/guest.proto
 * for what each service says.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "guest.pb.h"
#include "mux/mux.h"

#define RPC_REQUEST_MAX 1024 /* bytes of a request message, unless the service allows more */

struct rpc;

/* Who has opened the stream. */
enum rpc_from {
    RPC_FROM_HOST = 1,
    RPC_FROM_GUEST = 2, /* a program of root in this guest, by the local socket */
};

/* A call whose request is complete. Valid during serve(). */
struct rpc_call {
    struct mux_stream *stream;
    enum rpc_from from;
    const char *service;
    const uint8_t *request; /* body of the request message; NULL: the service has none */
    size_t request_len;
    /* What came behind it in the same piece. Not consumed yet: that is the handler's. */
    const uint8_t *rest;
    size_t rest_len;
};

/*
 * Serves the call: takes the stream over (its ops, at once), or answers it with the functions
 * below. On a negative errno nothing of that was done, and the call is refused with @err's words.
 */
typedef int rpc_serve_fn(const struct rpc_call *call, void *arg, struct error *err);

struct rpc_service {
    const char *name; /* constant */
    const char
        *feature;  /* what Info says when the service is there; NULL: its name in lower case */
    unsigned from; /* who may call: enum rpc_from, or'ed; 0: the host alone */
    bool has_request;
    size_t request_max; /* 0: RPC_REQUEST_MAX */
    rpc_serve_fn *serve;
    void *arg; /* borrowed */
};

/* @other has the services that no table names; its name is not looked at. NULL: there are none. */
struct rpc *rpc_new(const struct rpc_service *other);
/* Resets streams whose request is not complete; others belong to their handlers. */
void rpc_free(struct rpc *rpc);
SCOPED_PTR(struct rpc, rpc_free)
/* Before the first call. A name may be there twice, once for each side that calls. */
void rpc_add(struct rpc *rpc, const struct rpc_service *service);
/* Feature number @index of those that the services bring, or NULL behind the last. */
const char *rpc_feature(const struct rpc *rpc, size_t index);
/* A stream that the other side has opened; for mux_ops.opened. */
void rpc_accept(struct rpc *rpc, struct mux_stream *stream, enum rpc_from from);

/*
 * The first message of every answer. @error 0: the call is served; else an errno, with @message
 * (NULL: strerror()) and nothing may follow but the stream's end. False: no room now, writable()
 * will come.
 */
bool rpc_reply(struct mux_stream *stream, int error, const char *message);
/*
 * These end the call with all it has to say, whatever ops the stream had: a StreamReply and
 * @message, or a StreamReply with an error. What else arrives is skipped. A peer that asks faster
 * than it reads answers gets a reset.
 */
void rpc_answer(struct mux_stream *stream, const pb_msgdesc_t *fields, const void *message);
void rpc_refuse(struct mux_stream *stream, int error, const char *message);
/* The last message of a call that was replied to already; else as rpc_answer(). */
void rpc_end(struct mux_stream *stream, const pb_msgdesc_t *fields, const void *message);
