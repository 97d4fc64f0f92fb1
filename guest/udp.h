/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which UDP sockets count as ports. UDP has no listen(): a server, and a client that has not named
 * its peer, look alike. So a socket counts when it stays for a while, is not in the range that the
 * kernel gives clients, and is none of the system's own well-known ones. What the host wants by
 * number counts in any case, after the same while.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "portset.h"

#define UDP_WANTED_MAX 64
#define UDP_SETTLE_MS  100

struct udp_range { /* inclusive; none when first is above last */
    uint16_t first, last;
};

struct udp_rules {
    struct udp_range ephemeral;
    struct udp_range wanted[UDP_WANTED_MAX];
    size_t wanted_count;
};

/* Reads the kernel's range for clients; nothing is wanted. */
void udp_rules_init(struct udp_rules *rules);
bool udp_counts(const struct udp_rules *rules, const struct portset_entry *entry);
/* Ports about which no notice is needed. */
struct udp_range udp_uninteresting(const struct udp_rules *rules);
/* "32768\t60999\n"; none when it is not like that. */
struct udp_range udp_range_parse(const char *text);

/* Since when each socket is there. Zero is an empty one. */
struct udp_settling {
    struct portset seen;
    uint64_t *since_us; /* same indexes */
    size_t cap;
};

void udp_settling_done(struct udp_settling *settling);
/*
 * @sockets (sealed) are there at @now_us; puts those into @ret (sealed) that count and have
 * stayed. Returns after how many ms the next one will have, 0 when none is waiting.
 */
unsigned udp_settle(struct udp_settling *settling, const struct udp_rules *rules,
                    const struct portset *sockets, uint64_t now_us, struct portset *ret);
