/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: the bytes of one session on a byte stream whose peer may vanish and return with no
 * end-of-file (virtio-serial), or on a plain one (socket). No I/O, no allocation.
 *
 * All integers little-endian.
 *
 *   frame   = header payload trailer
 *   header  = u32 tag | u8 type | u8 flags | u16 zero | u32 stream | u32 length     (16 bytes)
 *   trailer = u32 tag2
 *
 * tag and tag2 are not zero, taken from the two nonces of the session, and differ per direction. So
 * a frame of another session, one that a restart cut short, or our own bytes come back, is never
 * accepted: it counts only when both match.
 *
 * With each nonce read as words 0..3, what the host sends has tag = host[0] ^ guest[0] and
 * tag2 = host[1] ^ guest[1], what the guest sends words 2 and 3; a zero becomes 0xffffffff.
 *
 *   sync    = 16 magic bytes | u16 version | u8 role | u8 zero | 16 bytes own nonce |
 *             16 bytes peer's nonce or zeros | u32 CRC-32C of the foregoing           (56 bytes)
 *   magic   = 0xf5 "Lima mux sync" 0xfa 0x0a
 *
 * A sync of another version than FRAME_VERSION is well-formed, and ignored: versions don't mix.
 *
 * A side that begins a session on a stream where old bytes may be under way sends FRAME_MAX_TOTAL
 * zero bytes, then its sync: whoever was in the middle of an old frame completes it with zeros,
 * sees a wrong trailer, throws it away and looks for the magic. See mux.h for the handshake.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes, as the protocol has them. */
#define FRAME_HEADER_LEN  16
#define FRAME_TRAILER_LEN 4
#define FRAME_OVERHEAD    (FRAME_HEADER_LEN + FRAME_TRAILER_LEN)
#define FRAME_MAX_PAYLOAD 65536
#define FRAME_MAX_TOTAL   (FRAME_OVERHEAD + FRAME_MAX_PAYLOAD)
#define FRAME_MAGIC_LEN   16
#define FRAME_NONCE_LEN   16
#define FRAME_SYNC_LEN    (FRAME_MAGIC_LEN + 4 + 2 * FRAME_NONCE_LEN + 4)
#define FRAME_VERSION     1

enum frame_type {
    FRAME_TYPE_INVALID = 0, /* so that zeros never parse */
    FRAME_TYPE_OPEN = 1,   /* payload: u32 credit for the receiver; the stream id is the opener's */
    FRAME_TYPE_DATA = 2,   /* payload: bytes; flag FIN: the sender's direction ends after them */
    FRAME_TYPE_CREDIT = 3, /* payload: u32 more bytes the receiver of this may send */
    FRAME_TYPE_RESET = 4,  /* payload: u32 code (enum mux_reset); both directions end */
    FRAME_TYPE_PING = 5,   /* payload: 8 bytes, returned in a PONG; stream 0 */
    FRAME_TYPE_PONG = 6,
};

#define FRAME_FLAG_FIN 0x01

enum frame_role { /* the sender of a sync */
                  FRAME_ROLE_HOST = 1,
                  FRAME_ROLE_GUEST = 2,
};

/* One direction of a session. */
struct frame_session {
    uint32_t tag;  /* first word of a header */
    uint32_t tag2; /* the trailer */
};

struct frame_header {
    enum frame_type type;
    uint8_t flags;
    uint32_t stream;
    uint32_t length;
};

struct frame_sync {
    uint16_t version;
    enum frame_role role;
    uint8_t nonce[FRAME_NONCE_LEN];      /* never zeros */
    uint8_t peer_nonce[FRAME_NONCE_LEN]; /* zeros: unknown */
};

/* The direction whose sender is @sender. Both sides compute the same. */
void frame_session_init(struct frame_session *session, enum frame_role sender,
                        const uint8_t host_nonce[FRAME_NONCE_LEN],
                        const uint8_t guest_nonce[FRAME_NONCE_LEN]);

void frame_header_encode(const struct frame_session *session, const struct frame_header *header,
                         uint8_t out[FRAME_HEADER_LEN]);
/*
 * -EBADMSG: wrong tag; an unknown type, flag or reserved bit; a length the type does not have.
 * Stream zero belongs to PING and PONG alone.
 */
int frame_header_decode(const struct frame_session *session, const uint8_t in[FRAME_HEADER_LEN],
                        struct frame_header *ret);
void frame_trailer_encode(const struct frame_session *session, uint8_t out[FRAME_TRAILER_LEN]);
bool frame_trailer_ok(const struct frame_session *session, const uint8_t in[FRAME_TRAILER_LEN]);

void frame_sync_encode(const struct frame_sync *sync, uint8_t out[FRAME_SYNC_LEN]);
/* -EBADMSG: wrong magic, checksum, role or reserved bits, or a nonce of zeros. Any version passes.
 */
int frame_sync_decode(const uint8_t in[FRAME_SYNC_LEN], struct frame_sync *ret);
/* Offset of the first place in @data where a sync (or the beginning of one) could start; @len if
 * none. */
size_t frame_sync_scan(const uint8_t *data, size_t len);

uint32_t frame_get_u32(const uint8_t in[4]);
void frame_put_u32(uint8_t out[4], uint32_t value);
