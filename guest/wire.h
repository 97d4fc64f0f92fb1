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
#include "mux/delimited.h"

/* Of our largest message. */
#define WIRE_MAX (DELIMITED_PREFIX_MAX + lima_guest_v1_Event_size)

/* Body to struct; false when malformed or beyond the bounds of guest.options. */
bool wire_decode(const uint8_t *body, size_t len, const pb_msgdesc_t *fields, void *ret);
/* Struct to length and body. @out has WIRE_MAX bytes. Returns how many; asserts that it fits. */
size_t wire_encode(const pb_msgdesc_t *fields, const void *message, uint8_t *out);
/* Copies @text, cut to fit @size; a cut never splits a UTF-8 character, as proto3 wants. */
void wire_text(char *out, size_t size, const char *text);
