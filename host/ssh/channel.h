/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One channel of a link, shown as a stream of mux.h. For session.c alone.
 */
#pragma once

#include <libssh2.h>
#include "mux/mux.h"
#include "ssh/link.h"

#define SSH_CHANNEL_WINDOW (512u << 10) /* bytes that the other end may send before we read */
#define SSH_CHANNEL_PACKET 32768u

struct ssh_channel;

enum ssh_channel_state {
    SSH_CHANNEL_OPEN,
    SSH_CHANNEL_CLOSING, /* the stream is gone; the other end has not closed yet */
    SSH_CHANNEL_OVER,    /* to be freed */
};

/* Takes @channel, which is connected. The link must outlive it. */
struct ssh_channel *ssh_channel_new(struct ssh_link *link, LIBSSH2_CHANNEL *take_channel) _nonnull_;
/*
 * The link is gone, or about to go: a stream that is left gets closed(MUX_RESET_CONNECTION). What
 * libssh2 has of it is freed with the link.
 */
void ssh_channel_free(struct ssh_channel *channel);
/* Once, before the first ssh_channel_pump(). Its ops are to be set at once. */
struct mux_stream *ssh_channel_stream(struct ssh_channel *channel);
/* Closes a channel that nobody wants; instead of ssh_channel_stream(). */
void ssh_channel_close(struct ssh_channel *channel);
/*
 * Moves what can be moved now, a fair share. In drive() of the link. *@ret_more: the share ended
 * it, not the lack of bytes or room.
 */
enum ssh_channel_state ssh_channel_pump(struct ssh_channel *channel, bool *ret_more);
