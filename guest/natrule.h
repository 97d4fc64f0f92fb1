/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rule of nf_tables, as the kernel lists it: does it lead connections to a port of this machine
 * to somewhere else? Understands what nft, and what iptables over nf_tables (whose matches and
 * targets come as structs of iptables), make of
 *
 *   [ip daddr A] tcp|udp dport P[-Q] dnat to ...
 *
 * with conditions around it that do not matter to somebody who connects from this machine. Pure;
 * the bytes may say anything.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "netlink.h"
#include "portset.h"

/* Of a table; the kernel's header for these brings addresses that clash with libc's. */
enum natrule_family {
    NATRULE_INET = 1, /* both */
    NATRULE_IPV4 = 2,
    NATRULE_IPV6 = 10,
};

struct natrule {
    enum port_protocol protocol;
    uint8_t address_len; /* 4 or 16 */
    uint8_t address[16]; /* all zero: any of this machine's */
    uint16_t first, last;
};

/*
 * @family: enum natrule_family of the rule's table. @rule: the attributes of the rule.
 * False for every other kind of rule, and for one that wants a source, an incoming interface or a
 * set of ports or addresses: who connects from here can't be said to fit.
 */
bool natrule_parse(uint8_t family, struct netlink_attrs rule, struct natrule *ret);
