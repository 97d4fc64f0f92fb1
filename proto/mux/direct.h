/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that carries one stream and nothing else: bytes as they are, no frames. Where a
 * transport has connections of its own (a Unix socket, vsock) each stream gets one. The stream has
 * the interface of mux.h, so whoever uses streams need not know.
 *
 * The end of a direction is the connection's own half-close, a reset is the end without one. Flow
 * control is the connection's too: direct_room() says how much may be read, so that the user of
 * the stream never holds more than a window, which grows up to MUX_WINDOW_MAX bytes. When both
 * directions have ended the stream gets closed(0) once all output is out: so who counts streams
 * counts what a peer that takes nothing makes us hold.
 *
 * Output goes by mux_output() and mux_output_done(), as with frames; mux_ops.output() comes also
 * when direct_room() or direct_state() may have changed. mux_input(), mux_start(), mux_stop() and
 * mux_open() are not for a direct mux; mux_free() is.
 */
#pragma once

#include "mux/mux.h"

#define DIRECT_SEGMENT_HEAD 4            /* bytes of a segment's length */
#define DIRECT_SEGMENT_MAX  (256u << 10) /* bytes of one, as the protocol has it */

enum direct_form {
    DIRECT_FORM_BARE,
    DIRECT_FORM_SEGMENTED,
};

enum direct_state {
    DIRECT_STATE_OPEN,
    DIRECT_STATE_SHUT,   /* all output is out and our direction ends: shut writing down, tell */
    DIRECT_STATE_OVER,   /* the stream is gone and all output is out: close the connection */
    DIRECT_STATE_BROKEN, /* close it at once, so that the other end sees a reset if it can be */
};

/*
 * @ops is borrowed and constant; only opened(), output() and take() are called, opened() by
 * direct_accept() alone.
 */
struct mux *direct_new(enum direct_form form, const struct mux_ops *ops, void *arg);
/* We have made the connection; once. Never NULL. */
struct mux_stream *direct_open(struct mux *mux, const struct mux_stream_ops *ops, void *arg);
/* The other end has made it; once. Calls opened(). */
void direct_accept(struct mux *mux);

/*
 * Bytes that may be read from the connection now and given to direct_input(). Of a segmented one
 * not 0 also where nothing but its end can come, so that this is noticed.
 */
size_t direct_room(const struct mux *mux);
enum direct_state direct_state(const struct mux *mux);
void direct_input(struct mux *mux, const void *data, size_t len);
/* End of file was read. */
void direct_end(struct mux *mux);
/* Writing was shut down, as DIRECT_STATE_SHUT asks for. The stream may get closed(). */
void direct_shut(struct mux *mux);
/* The connection failed: the stream gets closed(MUX_RESET_CONNECTION). */
void direct_break(struct mux *mux);

/*
 * Whether the bytes of the stream could go by another hand (mux/pump.h) from now on: it has a
 * segmented connection of its own whose owner would give it away, nothing waits in memory, neither
 * direction has ended. False while one of its callbacks runs, as more may have come with the same
 * piece. direct_may_hand_over() says whether that can ever become true.
 */
bool direct_can_hand_over(const struct mux_stream *stream);
bool direct_may_hand_over(const struct mux_stream *stream);
/*
 * Takes the connection, which is the caller's now, and ends the stream: no closed(), handle
 * invalid. After direct_can_hand_over(). @ret_left: bytes to come of the present segment.
 * *@ret_opener: our side has made it.
 */
int direct_hand_over(struct mux_stream *stream, uint32_t *ret_left, bool *ret_opener);
