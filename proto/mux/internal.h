/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mux.c (the session: handshake, input, output), stream.c (the streams) and direct.c (a stream
 * without a session) share. Nobody else includes it. Calls go from mux.c and direct.c to stream.c,
 * and back only to mux_queue_frame(), which hands those of a direct mux on.
 */
#pragma once

#include "mux/frame.h"
#include "mux/mux.h"
#include "mux/ring.h"

enum mux_state {
    MUX_STATE_STOPPED,
    MUX_STATE_SYNCING, /* our sync is out or due; input is searched for the peer's */
    MUX_STATE_UP,
};

/* A stream's place in a list; both NULL when it is in none. */
struct mux_link {
    struct mux_link *prev, *next;
};

struct mux_stream {
    struct mux *mux;
    const struct mux_stream_ops *ops;
    void *arg;
    struct mux_stream *hash_next;
    struct mux_link wait; /* in mux->waiting */
    struct mux_link end;  /* in mux->ended, later in mux->dead */
    uint32_t id;
    uint32_t send_credit; /* bytes the peer lets us send */
    uint32_t recv_credit; /* bytes we let the peer send */
    uint32_t window;      /* recv_credit, unconsumed and ungranted together */
    uint32_t taken;       /* granted since the window grew last */
    uint32_t unconsumed;  /* received, still in the user's hands */
    uint32_t ungranted;   /* consumed, not yet in recv_credit */
    uint32_t want;        /* credit the user's refused write waits for; 0: none refused */
    uint32_t written;     /* of its first MUX_EARLY bytes and a few more */
    bool local_fin, remote_fin;
    bool dead; /* out of the table: no more callbacks */
};

/* Where mux_output() took the bytes from that it offered. */
enum mux_source {
    MUX_SOURCE_NONE,
    MUX_SOURCE_SYNC,
    MUX_SOURCE_PAD,
    MUX_SOURCE_RING,
};

struct mux {
    enum mux_role role;
    const struct mux_ops *ops;
    void *arg;
    void (*random)(void *out, size_t len, void *arg);
    void *random_arg;

    /* session */
    enum mux_state state;
    uint8_t nonce[FRAME_NONCE_LEN];
    uint8_t peer_nonce[FRAME_NONCE_LEN]; /* while up */
    struct frame_session send, recv;     /* while up */
    unsigned epoch;                      /* counts starts and stops */
    int drops;                           /* by garbage, during this mux_input() */

    /* output, in this order: the rest of a frame half sent, zeros, sync, frames */
    struct ring ring;
    size_t frame_left; /* bytes of the frame at the head of the ring, once some of it was sent */
    size_t pad_left;
    bool sync_due;
    uint8_t sync_target[FRAME_NONCE_LEN]; /* the peer's nonce to send with it */
    bool sync_sent;                       /* with this nonce of ours */
    uint8_t sync_sent_target[FRAME_NONCE_LEN];
    uint8_t sync[FRAME_SYNC_LEN];
    size_t sync_offset; /* sent of it; 0: none under way */
    enum mux_source source;
    bool armed; /* output() was called and the queue has not been empty since */

    /* input cut inside a unit: the unit's beginning */
    uint8_t *in;
    size_t in_len, in_cap;
    size_t in_need; /* length at which it is worth parsing again */

    /* streams */
    struct mux_stream **table;
    size_t table_len;          /* power of two */
    size_t count[2];           /* opened by us, by the peer */
    uint32_t next_id, peer_id; /* next of ours, last of the peer's */
    bool exhausted;            /* ids have run out: a new session is due */
    struct mux_link waiting;   /* for room, in turn */
    struct mux_link ended;     /* both directions ended, closed(0) is due */
    struct mux_link dead;      /* to be freed when no call is on the stack */
    struct mux_stream *turn;   /* whose writable() runs */
    size_t turn_left;          /* bytes it may still write */
    size_t grown;              /* by so much all windows exceed MUX_WINDOW */
    size_t unconsumed;         /* of all streams */
    int depth;                 /* entry points on the stack */
    bool trim;                 /* streams have gone: give memory back when idle */

    /* without frames: direct.c */
    bool direct;
    bool direct_fin;    /* our direction ends behind the output */
    bool direct_broken; /* the connection is to be closed at once */
    bool segmented;
    bool direct_ended;     /* end of file was read in good order */
    uint32_t segment_left; /* bytes to come of the segment under way */
    uint8_t head[4];       /* of the next one */
    size_t head_len;
};

/* mux.c */
/* Every public function that may call back runs between these two. */
void mux_enter(struct mux *mux);
void mux_leave(struct mux *mux);
/* There is something for the transport to do. */
void mux_arm(struct mux *mux);
void mux_queue_frame(struct mux *mux, enum frame_type type, uint8_t flags, uint32_t stream,
                     const void *payload, size_t len);

/* direct.c: what would be a frame, without one */
void direct_queue(struct mux *mux, enum frame_type type, uint8_t flags, const void *payload,
                  size_t len);

/* stream.c */
struct mux_stream *mux_stream_find(const struct mux *mux, uint32_t id);
void mux_streams_init(struct mux *mux);
/* A session begins. */
void mux_streams_reset(struct mux *mux);
/* The session is over: every stream gets closed(MUX_RESET_SESSION). */
void mux_streams_close(struct mux *mux);
/* Frees streams that died; no call may be on the stack. */
void mux_streams_bury(struct mux *mux);
void mux_streams_done(struct mux *mux);
/*
 * One frame of a stream. 0, or -EPROTO: the peer broke the session's rules. @payload has the length
 * that its type demands.
 */
int mux_streams_frame(struct mux *mux, const struct frame_header *header, const uint8_t *payload);
/* The callbacks that became due: writable() while there is room, closed(). */
void mux_streams_settle(struct mux *mux);
