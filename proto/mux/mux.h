/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many streams over one byte stream: bytes in, events out, no I/O, one code for both ends.
 *
 * Session. Each side draws a random nonce at mux_start(). A sync with the peer's nonce unknown
 * asks; a sync that carries our own nonce answers and establishes (old bytes cannot contain a nonce
 * drawn just now); an established side that meets another sync (or is told so by mux_start(),
 * because the transport reported an open or a hang-up) drops the session with all its streams,
 * draws a new nonce and answers. Anything that does not parse drops the session too and looks for a
 * sync. A side that drops a session on a running transport first completes the frame that it was
 * sending.
 *
 * Streams. Host-opened ids are odd, guest-opened even, never reused in a session. Each direction
 * has credit: a sender may send as many bytes as the receiver has granted; the receiver grants more
 * with mux_stream_consumed() as its user takes bytes away. So memory per stream is bounded by the
 * window. Each direction ends by itself with FIN; when both have ended, or on reset, the stream is
 * gone. A window begins small, so that a thousand streams whose users take nothing cost little, and
 * grows while its bytes are taken away at once. All windows together grow no further than by
 * MUX_GROWN_MAX, and not while more than MUX_UNTAKEN_MAX lies in the users' hands.
 *
 * Fairness. Output is bounded (MUX_OUTPUT_LIMIT); streams that wait for room are called back round
 * robin through writable(), one frame's worth a turn.
 *
 * Hostile peers. What breaks a stream's rules (more data than credit, data behind FIN) resets the
 * stream with MUX_RESET_PROTOCOL; what breaks the session's (wrong or reused ids, unknown frames,
 * replies provoked and never read) drops the session. Neither aborts nor holds unbounded memory.
 *
 * Memory. Buffers grow on demand; when few streams are left they are given back.
 *
 * Rules for callbacks: they come from mux_input(), mux_output_done(), mux_start(), mux_stop() and
 * mux_free() only (output() from whatever queues: it must do no more than arm the writer). A
 * callback may write, reset, open and finish any stream and stop the mux, but must not free it, nor
 * call mux_input(), mux_output() or mux_output_done().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/macros.h"
#include "mux/frame.h"

#define MUX_WINDOW       (32u << 10)  /* bytes that may be sent on a new stream */
#define MUX_WINDOW_MAX   (512u << 10) /* what its window grows to */
#define MUX_GROWN_MAX    (24u << 20)  /* bytes: some 50 streams with the largest window */
#define MUX_UNTAKEN_MAX  (4u << 20)   /* bytes in the users' hands: more, and they do not keep up */
#define MUX_MESSAGE_MAX  (24u << 10)  /* in one piece; any window has room for it at times */
#define MUX_OUTPUT_LIMIT (256u << 10) /* queued output above which stream writes wait */
#define MUX_EARLY        2048         /* bytes with which a stream begins past the queue, */
#define MUX_EARLY_OUTPUT (64u << 10)  /* above the limit by so much at most */
#define MUX_OUTPUT_MAX   (576u << 10) /* with replies and the like; above it the session drops */
#define MUX_MAX_STREAMS  4096         /* opened by one side and not yet gone */

enum mux_reset {
    MUX_RESET_CANCEL = 1, /* the user of the stream went away; also for a code not listed here */
    MUX_RESET_UNKNOWN_SERVICE = 2,
    MUX_RESET_REFUSED = 3,    /* too many streams, not allowed */
    MUX_RESET_PROTOCOL = 4,   /* the peer broke the rules of the stream or of its service */
    MUX_RESET_SESSION = 5,    /* local only: the session ended under the stream */
    MUX_RESET_CONNECTION = 6, /* the dialled connection was reset */
};

enum mux_role {
    MUX_ROLE_HOST,
    MUX_ROLE_GUEST,
};

struct mux;
struct mux_stream;

/* Of one stream; set by mux_open() or by the user inside the opened() callback. NULL entries are
 * skipped. */
struct mux_stream_ops {
    /*
     * @len bytes have arrived (in order). They are valid during the call only; the user copies them
     * or passes them on, and calls mux_stream_consumed() when they are out of its hands.
     */
    void (*data)(struct mux_stream *stream, const void *data, size_t len, void *arg);
    /* The peer will send no more. */
    void (*fin)(struct mux_stream *stream, void *arg);
    /* Credit or output room is there again after a short write or a room of 0. */
    void (*writable)(struct mux_stream *stream, void *arg);
    /*
     * The last call for this stream, always exactly one: both directions ended (@code 0), or an
     * enum mux_reset from the peer or the session. The handle is invalid afterwards.
     */
    void (*closed)(struct mux_stream *stream, uint32_t code, void *arg);
};

struct mux_ops {
    void (*up)(struct mux *mux, void *arg);   /* a session is established */
    void (*down)(struct mux *mux, void *arg); /* it ended; streams were closed before this call */
    /* The peer opened a stream: set its ops with mux_stream_set_ops() here, or it is reset. */
    void (*opened)(struct mux *mux, struct mux_stream *stream, void *arg);
    void (*pong)(struct mux *mux, const uint8_t data[8], void *arg);
    /* There is output now and there was none before: arm the writer. */
    void (*output)(struct mux *mux, void *arg);
    /*
     * Of a direct mux: gives the connection away, and has nothing more to do with it; the mux is
     * over. NULL: cannot.
     */
    int (*take)(struct mux *mux, void *arg);
};

/* @ops is borrowed and constant. The mux is idle until mux_start(). */
struct mux *mux_new(enum mux_role role, const struct mux_ops *ops, void *arg);
/* Streams get closed(MUX_RESET_SESSION); no down() call. */
void mux_free(struct mux *mux);
SCOPED_PTR(struct mux, mux_free)
/* For tests: where nonces come from instead of getrandom(). Before mux_start(). */
void mux_set_random(struct mux *mux, void (*fn)(void *out, size_t len, void *arg), void *arg);

/*
 * Begins a new session, dropping an old one and all queued output. @pad: old bytes may be in the
 * way (virtio-serial), so the zeros of frame.h go first; false for fresh sockets.
 */
void mux_start(struct mux *mux, bool pad);
/* The transport is gone: drops the session and output; input is ignored until mux_start(). */
void mux_stop(struct mux *mux);
bool mux_is_up(const struct mux *mux);

/*
 * Bytes from the transport, cut anywhere. Never fails: what does not belong is thrown away. Returns
 * how many sessions were dropped because of garbage (0 or 1), for the caller's debug log.
 */
int mux_input(struct mux *mux, const void *data, size_t len);
/*
 * Bytes for the transport: the head of the queue, or 0 when there is nothing. They stay where they
 * are until the next call of any other function here. After writing @n of them,
 * mux_output_done(mux, n).
 */
size_t mux_output(struct mux *mux, const void **ret_data);
void mux_output_done(struct mux *mux, size_t n);

/* Sends a PING with 8 bytes that the pong() callback returns. No-op while down. */
void mux_ping(struct mux *mux, const uint8_t data[8]);

/*
 * Opens a stream. NULL while the session is down, MUX_MAX_STREAMS of ours are open, or more than
 * MUX_OUTPUT_MAX waits for the transport; and when the session's ids are used up, whereupon the
 * next input begins a new one. @ops is borrowed and constant. The first bytes can be written at
 * once, up to the initial credit MUX_WINDOW.
 */
struct mux_stream *mux_open(struct mux *mux, const struct mux_stream_ops *ops, void *arg);
void mux_stream_set_ops(struct mux_stream *stream, const struct mux_stream_ops *ops, void *arg);
void *mux_stream_arg(const struct mux_stream *stream);
struct mux *mux_stream_mux(const struct mux_stream *stream);

/*
 * Queues up to @len bytes and returns how many were taken: less than @len when credit or output
 * room ran out, and then writable() will come. Invalid after mux_stream_finish().
 */
size_t mux_stream_write(struct mux_stream *stream, const void *data, size_t len);
/*
 * So many bytes mux_stream_write() would take now for sure, at most FRAME_MAX_PAYLOAD; when none,
 * writable() will come.
 */
size_t mux_stream_room(struct mux_stream *stream);
/*
 * All or nothing, for messages of at most MUX_MESSAGE_MAX: true, or false with nothing queued
 * (and writable() will come when it all fits). The first MUX_EARLY bytes of a stream do not wait
 * behind streams that have more to say than the transport takes: a call is answered under load too.
 */
bool mux_stream_write_all(struct mux_stream *stream, const void *data, size_t len);
/* Ends our direction after what was written. closed() follows when the peer has ended too. */
void mux_stream_finish(struct mux_stream *stream);
/*
 * Gives bytes that data() has got to the ops that are set now: for a user who reads the beginning
 * of a stream and hands the rest to another. Inside data() only; the stream may be gone since.
 */
void mux_stream_pass(struct mux_stream *stream, const void *data, size_t len);
/* @len of the bytes that data() gave are out of the user's hands: the peer may send as many more.
 */
void mux_stream_consumed(struct mux_stream *stream, size_t len);
/* Ends both directions now. No further callback for this stream, not even closed(); handle invalid.
 */
void mux_stream_reset(struct mux_stream *stream, uint32_t code);

/* For tests and reports. */
size_t mux_stream_count(const struct mux *mux);
size_t mux_memory(const struct mux *mux); /* bytes queued in and out */
