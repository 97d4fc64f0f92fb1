/* SPDX-License-Identifier: Apache-2.0 */
#include "udp.h"

#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "files.h"

#define RANGE_FILE     "/proc/sys/net/ipv4/ip_local_port_range"
#define PORT_DNS       53
#define LOOPBACK_FIRST 127

/* Clients of the system, or tunnels that lead nowhere else. */
static const uint16_t system_ports[] = {
    67,   68,         /* DHCP */
    123,  323,        /* NTP, chrony's control */
    546,              /* DHCPv6 */
    4789, 6081, 8472, /* VXLAN, Geneve, flannel's VXLAN */
    5353, 5355,       /* mDNS, LLMNR */
};

struct udp_range udp_range_parse(const char *text)
{
    unsigned first, last;

    if (sscanf(text, "%u %u", &first, &last) != 2 || first > last || last > UINT16_MAX) {
        return (struct udp_range){1, 0};
    }
    return (struct udp_range){(uint16_t)first, (uint16_t)last};
}

void udp_rules_init(struct udp_rules *rules)
{
    scoped(free) char *text = files_read(RANGE_FILE, 64, NULL);

    *rules = (struct udp_rules){.ephemeral = udp_range_parse(text ? text : "")};
}

static bool has(const struct udp_range *range, uint16_t port)
{
    return port >= range->first && port <= range->last;
}

static bool is_wanted(const struct udp_rules *rules, uint16_t port)
{
    for (size_t i = 0; i < rules->wanted_count; i++) {
        if (has(&rules->wanted[i], port)) {
            return true;
        }
    }
    return false;
}

static bool is_system(const struct portset_entry *entry)
{
    for (size_t i = 0; i < ARRAY_LEN(system_ports); i++) {
        if (entry->port == system_ports[i]) {
            return true;
        }
    }
    /* The stub of a resolver, on an address that only this machine has. */
    return entry->port == PORT_DNS && entry->address_len == 4 &&
           entry->address[0] == LOOPBACK_FIRST && entry->address[3] != 1;
}

bool udp_counts(const struct udp_rules *rules, const struct portset_entry *entry)
{
    return is_wanted(rules, entry->port) ||
           (!has(&rules->ephemeral, entry->port) && !is_system(entry));
}

struct udp_range udp_uninteresting(const struct udp_rules *rules)
{
    for (size_t i = 0; i < rules->wanted_count; i++) {
        if (rules->wanted[i].first <= rules->ephemeral.last &&
            rules->wanted[i].last >= rules->ephemeral.first) {
            return (struct udp_range){1, 0};
        }
    }
    return rules->ephemeral;
}

void udp_settling_done(struct udp_settling *settling)
{
    portset_done(&settling->seen);
    free(settling->since_us);
    *settling = (struct udp_settling){0};
}

/* When @entry was first seen, @now_us if it is new; *at walks along the sorted list. */
static uint64_t first_seen(const struct udp_settling *settling, size_t *at,
                           const struct portset_entry *entry, uint64_t now_us)
{
    const struct portset *seen = &settling->seen;

    while (*at < seen->count && portset_compare(&seen->entries[*at], entry) < 0) {
        ++*at;
    }
    return *at < seen->count && portset_compare(&seen->entries[*at], entry) == 0
               ? settling->since_us[*at]
               : now_us;
}

unsigned udp_settle(struct udp_settling *settling, const struct udp_rules *rules,
                    const struct portset *sockets, uint64_t now_us, struct portset *ret)
{
    struct udp_settling next = {0};
    uint64_t wait_us = 0;
    size_t at = 0;

    portset_clear(ret);
    array_reserve(next.since_us, next.cap, sockets->count);
    for (size_t i = 0; i < sockets->count; i++) {
        const struct portset_entry *entry = &sockets->entries[i];
        uint64_t since_us = first_seen(settling, &at, entry, now_us);
        uint64_t age_us = now_us - since_us;

        next.since_us[i] = since_us;
        if (!udp_counts(rules, entry)) {
            continue;
        }
        if (age_us >= UDP_SETTLE_MS * 1000) {
            portset_add(ret, PORT_UDP, entry->address, entry->address_len, entry->port);
        } else {
            wait_us = wait_us ? MIN(wait_us, UDP_SETTLE_MS * 1000 - age_us)
                              : UDP_SETTLE_MS * 1000 - age_us;
        }
    }
    portset_seal(ret);
    portset_copy(&next.seen, sockets);
    udp_settling_done(settling);
    *settling = next;
    return (unsigned)((wait_us + 999) / 1000);
}
