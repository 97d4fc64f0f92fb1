/* SPDX-License-Identifier: Apache-2.0 */
#include "mux/ring.h"

#include <assert.h>
#include <string.h>
#include "base/alloc.h"
#include "base/macros.h"

#define RING_MIN 4096

void ring_done(struct ring *ring)
{
    free(ring->data);
    *ring = RING_INIT;
}

void ring_peek(const struct ring *ring, size_t offset, void *out, size_t len)
{
    size_t at, first;

    assert(offset + len <= ring->len);
    if (len == 0) {
        return;
    }
    at = (ring->head + offset) & (ring->cap - 1);
    first = MIN(len, ring->cap - at);
    memcpy(out, ring->data + at, first);
    memcpy((char *)out + first, ring->data, len - first);
}

void ring_reserve(struct ring *ring, size_t len)
{
    size_t cap = ring->cap ? ring->cap : RING_MIN;
    uint8_t *data;

    while (cap - ring->len < len) {
        cap *= 2;
    }
    if (cap == ring->cap) {
        return;
    }
    data = xmalloc(cap);
    ring_peek(ring, 0, data, ring->len);
    free(ring->data);
    ring->data = data;
    ring->cap = cap;
    ring->head = 0;
}

void ring_put(struct ring *ring, const void *data, size_t len)
{
    size_t at, first;

    if (len == 0) {
        return;
    }
    ring_reserve(ring, len);
    at = (ring->head + ring->len) & (ring->cap - 1);
    first = MIN(len, ring->cap - at);
    memcpy(ring->data + at, data, first);
    memcpy(ring->data, (const char *)data + first, len - first);
    ring->len += len;
}

size_t ring_front(const struct ring *ring, const uint8_t **ret_data)
{
    *ret_data = ring->data + ring->head;
    return MIN(ring->len, ring->cap - ring->head);
}

void ring_drop(struct ring *ring, size_t len)
{
    assert(len <= ring->len);
    ring->len -= len;
    ring->head = ring->len ? (ring->head + len) & (ring->cap - 1) : 0;
}

void ring_truncate(struct ring *ring, size_t len)
{
    assert(len <= ring->len);
    ring->len = len;
}
