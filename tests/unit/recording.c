/* SPDX-License-Identifier: Apache-2.0 */
#include "recording.h"
#include "test.h"

#include <stdio.h>
#include <sys/socket.h>
#include "base/alloc.h"

static const uint8_t no_nonce[FRAME_NONCE_LEN];

bool recording_cut(const struct buf *bytes, size_t *ret_padding, size_t *ret_len)
{
    const uint8_t *p = (const uint8_t *)bytes->data;
    size_t at = 0, left, want = FRAME_HEADER_LEN;

    while (at < bytes->len && p[at] == 0) {
        at++; /* padding before a sync; no unit begins with a zero, but for one tag in 256 */
    }
    if (at < 16 && at > 0 && at < bytes->len && frame_sync_scan(p + at, bytes->len - at) != 0) {
        at = 0; /* such a tag */
    }
    *ret_padding = at;
    left = bytes->len - at;
    if (left < FRAME_HEADER_LEN) {
        return false;
    }
    if (frame_sync_scan(p + at, left) == 0) {
        want = FRAME_SYNC_LEN;
    } else {
        want = FRAME_OVERHEAD + frame_get_u32(p + at + FRAME_HEADER_LEN - 4);
    }
    *ret_len = want;
    return left >= want;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at = strchr(digits, c);

    return c && at ? (int)(at - digits) : -1;
}

static size_t parse_hex(const char *text, uint8_t *out)
{
    size_t n = 0;

    for (; hex_digit(text[0]) >= 0 && hex_digit(text[1]) >= 0; text += 2) {
        out[n++] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
    }
    assert_true(*text == '\n' || *text == '\0');
    return n;
}

static void add_unit(struct recording *recording, enum frame_role from, uint8_t *take_bytes,
                     size_t len)
{
    struct recording_unit *unit;

    array_reserve(recording->units, recording->cap, recording->count + 1);
    unit = &recording->units[recording->count++];
    *unit = (struct recording_unit){.from = from, .bytes = take_bytes};
    if (len == FRAME_SYNC_LEN && frame_sync_decode(take_bytes, &unit->sync) == 0) {
        unit->is_sync = true;
        assert_int_equal(unit->sync.version, FRAME_VERSION);
        assert_int_equal(unit->sync.role, from);
        return;
    }
    /* The tags are the recorded session's; the rest is decoded as the live side will. */
    {
        struct frame_session session = {.tag = frame_get_u32(take_bytes),
                                        .tag2 = frame_get_u32(take_bytes + len - 4)};

        assert_int_equal(frame_header_decode(&session, take_bytes, &unit->header), 0);
        assert_int_equal(len, FRAME_OVERHEAD + unit->header.length);
        assert_true(unit->header.stream < RECORDING_STREAMS);
        unit->payload = take_bytes + FRAME_HEADER_LEN;
    }
}

void recording_load(const char *path, struct recording *ret)
{
    FILE *file = fopen(path, "re");
    scoped(free) char *line = NULL;
    size_t size = 0;
    ssize_t n;

    assert_non_null(file);
    *ret = (struct recording){0};
    while ((n = getline(&line, &size, file)) > 0) {
        bool host = strncmp(line, "host ", 5) == 0;
        uint8_t *bytes;

        if (line[0] == '#') {
            continue;
        }
        assert_true(host || strncmp(line, "guest ", 6) == 0);
        bytes = xmalloc((size_t)n);
        add_unit(ret, host ? FRAME_ROLE_HOST : FRAME_ROLE_GUEST, bytes,
                 parse_hex(line + (host ? 5 : 6), bytes));
    }
    fclose(file);
    assert_true(ret->count > 10);
}

void recording_done(struct recording *recording)
{
    for (size_t i = 0; i < recording->count; i++) {
        free(recording->units[i].bytes);
    }
    free(recording->units);
    *recording = (struct recording){0};
}

/* ---- player ---- */

void recording_player_init(struct recording_player *player, const struct recording *recording,
                           enum frame_role role, int fd)
{
    *player = (struct recording_player){.recording = recording, .role = role, .fd = fd};
}

void recording_player_done(struct recording_player *player)
{
    for (size_t i = 0; i < RECORDING_STREAMS; i++) {
        buf_done(&player->live[i].data);
    }
    buf_done(&player->in);
    buf_done(&player->out);
}

static enum frame_role other_role(enum frame_role role)
{
    return role == FRAME_ROLE_HOST ? FRAME_ROLE_GUEST : FRAME_ROLE_HOST;
}

/* The nonce that the played side has in the recording. */
static const uint8_t *own_nonce(const struct recording_player *player)
{
    const struct recording_unit *unit = player->recording->units;

    while (!unit->is_sync || unit->from != player->role) {
        unit++;
    }
    return unit->sync.nonce;
}

static void learn_live_nonce(struct recording_player *player, const uint8_t *nonce)
{
    const uint8_t *own = own_nonce(player);
    bool host = player->role == FRAME_ROLE_HOST;

    memcpy(player->live_nonce, nonce, FRAME_NONCE_LEN);
    player->live_known = true;
    frame_session_init(&player->send, player->role, host ? own : nonce, host ? nonce : own);
    frame_session_init(&player->receive, other_role(player->role), host ? own : nonce,
                       host ? nonce : own);
}

static void take_frame(struct recording_player *player, const uint8_t *bytes)
{
    struct recording_stream *stream;
    struct frame_header header;

    assert_int_equal(frame_header_decode(&player->receive, bytes, &header), 0);
    if (header.stream >= RECORDING_STREAMS) {
        return; /* a newer side may do more */
    }
    stream = &player->live[header.stream];
    if (header.type == FRAME_TYPE_OPEN) {
        stream->opened = true;
    } else if (header.type == FRAME_TYPE_DATA) {
        buf_put(&stream->data, bytes + FRAME_HEADER_LEN, header.length);
        stream->fin = stream->fin || (header.flags & FRAME_FLAG_FIN);
    } else if (header.type == FRAME_TYPE_RESET) {
        stream->reset = true;
        stream->code = frame_get_u32(bytes + FRAME_HEADER_LEN);
    }
}

static void take_input(struct recording_player *player)
{
    char chunk[65536];
    size_t padding = 0, len = 0;
    ssize_t n;

    while ((n = recv(player->fd, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0) {
        buf_put(&player->in, chunk, (size_t)n);
    }
    while (recording_cut(&player->in, &padding, &len)) {
        const uint8_t *bytes = (const uint8_t *)player->in.data + padding;
        struct frame_sync sync;

        if (len == FRAME_SYNC_LEN && frame_sync_decode(bytes, &sync) == 0) {
            learn_live_nonce(player, sync.nonce);
        } else {
            take_frame(player, bytes);
        }
        buf_drop(&player->in, padding + len);
    }
}

static void put_unit(struct recording_player *player, const struct recording_unit *unit)
{
    uint8_t head[FRAME_HEADER_LEN], tail[FRAME_TRAILER_LEN], bytes[FRAME_SYNC_LEN];
    struct frame_sync sync = unit->sync;

    if (unit->is_sync) {
        if (memcmp(sync.peer_nonce, no_nonce, FRAME_NONCE_LEN) != 0) {
            memcpy(sync.peer_nonce, player->live_nonce, FRAME_NONCE_LEN);
        }
        frame_sync_encode(&sync, bytes);
        buf_put(&player->out, bytes, sizeof(bytes));
        return;
    }
    frame_header_encode(&player->send, &unit->header, head);
    frame_trailer_encode(&player->send, tail);
    buf_put(&player->out, head, sizeof(head));
    buf_put(&player->out, unit->payload, unit->header.length);
    buf_put(&player->out, tail, sizeof(tail));
}

/* Whether the next unit of the recording can be passed over or sent now. */
static bool is_due(const struct recording_player *player, const struct recording_unit *unit)
{
    const struct recording_stream *stream = &player->live[unit->header.stream];

    if (unit->from == player->role) {
        return player->live_known ||
               (unit->is_sync && memcmp(unit->sync.peer_nonce, no_nonce, FRAME_NONCE_LEN) == 0);
    }
    if (unit->is_sync) {
        return player->live_known;
    }
    if (unit->header.type == FRAME_TYPE_OPEN) {
        return stream->opened;
    }
    return unit->header.type != FRAME_TYPE_DATA || !(unit->header.flags & FRAME_FLAG_FIN) ||
           stream->fin || stream->reset;
}

bool recording_player_step(struct recording_player *player)
{
    const struct recording *recording = player->recording;

    take_input(player);
    while (player->next < recording->count && is_due(player, &recording->units[player->next])) {
        const struct recording_unit *unit = &recording->units[player->next++];

        if (unit->from == player->role) {
            put_unit(player, unit);
        }
    }
    while (player->out.len) {
        ssize_t n =
            send(player->fd, player->out.data, player->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n <= 0) {
            break;
        }
        buf_drop(&player->out, (size_t)n);
    }
    return player->next == recording->count && !player->out.len;
}
