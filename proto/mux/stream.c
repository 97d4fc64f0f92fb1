/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams. A stream lives in the table from its OPEN until both directions have ended or it was
 * reset. Then it leaves the table and is freed when no call is on the stack any more, because the
 * code that is running may hold it.
 *
 * An id that was used and is gone may still get frames that were under way: they are ignored. An id
 * that was never used breaks the session.
 */
#include "mux/mux.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "mux/internal.h"

#define TABLE_MIN      16
#define ROOM_MIN       4096 /* less room than this is none, so that frames don't get tiny */
#define GRANT_SHARE    4    /* this part of a window is granted at once */
#define GROWTH_WINDOWS 2    /* so many were taken before it doubles */

/* A sender whose bytes were all consumed has at least this much credit. */
static_assert(MUX_WINDOW - MUX_WINDOW / GRANT_SHARE >= MUX_MESSAGE_MAX, "messages would wait");

enum opener { /* index of mux->count */
              OPENER_US,
              OPENER_PEER,
};

static void list_init(struct mux_link *head)
{
    head->prev = head->next = head;
}

static bool list_empty(const struct mux_link *head)
{
    return head->next == head;
}

static bool list_holds(const struct mux_link *link)
{
    return link->next != NULL;
}

static void list_append(struct mux_link *head, struct mux_link *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static void list_remove(struct mux_link *link)
{
    if (list_holds(link)) {
        link->prev->next = link->next;
        link->next->prev = link->prev;
        *link = (struct mux_link){0};
    }
}

/* The host's ids are odd. */
static enum opener opener_of(const struct mux *mux, uint32_t id)
{
    return (id & 1) == (mux->role == MUX_ROLE_HOST) ? OPENER_US : OPENER_PEER;
}

static struct mux_stream **table_slot(const struct mux *mux, uint32_t id)
{
    return &mux->table[id * 2654435769u >> 7 & (mux->table_len - 1)];
}

struct mux_stream *mux_stream_find(const struct mux *mux, uint32_t id)
{
    for (struct mux_stream *s = *table_slot(mux, id); s; s = s->hash_next) {
        if (s->id == id) {
            return s;
        }
    }
    return NULL;
}

static void table_link(struct mux *mux, struct mux_stream *stream)
{
    struct mux_stream **slot = table_slot(mux, stream->id);

    stream->hash_next = *slot;
    *slot = stream;
}

static void table_grow(struct mux *mux)
{
    struct mux_stream **old = mux->table;
    size_t old_len = mux->table_len;

    mux->table_len = old_len * 2;
    mux->table = xnew_n(struct mux_stream *, mux->table_len);
    for (size_t i = 0; i < old_len; i++) {
        while (old[i]) {
            struct mux_stream *stream = old[i];

            old[i] = stream->hash_next;
            table_link(mux, stream);
        }
    }
    free(old);
}

static struct mux_stream *stream_new(struct mux *mux, uint32_t id, uint32_t send_credit)
{
    struct mux_stream *stream = xnew(struct mux_stream);

    stream->mux = mux;
    stream->id = id;
    stream->send_credit = send_credit;
    stream->recv_credit = MUX_WINDOW;
    stream->window = MUX_WINDOW;
    if (mux_stream_count(mux) >= mux->table_len) {
        table_grow(mux);
    }
    table_link(mux, stream);
    mux->count[opener_of(mux, id)]++;
    return stream;
}

/* Takes the stream out of everything: no more callbacks, to be freed when the stack is clear. */
static void stream_bury(struct mux_stream *stream)
{
    struct mux *mux = stream->mux;
    struct mux_stream **slot = table_slot(mux, stream->id);

    while (*slot != stream) {
        slot = &(*slot)->hash_next;
    }
    *slot = stream->hash_next;
    mux->count[opener_of(mux, stream->id)]--;
    mux->grown -= stream->window - MUX_WINDOW;
    mux->unconsumed -= stream->unconsumed;
    mux->trim = true;
    list_remove(&stream->wait);
    list_remove(&stream->end);
    list_append(&mux->dead, &stream->end);
    stream->dead = true;
    if (mux->depth == 0) {
        mux_streams_bury(mux);
    }
}

/* Its last callback. Runs with a call on the stack, so the callback may touch the handle still. */
static void stream_closed(struct mux_stream *stream, uint32_t code)
{
    const struct mux_stream_ops *ops = stream->ops;
    void *arg = stream->arg;

    stream_bury(stream);
    if (ops && ops->closed) {
        ops->closed(stream, code, arg);
    }
}

static void queue_u32(struct mux *mux, enum frame_type type, uint32_t stream, uint32_t value)
{
    uint8_t payload[4];

    frame_put_u32(payload, value);
    mux_queue_frame(mux, type, 0, stream, payload, sizeof(payload));
}

void mux_streams_init(struct mux *mux)
{
    mux->table_len = TABLE_MIN;
    mux->table = xnew_n(struct mux_stream *, mux->table_len);
    list_init(&mux->waiting);
    list_init(&mux->ended);
    list_init(&mux->dead);
}

void mux_streams_reset(struct mux *mux)
{
    mux->next_id = mux->role == MUX_ROLE_HOST ? 1 : 2;
    mux->peer_id = 0;
    mux->exhausted = false;
}

void mux_streams_close(struct mux *mux)
{
    mux->depth++;
    for (size_t i = 0; i < mux->table_len; i++) {
        while (mux->table[i]) {
            stream_closed(mux->table[i], MUX_RESET_SESSION);
        }
    }
    mux->depth--;
}

void mux_streams_bury(struct mux *mux)
{
    while (!list_empty(&mux->dead)) {
        struct mux_stream *stream = container_of(mux->dead.next, struct mux_stream, end);

        list_remove(&stream->end);
        free(stream);
    }
}

void mux_streams_done(struct mux *mux)
{
    mux_streams_bury(mux);
    free(mux->table);
}

size_t mux_stream_count(const struct mux *mux)
{
    return mux->count[OPENER_US] + mux->count[OPENER_PEER];
}

struct mux_stream *mux_open(struct mux *mux, const struct mux_stream_ops *ops, void *arg)
{
    struct mux_stream *stream;

    if (!mux_is_up(mux) || mux->count[OPENER_US] >= MUX_MAX_STREAMS ||
        mux->ring.len > MUX_OUTPUT_MAX) {
        return NULL;
    }
    if (mux->next_id >= UINT32_MAX - 1) {
        mux->exhausted = true;
        return NULL;
    }
    stream = stream_new(mux, mux->next_id, MUX_WINDOW);
    stream->ops = ops;
    stream->arg = arg;
    mux->next_id += 2;
    queue_u32(mux, FRAME_TYPE_OPEN, stream->id, MUX_WINDOW);
    return stream;
}

void mux_stream_set_ops(struct mux_stream *stream, const struct mux_stream_ops *ops, void *arg)
{
    stream->ops = ops;
    stream->arg = arg;
}

void *mux_stream_arg(const struct mux_stream *stream)
{
    return stream->arg;
}

struct mux *mux_stream_mux(const struct mux_stream *stream)
{
    return stream->mux;
}

static bool can_write(const struct mux_stream *stream)
{
    return !stream->dead && !stream->local_fin && mux_is_up(stream->mux);
}

/* Bytes of payload that fit under the output limit now, and that it is the stream's turn to write.
 */
static size_t output_room(const struct mux_stream *stream)
{
    const struct mux *mux = stream->mux;
    size_t used = mux->ring.len + FRAME_OVERHEAD;

    if (used + ROOM_MIN > MUX_OUTPUT_LIMIT) {
        return 0;
    }
    if (mux->turn == stream) {
        return MIN(mux->turn_left, MUX_OUTPUT_LIMIT - used);
    }
    return list_empty(&mux->waiting) ? MUX_OUTPUT_LIMIT - used : 0;
}

/* Bytes that a write would take now. */
static size_t room(const struct mux_stream *stream)
{
    return can_write(stream) ? MIN(output_room(stream), stream->send_credit) : 0;
}

/* The user has @credit bytes or more to write that did not go now. */
static void want_write(struct mux_stream *stream, uint32_t credit)
{
    stream->want = credit;
    if (stream->send_credit >= credit && !list_holds(&stream->wait)) {
        list_append(&stream->mux->waiting, &stream->wait);
    }
}

size_t mux_stream_room(struct mux_stream *stream)
{
    size_t n = room(stream);

    if (n == 0 && can_write(stream)) {
        want_write(stream, 1);
    }
    return MIN(n, (size_t)FRAME_MAX_PAYLOAD); /* more takes more frames, and their headers room */
}

static void write_frame(struct mux_stream *stream, const void *data, size_t len)
{
    struct mux *mux = stream->mux;

    stream->written = (uint32_t)MIN(stream->written + len, (size_t)MUX_EARLY + 1);
    if (!mux->direct) {
        stream->send_credit -= (uint32_t)len;
    }
    if (mux->turn == stream) {
        mux->turn_left -= len;
    }
    mux_queue_frame(mux, FRAME_TYPE_DATA, 0, stream->id, data, len);
}

size_t mux_stream_write(struct mux_stream *stream, const void *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        size_t n = MIN(len - done, room(stream));

        n = MIN(n, (size_t)FRAME_MAX_PAYLOAD);
        if (n == 0) {
            break;
        }
        write_frame(stream, (const char *)data + done, n);
        done += n;
    }
    if (done < len && can_write(stream)) {
        want_write(stream, 1);
    }
    return done;
}

static bool fits_early(const struct mux_stream *stream, size_t len)
{
    return can_write(stream) && stream->written + len <= MUX_EARLY && len <= stream->send_credit &&
           stream->mux->ring.len + FRAME_OVERHEAD + len <= MUX_OUTPUT_LIMIT + MUX_EARLY_OUTPUT;
}

bool mux_stream_write_all(struct mux_stream *stream, const void *data, size_t len)
{
    assert(len <= MUX_MESSAGE_MAX);
    if (len == 0) {
        return true;
    }
    if (room(stream) >= len || fits_early(stream, len)) {
        write_frame(stream, data, len);
        return true;
    }
    if (can_write(stream)) {
        want_write(stream, (uint32_t)len);
    }
    return false;
}

static void end_if_both(struct mux_stream *stream)
{
    if (stream->local_fin && stream->remote_fin && !list_holds(&stream->end)) {
        list_append(&stream->mux->ended, &stream->end);
    }
}

void mux_stream_finish(struct mux_stream *stream)
{
    if (!can_write(stream)) {
        return;
    }
    stream->local_fin = true;
    stream->want = 0;
    list_remove(&stream->wait);
    mux_queue_frame(stream->mux, FRAME_TYPE_DATA, FRAME_FLAG_FIN, stream->id, NULL, 0);
    end_if_both(stream);
}

void mux_stream_pass(struct mux_stream *stream, const void *data, size_t len)
{
    if (stream->dead || len == 0) {
        return;
    }
    if (stream->ops->data) {
        stream->ops->data(stream, data, len, stream->arg);
    } else {
        mux_stream_consumed(stream, len);
    }
}

/*
 * The window of a stream whose user keeps up grows, but not at once: what a socket's buffer takes
 * says nothing of its reader.
 */
static uint32_t growth(const struct mux_stream *stream)
{
    const struct mux *mux = stream->mux;
    uint32_t more = MIN(stream->window, MUX_WINDOW_MAX - stream->window);

    if (stream->taken < GROWTH_WINDOWS * stream->window ||
        stream->unconsumed > stream->window / 2 || mux->unconsumed > MUX_UNTAKEN_MAX ||
        mux->grown + more > MUX_GROWN_MAX) {
        return 0;
    }
    return more;
}

static void grant(struct mux_stream *stream)
{
    uint32_t more;

    stream->taken = MIN(stream->taken + stream->ungranted, GROWTH_WINDOWS * MUX_WINDOW_MAX);
    more = growth(stream);
    if (more) {
        stream->taken = 0;
    }
    stream->window += more;
    stream->mux->grown += more;
    more += stream->ungranted;
    queue_u32(stream->mux, FRAME_TYPE_CREDIT, stream->id, more);
    stream->recv_credit += more;
    stream->ungranted = 0;
}

void mux_stream_consumed(struct mux_stream *stream, size_t len)
{
    if (stream->dead) {
        return;
    }
    assert(len <= stream->unconsumed);
    stream->unconsumed -= (uint32_t)len;
    stream->mux->unconsumed -= len;
    stream->ungranted += (uint32_t)len;
    if (stream->ungranted >= stream->window / GRANT_SHARE && !stream->remote_fin &&
        mux_is_up(stream->mux)) {
        grant(stream);
    }
}

void mux_stream_reset(struct mux_stream *stream, uint32_t code)
{
    struct mux *mux = stream->mux;

    if (stream->dead) {
        return;
    }
    if (mux_is_up(mux) && !(stream->local_fin && stream->remote_fin)) {
        queue_u32(mux, FRAME_TYPE_RESET, stream->id, code);
    }
    stream_bury(stream);
}

/* The peer broke the stream's rules. */
static int violated(struct mux_stream *stream)
{
    queue_u32(stream->mux, FRAME_TYPE_RESET, stream->id, MUX_RESET_PROTOCOL);
    stream_closed(stream, MUX_RESET_PROTOCOL);
    return 0;
}

static int on_open(struct mux *mux, uint32_t id, uint32_t credit)
{
    struct mux_stream *stream;

    if (opener_of(mux, id) != OPENER_PEER || id <= mux->peer_id) {
        return -EPROTO;
    }
    mux->peer_id = id;
    if (mux->count[OPENER_PEER] >= MUX_MAX_STREAMS) {
        queue_u32(mux, FRAME_TYPE_RESET, id, MUX_RESET_REFUSED);
        return 0;
    }
    stream = stream_new(mux, id, credit);
    if (mux->ops->opened) {
        mux->ops->opened(mux, stream, mux->arg);
    }
    if (!stream->dead && !stream->ops) {
        mux_stream_reset(stream, MUX_RESET_UNKNOWN_SERVICE);
    }
    return 0;
}

static int on_data(struct mux_stream *stream, const struct frame_header *header,
                   const uint8_t *payload)
{
    uint32_t len = header->length;

    if (stream->remote_fin || len > stream->recv_credit) {
        return violated(stream);
    }
    stream->recv_credit -= len;
    stream->unconsumed += len;
    stream->mux->unconsumed += len;
    mux_stream_pass(stream, payload, len);
    if (!stream->dead && (header->flags & FRAME_FLAG_FIN)) {
        stream->remote_fin = true;
        if (stream->ops->fin) {
            stream->ops->fin(stream, stream->arg);
        }
        if (!stream->dead) {
            end_if_both(stream);
        }
    }
    return 0;
}

static int on_credit(struct mux_stream *stream, uint32_t more)
{
    if (more > UINT32_MAX - stream->send_credit) {
        return violated(stream);
    }
    stream->send_credit += more;
    if (stream->want) {
        want_write(stream, stream->want);
    }
    return 0;
}

static int on_reset(struct mux_stream *stream, uint32_t code)
{
    bool known =
        code >= MUX_RESET_CANCEL && code <= MUX_RESET_CONNECTION && code != MUX_RESET_SESSION;

    stream_closed(stream, known ? code : MUX_RESET_CANCEL);
    return 0;
}

int mux_streams_frame(struct mux *mux, const struct frame_header *header, const uint8_t *payload)
{
    struct mux_stream *stream;
    bool used;

    if (header->type == FRAME_TYPE_OPEN) {
        return on_open(mux, header->stream, frame_get_u32(payload));
    }
    stream = mux_stream_find(mux, header->stream);
    if (!stream) {
        used = opener_of(mux, header->stream) == OPENER_US ? header->stream < mux->next_id
                                                           : header->stream <= mux->peer_id;
        return used ? 0 : -EPROTO;
    }
    if (header->type == FRAME_TYPE_DATA) {
        return on_data(stream, header, payload);
    }
    if (header->type == FRAME_TYPE_CREDIT) {
        return on_credit(stream, frame_get_u32(payload));
    }
    return on_reset(stream, frame_get_u32(payload));
}

/* Turns go on while a whole frame fits, so each waiting stream gets the same share. */
static void run_waiting(struct mux *mux)
{
    while (!list_empty(&mux->waiting) && mux_is_up(mux) &&
           mux->ring.len + FRAME_MAX_TOTAL <= MUX_OUTPUT_LIMIT) {
        struct mux_stream *stream = container_of(mux->waiting.next, struct mux_stream, wait);

        list_remove(&stream->wait);
        stream->want = 0;
        mux->turn = stream;
        mux->turn_left = FRAME_MAX_PAYLOAD;
        if (stream->ops && stream->ops->writable) {
            stream->ops->writable(stream, stream->arg);
        }
        mux->turn = NULL;
    }
}

/* Output of a direct mux is the stream's: while any waits, its user has it to account for. */
static bool may_end(const struct mux *mux)
{
    return !list_empty(&mux->ended) && !(mux->direct && mux->ring.len);
}

void mux_streams_settle(struct mux *mux)
{
    run_waiting(mux);
    while (may_end(mux)) {
        stream_closed(container_of(mux->ended.next, struct mux_stream, end), 0);
    }
}
