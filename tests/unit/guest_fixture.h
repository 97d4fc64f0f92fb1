/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole guest agent for tests, in a process of its own that leaves the machine alone, spoken to
 * as the host does: a mux on the other end of a socketpair.
 */
#pragma once

#include "test.h"
#include "base/buf.h"
#include "mux/mux.h"
#include "wire.h"

#define GUEST_WAIT_MS 20000

struct guest_side { /* one stream as the test sees it */
    struct mux_stream *stream;
    struct buf in;
    bool hold; /* take nothing: what comes stays unconsumed */
    bool fin, closed;
    uint32_t code;
};

struct guest_host {
    pid_t pid; /* of the agent */
    int fd;
    struct mux *mux;
    bool up;
};

extern struct guest_host guest_host;
extern const char
    *guest_stream_socket; /* where the agent listens in place of vsock; NULL: nowhere */
extern const struct mux_stream_ops guest_side_ops;

/* Setup and teardown of a test. The agent must end by itself, without a fault. */
int guest_start(void **state);
int guest_stop(void **state);

long guest_now_ms(void);
/* Moves bytes both ways once, waiting a little for some. False when the agent has gone. */
bool guest_turn(void);

/* @condition is evaluated until it holds once; it may take things away. */
#define guest_wait_for(condition)                                                                  \
    do {                                                                                           \
        long end_ = guest_now_ms() + GUEST_WAIT_MS;                                                \
        bool met_ = (condition);                                                                   \
        while (!met_ && guest_now_ms() < end_) {                                                   \
            assert_true(guest_turn());                                                             \
            met_ = (condition);                                                                    \
        }                                                                                          \
        if (!met_) {                                                                               \
            fail_msg("waited in vain for %s", #condition);                                         \
        }                                                                                          \
    } while (0)

/* Opens a stream for @service; the request is the caller's to send. */
void guest_call(struct guest_side *side, const char *service);
void guest_send_message(struct guest_side *side, const pb_msgdesc_t *fields, const void *message);
/* Takes the next message off what has come; false when it is not complete. */
bool guest_take_message(struct guest_side *side, const pb_msgdesc_t *fields, void *ret);
/* Waits for the StreamReply that every answer begins with; its error. */
uint32_t guest_take_reply(struct guest_side *side);
/* A whole call of Info: a round trip, behind which all that was sent before is done. */
void guest_call_info(struct guest_side *side);
/* Resets what is left of it. */
void guest_end_call(struct guest_side *side);

/* A TCP listener on 127.0.0.1. */
int guest_listener(uint16_t *ret_port);
/* A tunnel to 127.0.0.1, whose reply must have the error @want. */
void guest_open_tunnel(struct guest_side *side, uint16_t port, uint32_t want);
