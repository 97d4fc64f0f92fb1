/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of bytes in one circular allocation that grows on demand. Who fills it keeps it bounded.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct ring {
    uint8_t *data;
    size_t cap;  /* zero or a power of two */
    size_t head; /* index of the first live byte */
    size_t len;
};

#define RING_INIT ((struct ring){0})

/* Gives the memory back; the ring is empty and can be used again. */
void ring_done(struct ring *ring);
void ring_put(struct ring *ring, const void *data, size_t len);
/* The longest contiguous part at the front; valid until the next change. */
size_t ring_front(const struct ring *ring, const uint8_t **ret_data);
/* Copies @len bytes that begin @offset behind the front; they must be there. */
void ring_peek(const struct ring *ring, size_t offset, void *out, size_t len);
/* Drops @len bytes at the front; they must be there. */
void ring_drop(struct ring *ring, size_t len);
/* Keeps the first @len bytes; they must be there. */
void ring_truncate(struct ring *ring, size_t len);
/* Makes room for @len more bytes, so that the next ring_put() of them moves nothing. */
void ring_reserve(struct ring *ring, size_t len);
