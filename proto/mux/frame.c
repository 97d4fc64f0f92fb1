/* SPDX-License-Identifier: Apache-2.0 */
#include "mux/frame.h"

#include <errno.h>
#include <string.h>
#include "base/macros.h"

/* Begins with a byte that neither text nor the zeros of the padding contain. */
static const uint8_t magic[FRAME_MAGIC_LEN] = {0xf5, 'L', 'i', 'm', 'a', ' ', 'm',  'u',
                                               'x',  ' ', 's', 'y', 'n', 'c', 0xfa, '\n'};

/* What a header of each type may carry. */
static const struct {
    uint32_t min, max; /* length */
    uint8_t flags;
    bool stream; /* has one; else it is zero */
} types[] = {
    [FRAME_TYPE_OPEN] = {4, 4, 0, true},
    [FRAME_TYPE_DATA] = {0, FRAME_MAX_PAYLOAD, FRAME_FLAG_FIN, true},
    [FRAME_TYPE_CREDIT] = {4, 4, 0, true},
    [FRAME_TYPE_RESET] = {4, 4, 0, true},
    [FRAME_TYPE_PING] = {8, 8, 0, false},
    [FRAME_TYPE_PONG] = {8, 8, 0, false},
};

uint32_t frame_get_u32(const uint8_t in[4])
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

void frame_put_u32(uint8_t out[4], uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

/* Castagnoli, reflected; by half bytes, since only the few bytes of a sync are summed. */
static uint32_t crc32c(const uint8_t *data, size_t len)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    uint32_t crc = ~0u;

    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 0xf];
        crc = crc >> 4 ^ table[crc & 0xf];
    }
    return ~crc;
}

static uint32_t tag_of(const uint8_t *host_nonce, const uint8_t *guest_nonce, size_t word)
{
    uint32_t tag = frame_get_u32(host_nonce + 4 * word) ^ frame_get_u32(guest_nonce + 4 * word);

    return tag ? tag : UINT32_MAX;
}

void frame_session_init(struct frame_session *session, enum frame_role sender,
                        const uint8_t host_nonce[FRAME_NONCE_LEN],
                        const uint8_t guest_nonce[FRAME_NONCE_LEN])
{
    size_t word = sender == FRAME_ROLE_HOST ? 0 : 2;

    session->tag = tag_of(host_nonce, guest_nonce, word);
    session->tag2 = tag_of(host_nonce, guest_nonce, word + 1);
}

void frame_header_encode(const struct frame_session *session, const struct frame_header *header,
                         uint8_t out[FRAME_HEADER_LEN])
{
    frame_put_u32(out, session->tag);
    out[4] = (uint8_t)header->type;
    out[5] = header->flags;
    out[6] = 0;
    out[7] = 0;
    frame_put_u32(out + 8, header->stream);
    frame_put_u32(out + 12, header->length);
}

int frame_header_decode(const struct frame_session *session, const uint8_t in[FRAME_HEADER_LEN],
                        struct frame_header *ret)
{
    uint8_t type = in[4];
    uint32_t stream = frame_get_u32(in + 8), length = frame_get_u32(in + 12);

    if (frame_get_u32(in) != session->tag || type >= ARRAY_LEN(types) ||
        type == FRAME_TYPE_INVALID) {
        return -EBADMSG;
    }
    if (length < types[type].min || length > types[type].max || (in[5] & ~types[type].flags) ||
        in[6] || in[7] || types[type].stream != (stream != 0)) {
        return -EBADMSG;
    }
    *ret = (struct frame_header){
        .type = (enum frame_type)type, .flags = in[5], .stream = stream, .length = length};
    return 0;
}

void frame_trailer_encode(const struct frame_session *session, uint8_t out[FRAME_TRAILER_LEN])
{
    frame_put_u32(out, session->tag2);
}

bool frame_trailer_ok(const struct frame_session *session, const uint8_t in[FRAME_TRAILER_LEN])
{
    return frame_get_u32(in) == session->tag2;
}

void frame_sync_encode(const struct frame_sync *sync, uint8_t out[FRAME_SYNC_LEN])
{
    uint8_t *p = out + FRAME_MAGIC_LEN;

    memcpy(out, magic, FRAME_MAGIC_LEN);
    p[0] = (uint8_t)sync->version;
    p[1] = (uint8_t)(sync->version >> 8);
    p[2] = (uint8_t)sync->role;
    p[3] = 0;
    memcpy(p + 4, sync->nonce, FRAME_NONCE_LEN);
    memcpy(p + 4 + FRAME_NONCE_LEN, sync->peer_nonce, FRAME_NONCE_LEN);
    frame_put_u32(out + FRAME_SYNC_LEN - 4, crc32c(out, FRAME_SYNC_LEN - 4));
}

int frame_sync_decode(const uint8_t in[FRAME_SYNC_LEN], struct frame_sync *ret)
{
    static const uint8_t zeros[FRAME_NONCE_LEN];
    const uint8_t *p = in + FRAME_MAGIC_LEN;

    if (memcmp(in, magic, FRAME_MAGIC_LEN) != 0 ||
        frame_get_u32(in + FRAME_SYNC_LEN - 4) != crc32c(in, FRAME_SYNC_LEN - 4) ||
        (p[2] != FRAME_ROLE_HOST && p[2] != FRAME_ROLE_GUEST) || p[3] != 0 ||
        memcmp(p + 4, zeros, FRAME_NONCE_LEN) == 0) {
        return -EBADMSG;
    }
    ret->version = (uint16_t)(p[0] | p[1] << 8);
    ret->role = (enum frame_role)p[2];
    memcpy(ret->nonce, p + 4, FRAME_NONCE_LEN);
    memcpy(ret->peer_nonce, p + 4 + FRAME_NONCE_LEN, FRAME_NONCE_LEN);
    return 0;
}

size_t frame_sync_scan(const uint8_t *data, size_t len)
{
    size_t at = 0;

    while (at < len) {
        const uint8_t *found = memchr(data + at, magic[0], len - at);

        if (!found) {
            return len;
        }
        at = (size_t)(found - data);
        if (memcmp(found, magic, MIN(len - at, (size_t)FRAME_MAGIC_LEN)) == 0) {
            return at;
        }
        at++;
    }
    return len;
}
