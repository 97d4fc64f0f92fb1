/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two muxes, two pipes between them, and an input that is a program for all of it: bytes move in
 * any pieces, streams are opened, written, held, finished and reset on both sides, a side restarts
 * with its bytes lost anywhere, bytes are made up, frames are forged with the right tags.
 *
 * What must hold, whatever happens: memory is bounded, callbacks keep their order, closed() comes
 * once. As long as nothing was made up or forged: a stream's bytes are those its sender wrote, from
 * the first on, without a gap. When all has been moved and consumed: what was written has arrived,
 * no writer waits. At the end both restart and must carry a stream.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "fuzz.h"
#include "mux/mux.h"

#define STREAMS 64 /* of one side at a time */

struct side;

struct half { /* one side's view of a stream */
    struct side *side;
    struct mux_stream *handle; /* NULL: free slot */
    uint32_t sent, got;
    uint32_t tag;      /* of the bytes that we send: the stream's number and ours */
    uint32_t peer_tag; /* as found in what came; 0: nothing yet */
    size_t held;
    bool hold, wanting, finished, fin;
};

struct world;

struct side {
    struct world *world;
    struct mux *mux;
    struct side *peer;
    struct buf pipe; /* on its way to the peer */
    struct half halves[STREAMS];
    uint8_t nonce[FRAME_NONCE_LEN];
    enum frame_role role;
    bool up, started;
    bool hold;
};

struct world {
    struct side sides[2];
    const uint8_t *in;
    size_t in_len;
    uint32_t serial;
    bool dirty; /* bytes were made up: contents prove nothing */
};

/* ---- bytes that say where they belong ---- */

static uint8_t pattern(uint32_t tag, uint32_t at)
{
    if (at < 4) {
        return (uint8_t)(tag >> (8 * at));
    }
    return (uint8_t)(tag * 131 + at * 7 + (at >> 8) * 3);
}

static void check_bytes(struct half *half, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++, half->got++) {
        if (half->got < 4) {
            half->peer_tag |= (uint32_t)data[i] << (8 * half->got);
        } else {
            CHECK(data[i] == pattern(half->peer_tag, half->got));
        }
    }
}

/* ---- callbacks ---- */

static void half_write(struct half *half, size_t len)
{
    static uint8_t bytes[100000];
    size_t n;

    len = MIN(len, sizeof(bytes));
    for (size_t i = 0; i < len; i++) {
        bytes[i] = pattern(half->tag, half->sent + (uint32_t)i);
    }
    n = mux_stream_write(half->handle, bytes, len);
    CHECK(n <= len);
    half->sent += (uint32_t)n;
    half->wanting = n < len && !half->finished && half->side->up;
}

static void on_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct half *half = arg;

    CHECK(half->handle == stream && !half->fin && len > 0 && len <= FRAME_MAX_PAYLOAD);
    if (!half->side->world->dirty) {
        check_bytes(half, data, len);
    }
    if (half->hold) {
        half->held += len;
        CHECK(half->held <= MUX_WINDOW_MAX);
    } else {
        mux_stream_consumed(stream, len);
    }
}

static void on_fin(struct mux_stream *stream, void *arg)
{
    struct half *half = arg;

    CHECK(half->handle == stream && !half->fin);
    half->fin = true;
}

static void on_writable(struct mux_stream *stream, void *arg)
{
    struct half *half = arg;

    CHECK(half->handle == stream && !half->finished);
    half->wanting = false;
    if (half->tag % 3 == 0) {
        half_write(half, half->tag * 977 % 60000);
    }
}

static void on_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct half *half = arg;

    CHECK(half->handle == stream);
    CHECK(code != 0 || (half->fin && half->finished));
    half->handle = NULL;
}

static const struct mux_stream_ops stream_ops = {
    .data = on_data, .fin = on_fin, .writable = on_writable, .closed = on_closed};

static struct half *half_free(struct side *side)
{
    for (size_t i = 0; i < STREAMS; i++) {
        if (!side->halves[i].handle) {
            side->halves[i] =
                (struct half){.side = side, .hold = side->hold, .tag = ++side->world->serial};
            return &side->halves[i];
        }
    }
    return NULL;
}

static void on_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    struct half *half = half_free(arg);

    if (half) {
        half->handle = stream;
        mux_stream_set_ops(stream, &stream_ops, half);
    }
}

static void on_up(struct mux *mux, void *arg)
{
    struct side *side = arg;

    CHECK(!side->up);
    side->up = true;
}

static void on_down(struct mux *mux, void *arg)
{
    struct side *side = arg;

    CHECK(side->up && mux_stream_count(mux) == 0);
    side->up = false;
}

static void on_output(struct mux *mux, void *arg)
{
}

static const struct mux_ops mux_ops = {
    .up = on_up, .down = on_down, .opened = on_opened, .output = on_output};

static void draw(void *out, size_t len, void *arg)
{
    struct side *side = arg;
    uint32_t n = ++side->world->serial;

    for (size_t i = 0; i < len; i++) {
        side->nonce[i] = (uint8_t)((n >> (8 * (i % 3))) * 37 + i * 11 + (size_t)side->role);
    }
    memcpy(out, side->nonce, len);
}

/* ---- the input ---- */

static uint32_t next(struct world *world, size_t bytes)
{
    uint32_t value = 0;

    for (size_t i = 0; i < bytes && world->in_len > 0; i++, world->in_len--) {
        value = value << 8 | *world->in++;
    }
    return value;
}

static size_t next_len(struct world *world)
{
    uint32_t n = next(world, 1);

    return n < 128 ? n : (n - 127) * (n - 127) * 4; /* to 66 KB */
}

static struct half *next_half(struct world *world, struct side *side)
{
    struct half *half = &side->halves[next(world, 1) % STREAMS];

    return half->handle ? half : NULL;
}

/* ---- moves ---- */

static void move_out(struct side *side, size_t len)
{
    const void *data;
    size_t n;

    while (len > 0 && (n = mux_output(side->mux, &data)) > 0) {
        n = MIN(n, len);
        buf_put(&side->pipe, data, n);
        mux_output_done(side->mux, n);
        len -= n;
    }
}

static void move_in(struct side *side, size_t len)
{
    struct side *from = side->peer;

    len = MIN(len, from->pipe.len);
    if (len > 0) {
        scoped(free) void *copy = xmemdup(from->pipe.data, len);

        buf_drop(&from->pipe, len);
        mux_input(side->mux, copy, len);
    }
}

static void do_out(struct world *world, struct side *side)
{
    move_out(side, next_len(world));
}

static void do_in(struct world *world, struct side *side)
{
    move_in(side, next_len(world));
}

static void do_open(struct world *world, struct side *side)
{
    struct half *half = half_free(side);

    if (half) {
        half->handle = mux_open(side->mux, &stream_ops, half);
        CHECK(!half->handle == !side->up);
    }
}

static void do_write(struct world *world, struct side *side)
{
    struct half *half = next_half(world, side);
    size_t len = next_len(world);

    if (half && !half->finished) {
        half_write(half, len);
    }
}

static void do_room(struct world *world, struct side *side)
{
    struct half *half = next_half(world, side);

    if (half && !half->finished && mux_stream_room(half->handle) == 0 && side->up) {
        half->wanting = true;
    }
}

static void do_message(struct world *world, struct side *side)
{
    struct half *half = next_half(world, side);
    uint8_t bytes[128];
    size_t len = next(world, 1) % sizeof(bytes);

    if (half && !half->finished) {
        for (size_t i = 0; i < len; i++) {
            bytes[i] = pattern(half->tag, half->sent + (uint32_t)i);
        }
        half->wanting = !mux_stream_write_all(half->handle, bytes, len) && side->up;
        half->sent += half->wanting || !side->up ? 0 : (uint32_t)len;
    }
}

static void do_finish(struct world *world, struct side *side)
{
    struct half *half = next_half(world, side);

    if (half && !half->finished) {
        half->finished = true;
        half->wanting = false;
        mux_stream_finish(half->handle);
    }
}

static void do_reset(struct world *world, struct side *side)
{
    struct half *half = next_half(world, side);

    if (half) {
        mux_stream_reset(half->handle, MUX_RESET_CANCEL);
        half->handle = NULL;
    }
}

static void do_hold(struct world *world, struct side *side)
{
    side->hold = !side->hold;
}

static void half_consume(struct half *half, size_t len)
{
    len = MIN(len, half->held);
    half->held -= len;
    mux_stream_consumed(half->handle, len);
}

static void do_consume(struct world *world, struct side *side)
{
    struct half *half = next_half(world, side);
    size_t len = next_len(world);

    if (half) {
        half_consume(half, len);
    }
}

static void side_start(struct side *side, bool pad)
{
    mux_start(side->mux, pad);
    side->started = true;
}

/* The side's process is another one now: of the bytes it had sent, the last may be lost. */
static void do_restart(struct world *world, struct side *side)
{
    size_t lost = next_len(world);

    buf_truncate(&side->pipe, side->pipe.len - MIN(side->pipe.len, lost));
    side_start(side, true);
}

/* The side takes the transport anew: of the bytes that came for it, the first may be lost. */
static void do_reopen(struct world *world, struct side *side)
{
    size_t lost = next_len(world);

    mux_stop(side->mux);
    buf_drop(&side->peer->pipe, MIN(side->peer->pipe.len, lost));
    side_start(side, true);
}

static void do_stop(struct world *world, struct side *side)
{
    mux_stop(side->mux);
    side->started = false;
}

static void do_ping(struct world *world, struct side *side)
{
    mux_ping(side->mux, (const uint8_t *)"pingpong");
}

/* Bytes of the input's choice. */
static void do_bytes(struct world *world, struct side *side)
{
    size_t len = next(world, 1);

    len = MIN(len, world->in_len);
    world->dirty = true;
    buf_put(&side->pipe, world->in, len);
    world->in += len;
    world->in_len -= len;
}

static void do_hole(struct world *world, struct side *side)
{
    size_t len = next_len(world);

    world->dirty = true;
    buf_drop(&side->pipe, MIN(side->pipe.len, len));
}

static void do_flip(struct world *world, struct side *side)
{
    size_t at = next_len(world);

    world->dirty = true;
    if (at < side->pipe.len) {
        side->pipe.data[at] = (char)(side->pipe.data[at] ^ (int)(next(world, 1) | 1));
    }
}

/* A frame with the right tags, right behind what is in the pipe. */
static void do_forge(struct world *world, struct side *side)
{
    static const uint8_t payload[FRAME_MAX_PAYLOAD] = {1, 2, 3};
    bool host = side->role == FRAME_ROLE_HOST;
    struct frame_header header = {.type = (enum frame_type)(next(world, 1) % 8)};
    struct frame_session session;
    uint8_t head[FRAME_HEADER_LEN], tail[FRAME_TRAILER_LEN];

    header.flags = (uint8_t)(next(world, 1) % 4);
    header.stream = next(world, 1);
    header.length = (uint32_t)next_len(world);
    world->dirty = true;
    frame_session_init(&session, side->role, host ? side->nonce : side->peer->nonce,
                       host ? side->peer->nonce : side->nonce);
    frame_header_encode(&session, &header, head);
    frame_trailer_encode(&session, tail);
    buf_put(&side->pipe, head, sizeof(head));
    buf_put(&side->pipe, payload, MIN(header.length, sizeof(payload)));
    buf_put(&side->pipe, tail, sizeof(tail));
}

/* Forged syncs: any nonces, or those in use. */
static void do_sync(struct world *world, struct side *side)
{
    struct frame_sync sync = {.version = FRAME_VERSION, .role = side->role};
    uint32_t how = next(world, 1);
    uint8_t bytes[FRAME_SYNC_LEN];

    world->dirty = true;
    sync.nonce[0] = (uint8_t)how;
    if (how & 1) {
        memcpy(sync.nonce, side->nonce, FRAME_NONCE_LEN);
    }
    if (how & 2) {
        memcpy(sync.peer_nonce, side->peer->nonce, FRAME_NONCE_LEN);
    }
    frame_sync_encode(&sync, bytes);
    buf_put(&side->pipe, bytes, sizeof(bytes) - (how & 4 ? how >> 3 : 0));
}

static void check_memory(struct world *world)
{
    for (int i = 0; i < 2; i++) {
        CHECK(mux_memory(world->sides[i].mux) <= MUX_OUTPUT_MAX + 2 * FRAME_MAX_TOTAL);
        CHECK(mux_is_up(world->sides[i].mux) == world->sides[i].up);
    }
}

/* Until nothing moves and nothing is held. */
static void settle(struct world *world)
{
    for (int round = 0, quiet = 0; quiet < 3; round++) {
        quiet = world->sides[0].pipe.len + world->sides[1].pipe.len ? 0 : quiet + 1;
        CHECK(round < 100000);
        for (int i = 0; i < 2; i++) {
            struct side *side = &world->sides[i];

            move_in(side, SIZE_MAX);
            for (size_t j = 0; j < STREAMS; j++) {
                if (side->halves[j].handle && side->halves[j].held) {
                    half_consume(&side->halves[j], SIZE_MAX);
                }
            }
            move_out(side, SIZE_MAX);
        }
    }
}

/* Everything is still: no writer waits, and every half whose other half lives has got all. */
static void check_settled(struct world *world)
{
    if (world->dirty || !world->sides[0].up || !world->sides[1].up) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        for (size_t j = 0; j < STREAMS; j++) {
            struct half *half = &world->sides[i].halves[j];

            if (!half->handle) {
                continue;
            }
            CHECK(!half->wanting);
            for (size_t k = 0; k < STREAMS; k++) {
                struct half *other = &world->sides[!i].halves[k];

                if (other->handle && other->got >= 4 && other->peer_tag == half->tag) {
                    CHECK(other->got == half->sent && other->fin == half->finished);
                }
            }
        }
    }
}

static void do_settle(struct world *world, struct side *side)
{
    settle(world);
    check_settled(world);
}

static void (*const moves[])(struct world *world, struct side *side) = {
    do_out,  do_in,      do_open,    do_write,  do_in,   do_out,     do_finish, do_reset,
    do_hold, do_consume, do_restart, do_reopen, do_stop, do_ping,    do_bytes,  do_hole,
    do_flip, do_forge,   do_sync,    do_settle, do_room, do_message,
};

/* ---- one input ---- */

static void world_init(struct world *world, const uint8_t *data, size_t len)
{
    *world = (struct world){.in = data, .in_len = len};
    for (int i = 0; i < 2; i++) {
        struct side *side = &world->sides[i];

        side->world = world;
        side->peer = &world->sides[!i];
        side->role = i ? FRAME_ROLE_GUEST : FRAME_ROLE_HOST;
        side->mux = mux_new(i ? MUX_ROLE_GUEST : MUX_ROLE_HOST, &mux_ops, side);
        mux_set_random(side->mux, draw, side);
    }
}

/* Whatever was, two fresh starts meet and carry. */
static void check_recovery(struct world *world)
{
    struct half *half;
    uint32_t before;

    side_start(&world->sides[0], true);
    side_start(&world->sides[1], true);
    settle(world);
    CHECK(world->sides[0].up && world->sides[1].up);
    world->dirty = false;
    world->sides[1].hold = false;
    half = half_free(&world->sides[0]);
    half->handle = mux_open(world->sides[0].mux, &stream_ops, half);
    CHECK(half->handle);
    before = half->tag;
    half_write(half, 1000);
    settle(world);
    CHECK(world->sides[1].halves[0].handle && world->sides[1].halves[0].peer_tag == before);
    CHECK(world->sides[1].halves[0].got >= 1000);
    check_settled(world);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world world;

    world_init(&world, data, len);
    if (len % 2) { /* half of the inputs begin in a session */
        side_start(&world.sides[0], false);
        side_start(&world.sides[1], false);
        settle(&world);
        CHECK(world.sides[0].up && world.sides[1].up);
    }
    while (world.in_len > 0) {
        uint32_t op = next(&world, 1);

        moves[(op >> 1) % ARRAY_LEN(moves)](&world, &world.sides[op & 1]);
        check_memory(&world);
    }
    settle(&world);
    check_settled(&world);
    check_recovery(&world);
    for (int i = 0; i < 2; i++) {
        mux_free(world.sides[i].mux);
        buf_done(&world.sides[i].pipe);
    }
    return 0;
}
