/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.proto on the host: requests to bytes, and bytes from the guest, which may be hostile, to
 * checked structs. Lengths and counts have the bounds of guest.options; addresses and ports must be
 * such; strings come out as printable UTF-8. No I/O. For this folder alone.
 */
#pragma once

#include "base/buf.h"
#include "peer/address.h"
#include "peer/client.h"
#include "peer/mount.h"
#include "peer/redirect.h"

#define WIRE_PROTOCOL 1 /* version of guest.proto that this side speaks */
#define WIRE_MESSAGE_MAX                                                                           \
    16384 /* bytes of a message from the guest; the longest we know has 5.3 KB */

struct ProtobufCMessage;

/* Append messages with their length prefix. */
void wire_put_message(struct buf *out, const struct ProtobufCMessage *message);
void wire_put_open(struct buf *out, const char *service);
/* @error is an errno, @text its words. */
void wire_put_stream_reply(struct buf *out, int error, const char *text);
void wire_put_info_request(struct buf *out, const char *version);
/* At most PEER_WANTED_MAX @wanted. */
void wire_put_events_request(struct buf *out, const struct peer_range *wanted, size_t count);
void wire_put_tunnel_request(struct buf *out, const struct peer_address *to);
void wire_put_listen_request(struct buf *out, const struct peer_address *at, unsigned mode);
void wire_put_accept_request(struct buf *out, uint64_t id);
void wire_put_redirect_request(struct buf *out, const struct peer_redirect_rules *rules);
void wire_put_mount_request(struct buf *out, const struct peer_mount_request *request);
void wire_put_follow_request(struct buf *out, const char *tag);
void wire_put_unmount_request(struct buf *out, const char *tag, bool lazy);
void wire_put_touch_request(struct buf *out, const char *tag);

/*
 * The decoders hand what they have decoded to a callback, for whose time it lives. They return
 * -EBADMSG (not a message, or a value that makes no sense) or -EMSGSIZE (above a bound) before any
 * callback. Unknown fields, stages, protocols and kinds of events are skipped.
 */
int wire_info_decode(const uint8_t *data, size_t len, const struct peer_events *events, void *arg);
struct wire_vsock {
    uint32_t port; /* 1.. */
    uint8_t host_key[16], guest_key[16];
};

/* What an Info says of vsock: 1, or 0 when it says nothing. */
int wire_vsock_decode(const uint8_t *data, size_t len, struct wire_vsock *ret);
int wire_event_decode(const uint8_t *data, size_t len, const struct peer_events *events, void *arg);

struct wire_stream_reply {
    int error; /* 0, or a positive errno */
    const char *message;
    void *decoded; /* owns it */
};

int wire_stream_reply_decode(const uint8_t *data, size_t len, struct wire_stream_reply *ret);
void wire_stream_reply_done(struct wire_stream_reply *reply);

/* What a listener of the guest says; a kind that we don't know has neither flag. */
struct wire_incoming {
    bool listening, accepted;
    uint16_t port; /* listening */
    uint64_t id;   /* accepted; not 0 */
};

int wire_incoming_decode(const uint8_t *data, size_t len, struct wire_incoming *ret);

/* For the decoders of other files. */
struct wire_text {
    size_t offset; /* of a char * in the message */
    size_t size;   /* max_size of guest.options: with the NUL */
    bool lines;    /* may have several */
};

/* Makes the texts of a message printable, in place. -EMSGSIZE: one is longer than allowed. */
int wire_check_texts(void *message, const struct wire_text *fields, size_t count);
/* An errno from the guest as ours: 0, or positive; EIO for what is none. */
int wire_errno(uint32_t number);

int wire_mounted_decode(const uint8_t *data, size_t len, struct peer_mounted *ret);
/* How the guest redirects: one of the names that we know, or "other"; constant. */
int wire_redirected_decode(const uint8_t *data, size_t len, const char **ret_method);
