/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mux without frames: mux_queue_frame() comes here, and what would be a frame on the wire is
 * bytes, a flag, or nothing. The one stream has the id 1 and unlimited credit both ways.
 */
#include "mux/direct.h"

#include <assert.h>
#include <string.h>
#include "mux/internal.h"

#define STREAM_ID 1

struct mux *direct_new(enum direct_form form, const struct mux_ops *ops, void *arg)
{
    struct mux *mux = mux_new(MUX_ROLE_HOST, ops, arg);

    mux->direct = true;
    mux->segmented = form == DIRECT_FORM_SEGMENTED;
    mux->state = MUX_STATE_UP;
    mux_streams_reset(mux);
    return mux;
}

static void put_segment(struct mux *mux, const void *payload, size_t len)
{
    uint8_t head[DIRECT_SEGMENT_HEAD];

    frame_put_u32(head, (uint32_t)len);
    ring_reserve(&mux->ring, sizeof(head) + len);
    ring_put(&mux->ring, head, sizeof(head));
    ring_put(&mux->ring, payload, len);
}

static void put_data(struct mux *mux, const void *payload, size_t len, bool fin)
{
    if (mux->segmented) {
        if (len) {
            put_segment(mux, payload, len);
        }
        if (fin) {
            put_segment(mux, NULL, 0);
        }
        return;
    }
    ring_reserve(&mux->ring, len);
    ring_put(&mux->ring, payload, len);
    mux->direct_fin = mux->direct_fin || fin;
}

void direct_queue(struct mux *mux, enum frame_type type, uint8_t flags, const void *payload,
                  size_t len)
{
    if (type == FRAME_TYPE_DATA) {
        put_data(mux, payload, len, flags & FRAME_FLAG_FIN);
    } else if (type == FRAME_TYPE_RESET) {
        ring_truncate(&mux->ring, 0);
        mux->direct_broken = true;
    }
}

struct mux_stream *direct_open(struct mux *mux, const struct mux_stream_ops *ops, void *arg)
{
    struct mux_stream *stream = mux_open(mux, ops, arg);

    assert(stream && stream->id == STREAM_ID);
    stream->send_credit = UINT32_MAX;
    return stream;
}

/* As if it had come in a frame. */
static void feed(struct mux *mux, enum frame_type type, uint8_t flags, const void *payload,
                 size_t len)
{
    struct frame_header header = {
        .type = type, .flags = flags, .stream = STREAM_ID, .length = (uint32_t)len};
    struct mux_stream *stream = mux_stream_find(mux, STREAM_ID);

    assert(mux->depth == 0);
    mux_enter(mux);
    if (stream) {
        stream->recv_credit = UINT32_MAX;
    }
    if (stream || type == FRAME_TYPE_OPEN) {
        mux_streams_frame(mux, &header, payload);
    }
    mux_streams_settle(mux);
    mux_arm(mux);
    mux_leave(mux);
}

void direct_accept(struct mux *mux)
{
    uint8_t credit[4];

    mux->role = MUX_ROLE_GUEST; /* to whom odd ids are the peer's */
    frame_put_u32(credit, UINT32_MAX);
    feed(mux, FRAME_TYPE_OPEN, 0, credit, sizeof(credit));
}

size_t direct_room(const struct mux *mux)
{
    const struct mux_stream *stream = mux_stream_find(mux, STREAM_ID);

    if (mux->segmented && (!stream || stream->remote_fin)) {
        return mux->direct_broken || mux->direct_ended ? 0 : DIRECT_SEGMENT_HEAD;
    }
    if (!stream || stream->remote_fin || stream->unconsumed >= stream->window) {
        return 0;
    }
    return stream->window - stream->unconsumed;
}

enum direct_state direct_state(const struct mux *mux)
{
    if (mux->direct_broken) {
        return DIRECT_STATE_BROKEN;
    }
    if (mux->ring.len > 0) {
        return DIRECT_STATE_OPEN;
    }
    if (!mux_stream_find(mux, STREAM_ID)) {
        bool awaits = mux->segmented && mux->role == MUX_ROLE_GUEST && !mux->direct_ended;

        return awaits ? DIRECT_STATE_OPEN : DIRECT_STATE_OVER;
    }
    return mux->direct_fin ? DIRECT_STATE_SHUT : DIRECT_STATE_OPEN;
}

void direct_break(struct mux *mux)
{
    uint8_t code[4];

    frame_put_u32(code, MUX_RESET_CONNECTION);
    mux->direct_broken = true;
    feed(mux, FRAME_TYPE_RESET, 0, code, sizeof(code));
}

/* The length of the next segment is complete. */
static void begin_segment(struct mux *mux)
{
    mux->head_len = 0;
    mux->segment_left = frame_get_u32(mux->head);
    if (mux->segment_left > DIRECT_SEGMENT_MAX) {
        direct_break(mux);
    } else if (!mux->segment_left) {
        feed(mux, FRAME_TYPE_DATA, FRAME_FLAG_FIN, NULL, 0);
    }
}

static void input_segments(struct mux *mux, const uint8_t *data, size_t len)
{
    while (len && !mux->direct_broken) {
        const struct mux_stream *stream = mux_stream_find(mux, STREAM_ID);
        size_t n;

        if (!stream || stream->remote_fin) {
            direct_break(mux); /* it had said that it ended, or nobody is there to hear it */
            return;
        }
        if (mux->segment_left) {
            n = MIN(len, mux->segment_left);
            mux->segment_left -= (uint32_t)n;
            feed(mux, FRAME_TYPE_DATA, 0, data, n);
        } else {
            n = MIN(len, sizeof(mux->head) - mux->head_len);
            memcpy(mux->head + mux->head_len, data, n);
            mux->head_len += n;
            if (mux->head_len == sizeof(mux->head)) {
                begin_segment(mux);
            }
        }
        data += n;
        len -= n;
    }
}

void direct_input(struct mux *mux, const void *data, size_t len)
{
    if (mux->segmented) {
        input_segments(mux, data, len);
    } else {
        feed(mux, FRAME_TYPE_DATA, 0, data, len);
    }
}

void direct_end(struct mux *mux)
{
    if (!mux->segmented) {
        feed(mux, FRAME_TYPE_DATA, FRAME_FLAG_FIN, NULL, 0);
    } else if (mux_stream_find(mux, STREAM_ID) || mux->ring.len) {
        direct_break(mux);
    } else {
        mux->direct_ended = true;
    }
}

void direct_shut(struct mux *mux)
{
    assert(mux->depth == 0);
    mux_enter(mux);
    mux->direct_fin = false;
    mux_streams_settle(mux);
    mux_leave(mux);
}

bool direct_may_hand_over(const struct mux_stream *stream)
{
    const struct mux *mux = stream->mux;

    return mux->segmented && mux->ops->take && !stream->local_fin && !stream->remote_fin;
}

bool direct_can_hand_over(const struct mux_stream *stream)
{
    const struct mux *mux = stream->mux;

    return direct_may_hand_over(stream) && !stream->dead && !mux->direct_broken && !mux->depth &&
           !mux->ring.len && !mux->head_len && !stream->unconsumed;
}

int direct_hand_over(struct mux_stream *stream, uint32_t *ret_left, bool *ret_opener)
{
    struct mux *mux = stream->mux;

    assert(direct_can_hand_over(stream));
    *ret_left = mux->segment_left;
    *ret_opener = mux->role == MUX_ROLE_HOST;
    mux_stream_reset(stream, MUX_RESET_CANCEL); /* on no connection any more */
    return mux->ops->take(mux, mux->arg);
}
