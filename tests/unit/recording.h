/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recorded session of host and guest, and a player that takes the part of either against the
 * present code: it sends the recorded units of its side, and waits for the other side where the
 * recording shows that something had to come first.
 *
 * A recording is a text file: '#' begins a comment, else a line is "host HEX" or "guest HEX", one
 * unit each (a sync or a whole frame, as mux/frame.h has them), in the order in which they
 * passed. Only what depends on the nonces is made anew for the live session: the tags of frames,
 * and the nonce that a sync answers.
 */
#pragma once

#include "base/buf.h"
#include "mux/frame.h"

#define RECORDING_STREAMS 64

struct recording_unit {
    enum frame_role from;
    bool is_sync;
    struct frame_sync sync;
    struct frame_header header;
    const uint8_t *payload;
    uint8_t *bytes;
};

struct recording {
    struct recording_unit *units;
    size_t count, cap;
};

/* Fails the test when it cannot be read or holds anything that is no unit of one session. */
void recording_load(const char *path, struct recording *ret);
void recording_done(struct recording *recording);

/* What the live side has sent. */
struct recording_stream {
    struct buf data;
    bool opened, fin, reset;
    uint32_t code;
};

struct recording_player {
    const struct recording *recording;
    enum frame_role role; /* that is played */
    int fd;               /* to the live side, non-blocking; the caller's */
    size_t next;
    uint8_t live_nonce[FRAME_NONCE_LEN];
    bool live_known;
    struct frame_session send, receive;
    struct buf in, out;
    struct recording_stream live[RECORDING_STREAMS];
};

void recording_player_init(struct recording_player *player, const struct recording *recording,
                           enum frame_role role, int fd);
void recording_player_done(struct recording_player *player);
/* Moves what can be moved without waiting. True when the recording is over and all is sent. */
bool recording_player_step(struct recording_player *player);

/* For making one: cuts what a side has sent into units. True while *ret_len bytes are one. */
bool recording_cut(const struct buf *bytes, size_t *ret_padding, size_t *ret_len);
