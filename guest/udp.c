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
    free(settling->arrivals);
    *settling = (struct udp_settling){0};
}

static uint64_t arrived(const struct udp_settling *settling, const struct portset_entry *entry,
                        uint64_t now_us)
{
    for (size_t i = 0; i < settling->arrival_count; i++) {
        if (portset_compare(&settling->arrivals[i].entry, entry) == 0) {
            return settling->arrivals[i].since_us;
        }
    }
    return now_us;
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
               : arrived(settling, entry, now_us);
}

void udp_settle(struct udp_settling *settling, const struct udp_rules *rules,
                const struct portset *sockets, uint64_t now_us, struct portset *ret)
{
    struct udp_settling next = {0};
    size_t at = 0;

    portset_clear(ret);
    array_reserve(next.since_us, next.cap, sockets->count);
    for (size_t i = 0; i < sockets->count; i++) {
        const struct portset_entry *entry = &sockets->entries[i];
        uint64_t since_us = first_seen(settling, &at, entry, now_us);
        uint64_t settled_us = since_us + UDP_SETTLE_MS * 1000;

        next.since_us[i] = since_us;
        if (!udp_counts(rules, entry)) {
            continue;
        }
        if (settled_us <= now_us) {
            portset_add(ret, PORT_UDP, entry->address, entry->address_len, entry->port);
        } else {
            next.due_us = next.due_us ? MIN(next.due_us, settled_us) : settled_us;
        }
    }
    portset_seal(ret);
    portset_copy(&next.seen, sockets);
    udp_settling_done(settling);
    *settling = next;
}

bool udp_arrive(struct udp_settling *settling, const struct udp_rules *rules,
                const struct portset_entry *entry, uint64_t cookie, uint64_t now_us)
{
    if (!udp_counts(rules, entry)) {
        return true;
    }
    if (settling->arrival_count >= UDP_ARRIVALS_MAX) {
        return false;
    }
    array_reserve(settling->arrivals, settling->arrival_cap, settling->arrival_count + 1);
    settling->arrivals[settling->arrival_count++] =
        (struct udp_arrival){.entry = *entry, .cookie = cookie, .since_us = now_us};
    return true;
}

bool udp_depart(struct udp_settling *settling, uint64_t cookie)
{
    for (size_t i = 0; i < settling->arrival_count; i++) {
        if (settling->arrivals[i].cookie == cookie) {
            settling->arrival_count--;
            memmove(&settling->arrivals[i], &settling->arrivals[i + 1],
                    (settling->arrival_count - i) * sizeof(settling->arrivals[0]));
            return true;
        }
    }
    return false;
}

uint64_t udp_due_us(const struct udp_settling *settling)
{
    uint64_t first_us =
        settling->arrival_count ? settling->arrivals[0].since_us + UDP_SETTLE_MS * 1000 : 0;

    return !first_us || !settling->due_us ? MAX(first_us, settling->due_us)
                                          : MIN(first_us, settling->due_us);
}
