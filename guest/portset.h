/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sorted set of listening addresses. IPv4-mapped IPv6 addresses are stored as the IPv4 address
 * that they are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/macros.h"

#define PORTSET_MAX 16384 /* further ones are not kept */

struct portset_entry {
    uint8_t address_len; /* 4 or 16 */
    uint8_t address[16];
    uint16_t port; /* host order */
};

struct portset {
    struct portset_entry *entries; /* sorted and unique after portset_seal() */
    size_t count;
    size_t sockets; /* how many were added, duplicates included */
    size_t cap;
};

void portset_done(struct portset *set);
SCOPED_VAL(struct portset, portset_done)
void portset_clear(struct portset *set);
/* Appends; @address_len is 4 or 16. Call portset_seal() before any other function. */
void portset_add(struct portset *set, const void *address, size_t address_len, uint16_t port);
void portset_seal(struct portset *set);
bool portset_has_port(const struct portset *set, uint16_t port);
bool portset_equal(const struct portset *a, const struct portset *b);
void portset_copy(struct portset *to, const struct portset *from);

/*
 * Brings @known nearer to @now by at most @max additions and @max removals, and returns those. Call
 * again until it returns false, which means that there was no difference.
 */
bool portset_advance(struct portset *known, const struct portset *now, size_t max,
                     struct portset_entry *ret_added, size_t *ret_added_count,
                     struct portset_entry *ret_removed, size_t *ret_removed_count);
