/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of lima.guest.v1 as they travel on a stream: a base-128 varint with the length, then the
 * nanopb encoding.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/macros.h"
#include "guest.pb.h"

#define WIRE_LENGTH_MAX 5                                            /* bytes of the varint */
#define WIRE_MAX        (WIRE_LENGTH_MAX + lima_guest_v1_Event_size) /* of our largest message */

/*
 * The first message in @data: 1 with its body, 0 when more bytes are needed, -EBADMSG when the
 * length is malformed or above @max. @ret_used: bytes up to the end of the body.
 */
int wire_split(const uint8_t *data, size_t len, size_t max, const uint8_t **ret_body,
               size_t *ret_body_len, size_t *ret_used);
/* Body to struct; false when malformed or beyond the bounds of guest.options. */
bool wire_decode(const uint8_t *body, size_t len, const pb_msgdesc_t *fields, void *ret);
/* Struct to length and body. @out has WIRE_MAX bytes. Returns how many; asserts that it fits. */
size_t wire_encode(const pb_msgdesc_t *fields, const void *message, uint8_t *out);
/* Copies @text, cut to fit @size; a cut never splits a UTF-8 character, as proto3 wants. */
void wire_text(char *out, size_t size, const char *text);
