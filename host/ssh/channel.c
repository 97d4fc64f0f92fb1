/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream is that of a direct mux; its bytes are the channel's. What the stream's user does not
 * take is left in libssh2, whose window of the channel then closes, and so the other end stops.
 *
 * ssh knows no reset: a stream that is reset is a channel that is closed. In the other direction a
 * channel that the other end has closed, although we have more to say, is a reset.
 */
#include "ssh/channel.h"

#include "base/alloc.h"
#include "mux/direct.h"

#define CHUNK (64u << 10)
#define SHARE 4 /* chunks each way before the next channel's turn */

struct ssh_channel {
    struct ssh_link *link;
    LIBSSH2_CHANNEL *channel;
    struct mux *mux; /* NULL: closing */
    bool end_read, end_sent;
    uint64_t dry_at; /* ssh_link_received() when there was nothing to read */
    bool pumping;    /* what changes is looked at anyway */
};

static void on_mux_output(struct mux *mux, void *arg)
{
    struct ssh_channel *c = arg;

    if (!c->pumping) {
        ssh_link_kick(c->link);
    }
}

static const struct mux_ops mux_ops = {.output = on_mux_output};

struct ssh_channel *ssh_channel_new(struct ssh_link *link, LIBSSH2_CHANNEL *take_channel)
{
    struct ssh_channel *c = xnew(struct ssh_channel);

    c->link = link;
    c->channel = take_channel;
    c->mux = direct_new(DIRECT_FORM_BARE, &mux_ops, c);
    return c;
}

struct mux_stream *ssh_channel_stream(struct ssh_channel *c)
{
    static const struct mux_stream_ops none;

    return direct_open(c->mux, &none, NULL);
}

void ssh_channel_close(struct ssh_channel *c)
{
    mux_free(steal(c->mux));
}

void ssh_channel_free(struct ssh_channel *c)
{
    if (c->mux) {
        direct_break(c->mux);
        mux_free(c->mux);
    }
    free(c);
}

/* Bytes of the channel to the stream. */
static void pump_in(struct ssh_channel *c, bool *ret_more)
{
    char chunk[CHUNK];
    size_t room;
    ssize_t n = 0;

    if (c->dry_at == ssh_link_received(c->link)) {
        return; /* libssh2 would search the packets of all channels to find that out */
    }
    for (int i = 0; i < SHARE && !c->end_read; i++) {
        room = direct_room(c->mux);
        if (room == 0) {
            return;
        }
        n = libssh2_channel_read(c->channel, chunk, MIN(room, sizeof(chunk)));
        if (n > 0) {
            direct_input(c->mux, chunk, (size_t)n);
            continue;
        }
        if (n < 0 && n != LIBSSH2_ERROR_EAGAIN) {
            ssh_link_broken(c->link, "reading");
        } else if (libssh2_channel_eof(c->channel) == 1) {
            c->end_read = true;
            direct_end(c->mux);
        } else {
            c->dry_at = ssh_link_received(c->link);
        }
        return;
    }
    *ret_more = n > 0 || *ret_more;
}

/* Bytes of the stream to the channel. */
static void pump_out(struct ssh_channel *c, bool *ret_more)
{
    const void *data;
    size_t len;
    ssize_t n;

    for (int i = 0; i < SHARE; i++) {
        len = mux_output(c->mux, &data);
        if (len == 0 || ssh_link_room(c->link) == 0) {
            return;
        }
        n = libssh2_channel_write(c->channel, data, len);
        if (n == 0 || n == LIBSSH2_ERROR_EAGAIN) {
            return; /* no window, or the keys are being changed */
        }
        if (n < 0) {
            ssh_link_broken(c->link, "writing");
            return;
        }
        mux_output_done(c->mux, (size_t)n);
    }
    *ret_more = true;
}

/* The end of our direction, or what goes nowhere any more. */
static void pump_end(struct ssh_channel *c)
{
    const void *data;
    int r;

    if (direct_state(c->mux) == DIRECT_STATE_SHUT && !c->end_sent) {
        r = libssh2_channel_send_eof(c->channel);
        c->end_sent = r == 0;
        if (r < 0 && r != LIBSSH2_ERROR_EAGAIN) {
            ssh_link_broken(c->link, "ending a channel");
        }
    } else if (c->end_read && mux_output(c->mux, &data) > 0 &&
               libssh2_channel_wait_closed(c->channel) == 0) {
        direct_break(c->mux);
    }
}

static enum ssh_channel_state close_channel(struct ssh_channel *c)
{
    return libssh2_channel_free(c->channel) == LIBSSH2_ERROR_EAGAIN ? SSH_CHANNEL_CLOSING
                                                                    : SSH_CHANNEL_OVER;
}

enum ssh_channel_state ssh_channel_pump(struct ssh_channel *c, bool *ret_more)
{
    enum direct_state state;

    if (!c->mux) {
        return close_channel(c);
    }
    if (direct_state(c->mux) != DIRECT_STATE_BROKEN) {
        c->pumping = true;
        pump_in(c, ret_more);
        pump_out(c, ret_more);
        pump_end(c);
        c->pumping = false;
    }
    state = direct_state(c->mux);
    if (state == DIRECT_STATE_OPEN || state == DIRECT_STATE_SHUT) {
        return SSH_CHANNEL_OPEN;
    }
    ssh_channel_close(c);
    return close_channel(c);
}
