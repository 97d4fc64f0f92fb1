/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session. States and legal moves:
 *
 *   STOPPED  mux_start()                      -> SYNCING
 *   SYNCING  a sync that carries our nonce    -> UP, after our answer if it was not sent yet
 *            any other sync                   is answered with ours and the sender's nonce
 *            all else                         is skipped
 *   UP       the sync that brought us here    is ignored
 *            another sync, or garbage         -> SYNCING with a new nonce
 *   any      mux_start()                      -> SYNCING with a new nonce
 *            mux_stop()                       -> STOPPED
 *
 * Every answer carries the nonce it answers, so when both ends reply to each other's stale syncs
 * the second reply fits at the latest: no timers are needed, and no exchange goes on for ever.
 *
 * Only the latest answer is kept until it can be sent, and the padding is sent from a constant
 * page, so a peer that floods a side in SYNCING costs nothing.
 */
#include "mux/mux.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include "base/alloc.h"
#include "mux/internal.h"

#ifndef GRND_INSECURE
#define GRND_INSECURE 4
#endif

#define NEED_MORE    SIZE_MAX /* of a parser: mux->in_need says how much */
#define IDLE_STREAMS 2        /* with no more than these, memory is given back */

static const uint8_t zeros[4096];

/* A nonce must be new, not secret, so the boot need not wait for entropy. */
static void random_system(void *out, size_t len, void *arg)
{
    if (getrandom(out, len, GRND_INSECURE) != (ssize_t)len &&
        getrandom(out, len, 0) != (ssize_t)len) {
        abort(); /* no kernel that we run on refuses so few bytes */
    }
}

static void draw_nonce(struct mux *mux)
{
    do {
        mux->random(mux->nonce, sizeof(mux->nonce), mux->random_arg);
    } while (memcmp(mux->nonce, zeros, sizeof(mux->nonce)) == 0);
}

struct mux *mux_new(enum mux_role role, const struct mux_ops *ops, void *arg)
{
    struct mux *mux = xnew(struct mux);

    mux->role = role;
    mux->ops = ops;
    mux->arg = arg;
    mux->random = random_system;
    mux_streams_init(mux);
    return mux;
}

void mux_set_random(struct mux *mux, void (*fn)(void *out, size_t len, void *arg), void *arg)
{
    mux->random = fn;
    mux->random_arg = arg;
}

void mux_free(struct mux *mux)
{
    if (!mux) {
        return;
    }
    assert(mux->depth == 0);
    mux->state = MUX_STATE_STOPPED;
    mux_streams_close(mux);
    mux_streams_done(mux);
    ring_done(&mux->ring);
    free(mux->in);
    free(mux);
}

bool mux_is_up(const struct mux *mux)
{
    return mux->state == MUX_STATE_UP;
}

size_t mux_memory(const struct mux *mux)
{
    return mux->ring.len + mux->in_len;
}

static void give_back_memory(struct mux *mux)
{
    if (!mux->trim || mux_stream_count(mux) > IDLE_STREAMS || mux->ring.len || mux->in_len) {
        return;
    }
    mux->trim = false;
    ring_done(&mux->ring);
    free(mux->in);
    mux->in = NULL;
    mux->in_cap = 0;
}

void mux_enter(struct mux *mux)
{
    mux->depth++;
}

void mux_leave(struct mux *mux)
{
    if (--mux->depth == 0) {
        mux_streams_bury(mux);
        give_back_memory(mux);
    }
}

/* A direct mux tells of more than output: what waits already says nothing of what may be read. */
void mux_arm(struct mux *mux)
{
    if (!mux->armed || mux->direct) {
        mux->armed = true;
        mux->ops->output(mux, mux->arg);
    }
}

void mux_queue_frame(struct mux *mux, enum frame_type type, uint8_t flags, uint32_t stream,
                     const void *payload, size_t len)
{
    struct frame_header header = {type, flags, stream, (uint32_t)len};
    uint8_t head[FRAME_HEADER_LEN], tail[FRAME_TRAILER_LEN];

    if (mux->direct) {
        direct_queue(mux, type, flags, payload, len);
        mux_arm(mux);
        return;
    }
    frame_header_encode(&mux->send, &header, head);
    frame_trailer_encode(&mux->send, tail);
    ring_reserve(&mux->ring, FRAME_OVERHEAD + len);
    ring_put(&mux->ring, head, sizeof(head));
    ring_put(&mux->ring, payload, len);
    ring_put(&mux->ring, tail, sizeof(tail));
    mux_arm(mux);
}

void mux_ping(struct mux *mux, const uint8_t data[8])
{
    if (mux_is_up(mux)) {
        mux_queue_frame(mux, FRAME_TYPE_PING, 0, 0, data, 8);
    }
}

/* Ends what was; the caller has set the new state. */
static void end_session(struct mux *mux, bool was_up)
{
    mux_streams_close(mux);
    mux->trim = true;
    if (was_up && mux->ops->down) {
        mux->ops->down(mux, mux->arg);
    }
}

static void ask_for_session(struct mux *mux)
{
    mux->state = MUX_STATE_SYNCING;
    draw_nonce(mux);
    memset(mux->sync_target, 0, sizeof(mux->sync_target));
    mux->sync_due = true;
    mux->sync_sent = false;
}

static void clear_transport(struct mux *mux)
{
    mux->epoch++;
    ring_truncate(&mux->ring, 0);
    mux->frame_left = 0;
    mux->pad_left = 0;
    mux->sync_offset = 0;
    mux->sync_due = false;
    mux->in_len = 0;
}

void mux_start(struct mux *mux, bool pad)
{
    bool was_up = mux_is_up(mux);
    unsigned epoch;

    mux_enter(mux);
    clear_transport(mux);
    epoch = mux->epoch;
    mux->pad_left = pad ? FRAME_MAX_TOTAL : 0;
    ask_for_session(mux);
    end_session(mux, was_up);
    if (mux->epoch == epoch) {
        mux_arm(mux);
    }
    mux_leave(mux);
}

void mux_stop(struct mux *mux)
{
    bool was_up = mux_is_up(mux);

    mux_enter(mux);
    clear_transport(mux);
    mux->armed = false;
    mux->state = MUX_STATE_STOPPED;
    end_session(mux, was_up);
    mux_leave(mux);
}

/* What came makes no sense in this session. */
static void drop_session(struct mux *mux)
{
    unsigned epoch = mux->epoch;

    ring_truncate(&mux->ring, mux->frame_left);
    mux->drops = 1;
    ask_for_session(mux);
    end_session(mux, true);
    if (mux->epoch == epoch) {
        mux_arm(mux);
    }
}

static void establish(struct mux *mux, const uint8_t *peer_nonce)
{
    bool host = mux->role == MUX_ROLE_HOST;
    const uint8_t *host_nonce = host ? mux->nonce : peer_nonce;
    const uint8_t *guest_nonce = host ? peer_nonce : mux->nonce;
    enum frame_role own = host ? FRAME_ROLE_HOST : FRAME_ROLE_GUEST;
    enum frame_role peer = host ? FRAME_ROLE_GUEST : FRAME_ROLE_HOST;

    memcpy(mux->peer_nonce, peer_nonce, FRAME_NONCE_LEN);
    memcpy(mux->sync_target, peer_nonce, FRAME_NONCE_LEN);
    mux->sync_due =
        !mux->sync_sent || memcmp(mux->sync_sent_target, peer_nonce, FRAME_NONCE_LEN) != 0;
    frame_session_init(&mux->send, own, host_nonce, guest_nonce);
    frame_session_init(&mux->recv, peer, host_nonce, guest_nonce);
    mux_streams_reset(mux);
    mux->state = MUX_STATE_UP;
    if (mux->sync_due) {
        mux_arm(mux);
    }
    if (mux->ops->up) {
        mux->ops->up(mux, mux->arg);
    }
}

static bool is_from_peer(const struct mux *mux, const struct frame_sync *sync)
{
    enum frame_role peer = mux->role == MUX_ROLE_HOST ? FRAME_ROLE_GUEST : FRAME_ROLE_HOST;

    return sync->role == peer && sync->version == FRAME_VERSION;
}

/* A sync met while SYNCING. */
static void on_sync(struct mux *mux, const struct frame_sync *sync)
{
    if (!is_from_peer(mux, sync)) {
        return;
    }
    if (memcmp(sync->peer_nonce, mux->nonce, FRAME_NONCE_LEN) == 0) {
        establish(mux, sync->nonce);
    } else {
        memcpy(mux->sync_target, sync->nonce, FRAME_NONCE_LEN);
        mux->sync_due = true;
        mux_arm(mux);
    }
}

/*
 * The parsers return how much of the front they are done with (0 after a change of state: look
 * again), or NEED_MORE.
 */
static size_t parse_syncing(struct mux *mux, const uint8_t *data, size_t len)
{
    size_t skip = frame_sync_scan(data, len);
    struct frame_sync sync;

    if (skip > 0) {
        return skip;
    }
    if (len < FRAME_SYNC_LEN) {
        mux->in_need = FRAME_SYNC_LEN;
        return NEED_MORE;
    }
    if (frame_sync_decode(data, &sync) < 0) {
        return 1;
    }
    on_sync(mux, &sync);
    return FRAME_SYNC_LEN;
}

/* No frame stands here. A second copy of the sync that brought us up is no news, all else ends the
 * session. */
static size_t parse_not_a_frame(struct mux *mux, const uint8_t *data, size_t len)
{
    struct frame_sync sync;

    if (frame_sync_scan(data, FRAME_MAGIC_LEN) == 0) {
        if (len < FRAME_SYNC_LEN) {
            mux->in_need = FRAME_SYNC_LEN;
            return NEED_MORE;
        }
        if (frame_sync_decode(data, &sync) == 0 && is_from_peer(mux, &sync) &&
            memcmp(sync.nonce, mux->peer_nonce, FRAME_NONCE_LEN) == 0 &&
            memcmp(sync.peer_nonce, mux->nonce, FRAME_NONCE_LEN) == 0) {
            return FRAME_SYNC_LEN;
        }
    }
    drop_session(mux);
    return 0;
}

static int on_frame(struct mux *mux, const struct frame_header *header, const uint8_t *payload)
{
    if (header->type == FRAME_TYPE_PING) {
        mux_queue_frame(mux, FRAME_TYPE_PONG, 0, 0, payload, 8);
        return 0;
    }
    if (header->type == FRAME_TYPE_PONG) {
        if (mux->ops->pong) {
            mux->ops->pong(mux, payload, mux->arg);
        }
        return 0;
    }
    return mux_streams_frame(mux, header, payload);
}

static size_t parse_up(struct mux *mux, const uint8_t *data, size_t len)
{
    struct frame_header header;
    unsigned epoch = mux->epoch;
    size_t total;
    int r;

    if (len < FRAME_HEADER_LEN) {
        mux->in_need = FRAME_HEADER_LEN;
        return NEED_MORE;
    }
    if (frame_header_decode(&mux->recv, data, &header) < 0) {
        return parse_not_a_frame(mux, data, len);
    }
    total = FRAME_OVERHEAD + header.length;
    if (len < total) {
        mux->in_need = total;
        return NEED_MORE;
    }
    if (!frame_trailer_ok(&mux->recv, data + total - FRAME_TRAILER_LEN)) {
        drop_session(mux);
        return 0; /* the sync we need may be in what we took for payload */
    }
    r = on_frame(mux, &header, data + FRAME_HEADER_LEN);
    if (mux->epoch == epoch && (r < 0 || mux->ring.len > MUX_OUTPUT_MAX)) {
        drop_session(mux);
    }
    return total;
}

/* Takes whole units from the front of @data; returns how many bytes they had. */
static size_t parse(struct mux *mux, const uint8_t *data, size_t len)
{
    unsigned epoch = mux->epoch;
    size_t done = 0;

    while (mux->epoch == epoch && done < len) {
        size_t used = mux->state == MUX_STATE_UP ? parse_up(mux, data + done, len - done)
                                                 : parse_syncing(mux, data + done, len - done);

        if (used == NEED_MORE) {
            break;
        }
        done += used;
    }
    return done;
}

static void keep_input(struct mux *mux, const uint8_t *data, size_t len)
{
    if (mux->in_cap < mux->in_need) {
        mux->in = xrealloc(mux->in, mux->in_need, 1);
        mux->in_cap = mux->in_need;
    }
    memcpy(mux->in + mux->in_len, data, len);
    mux->in_len += len;
}

/* Continues the unit that lies in mux->in; returns how much of @data it took. */
static size_t feed_kept(struct mux *mux, const uint8_t *data, size_t len)
{
    size_t take = MIN(len, mux->in_need - mux->in_len), used;
    unsigned epoch = mux->epoch;

    keep_input(mux, data, take);
    if (mux->in_len == mux->in_need) {
        used = parse(mux, mux->in, mux->in_len);
        if (mux->epoch == epoch) {
            mux->in_len -= used;
            memmove(mux->in, mux->in + used, mux->in_len);
        }
    }
    return take;
}

static size_t feed(struct mux *mux, const uint8_t *data, size_t len)
{
    unsigned epoch = mux->epoch;
    size_t used;

    if (mux->in_len > 0) {
        return feed_kept(mux, data, len);
    }
    used = parse(mux, data, len);
    if (mux->epoch == epoch && used < len) {
        keep_input(mux, data + used, len - used);
    }
    return len;
}

int mux_input(struct mux *mux, const void *data, size_t len)
{
    const uint8_t *p = data;
    unsigned epoch = mux->epoch;

    assert(mux->depth == 0);
    if (mux->state == MUX_STATE_STOPPED) {
        return 0;
    }
    mux_enter(mux);
    mux->drops = 0;
    if (mux->exhausted && mux_is_up(mux)) {
        drop_session(mux);
    }
    while (len > 0 && mux->epoch == epoch) {
        size_t used = feed(mux, p, len);

        p += used;
        len -= used;
    }
    mux_streams_settle(mux);
    mux_leave(mux);
    return mux->drops;
}

static void encode_sync(struct mux *mux)
{
    struct frame_sync sync = {
        .version = FRAME_VERSION,
        .role = mux->role == MUX_ROLE_HOST ? FRAME_ROLE_HOST : FRAME_ROLE_GUEST,
    };

    memcpy(sync.nonce, mux->nonce, FRAME_NONCE_LEN);
    memcpy(sync.peer_nonce, mux->sync_target, FRAME_NONCE_LEN);
    frame_sync_encode(&sync, mux->sync);
}

static enum mux_source choose_source(const struct mux *mux)
{
    if (mux->sync_offset > 0) {
        return MUX_SOURCE_SYNC;
    }
    if (mux->frame_left > 0) {
        return MUX_SOURCE_RING;
    }
    if (mux->pad_left > 0) {
        return MUX_SOURCE_PAD;
    }
    if (mux->sync_due) {
        return MUX_SOURCE_SYNC;
    }
    return mux->ring.len > 0 ? MUX_SOURCE_RING : MUX_SOURCE_NONE;
}

size_t mux_output(struct mux *mux, const void **ret_data)
{
    const uint8_t *data = NULL;
    size_t len = 0;

    mux->source = choose_source(mux);
    switch (mux->source) {
    case MUX_SOURCE_SYNC:
        if (mux->sync_offset == 0) {
            encode_sync(mux);
        }
        data = mux->sync + mux->sync_offset;
        len = FRAME_SYNC_LEN - mux->sync_offset;
        break;
    case MUX_SOURCE_PAD:
        data = zeros;
        len = MIN(mux->pad_left, sizeof(zeros));
        break;
    case MUX_SOURCE_RING:
        len = ring_front(&mux->ring, &data);
        if (mux->sync_due && mux->frame_left > 0) {
            len = MIN(len, mux->frame_left);
        }
        break;
    case MUX_SOURCE_NONE:
        mux->armed = false;
        break;
    }
    *ret_data = data;
    return len;
}

static void sync_done(struct mux *mux, size_t n)
{
    if (mux->sync_offset == 0) {
        memcpy(mux->sync_sent_target, mux->sync_target, FRAME_NONCE_LEN);
        mux->sync_sent = true;
        mux->sync_due = false;
    }
    mux->sync_offset += n;
    assert(mux->sync_offset <= FRAME_SYNC_LEN);
    if (mux->sync_offset == FRAME_SYNC_LEN) {
        mux->sync_offset = 0;
    }
}

/* Keeps count of where in a frame the transport stands, for a session that is dropped there. */
static void ring_sent(struct mux *mux, size_t n)
{
    if (mux->direct) {
        ring_drop(&mux->ring, n);
        return;
    }
    while (n > 0) {
        size_t step;

        if (mux->frame_left == 0) {
            uint8_t length[4];

            ring_peek(&mux->ring, FRAME_HEADER_LEN - sizeof(length), length, sizeof(length));
            mux->frame_left = FRAME_OVERHEAD + frame_get_u32(length);
        }
        step = MIN(n, mux->frame_left);
        ring_drop(&mux->ring, step);
        mux->frame_left -= step;
        n -= step;
    }
}

void mux_output_done(struct mux *mux, size_t n)
{
    assert(mux->depth == 0);
    if (n == 0) {
        return;
    }
    mux_enter(mux);
    switch (mux->source) {
    case MUX_SOURCE_SYNC:
        sync_done(mux, n);
        break;
    case MUX_SOURCE_PAD:
        mux->pad_left -= n;
        break;
    case MUX_SOURCE_RING:
        ring_sent(mux, n);
        break;
    case MUX_SOURCE_NONE:
        assert(!"nothing was offered");
    }
    mux->armed = choose_source(mux) != MUX_SOURCE_NONE;
    mux_streams_settle(mux);
    mux_leave(mux);
}
