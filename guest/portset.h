/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sorted set of ports that something of this machine serves. IPv4-mapped IPv6 addresses are
 * stored as the IPv4 address that they are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/macros.h"

#define PORTSET_MAX 16384 /* further ones are not kept */

/* The numbers of guest.proto. */
enum port_protocol {
    PORT_TCP = 0,
    PORT_UDP = 1,
};

enum port_origin {
    PORT_SOCKET = 0,
    PORT_CONTAINER = 1,
    PORT_KUBERNETES = 2,
};

/* Protocol, address and port are what it is; the origin only comes along. */
struct portset_entry {
    uint8_t protocol;    /* enum port_protocol */
    uint8_t origin;      /* enum port_origin */
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
void portset_add(struct portset *set, enum port_protocol protocol, const void *address,
                 size_t address_len, uint16_t port);
/* Appends all of @from; of what is in both the lower origin stays. */
void portset_add_all(struct portset *set, const struct portset *from, enum port_origin origin);
void portset_seal(struct portset *set);
/* On any address. */
bool portset_has_port(const struct portset *set, enum port_protocol protocol, uint16_t port);
bool portset_equal(const struct portset *a, const struct portset *b);
void portset_copy(struct portset *to, const struct portset *from);
/* Order of a sealed set, by port first; the origin does not count. */
int portset_compare(const struct portset_entry *a, const struct portset_entry *b);

/*
 * Brings @known nearer to @now by at most @max additions and @max removals, and returns those. One
 * whose origin has changed is added again. Call again until it returns false, which means that
 * there was no difference.
 */
bool portset_advance(struct portset *known, const struct portset *now, size_t max,
                     struct portset_entry *ret_added, size_t *ret_added_count,
                     struct portset_entry *ret_removed, size_t *ret_removed_count);
