/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule is a list of expressions over registers: some load a part of the packet into one, some
 * compare one with a constant, the last says what is done. So we walk along and note of each
 * register what it holds. An expression that we don't know may have written any of them.
 */
#include "natrule.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/xt_multiport.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <netinet/in.h>
#include <string.h>
#include "base/macros.h"

#define REGISTERS       16 /* of 4 bytes */
#define REGISTERS_WHOLE 4  /* the same as 4 of 16 bytes */

enum holds {
    HOLDS_OTHER,
    HOLDS_PROTOCOL,
    HOLDS_PORT,
    HOLDS_ADDRESS, /* of the destination */
    HOLDS_NETWORK, /* part of it */
    HOLDS_ORIGIN,  /* source address, incoming interface */
};

struct walk {
    uint8_t family;
    enum holds registers[REGISTERS];
    uint8_t protocol; /* IPPROTO_*; 0: not said yet */
    uint32_t first, last;
    uint8_t address_len; /* 0: any */
    uint8_t address[16];
    uint8_t nat_family;
    bool translates;
    bool unfit;
};

struct loaded {
    uint8_t base; /* enum nft_payload_bases */
    uint8_t offset, len_min, len_max;
    uint8_t not_in; /* enum natrule_family, where this is something else; 0: none */
    enum holds holds;
};

static const struct loaded loads[] = {
    {NFT_PAYLOAD_NETWORK_HEADER, 9, 1, 1, NATRULE_IPV6, HOLDS_PROTOCOL},
    {NFT_PAYLOAD_NETWORK_HEADER, 6, 1, 1, NATRULE_IPV4, HOLDS_PROTOCOL},
    {NFT_PAYLOAD_NETWORK_HEADER, 16, 4, 4, NATRULE_IPV6, HOLDS_ADDRESS},
    {NFT_PAYLOAD_NETWORK_HEADER, 16, 1, 3, NATRULE_IPV6, HOLDS_NETWORK},
    {NFT_PAYLOAD_NETWORK_HEADER, 24, 16, 16, NATRULE_IPV4, HOLDS_ADDRESS},
    {NFT_PAYLOAD_NETWORK_HEADER, 24, 1, 15, NATRULE_IPV4, HOLDS_NETWORK},
    {NFT_PAYLOAD_NETWORK_HEADER, 12, 1, 4, NATRULE_IPV6, HOLDS_ORIGIN},
    {NFT_PAYLOAD_NETWORK_HEADER, 8, 1, 16, NATRULE_IPV4, HOLDS_ORIGIN},
    {NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 2, 0, HOLDS_PORT},
};

static bool number(struct netlink_attrs attrs, uint16_t type, uint32_t *ret)
{
    struct netlink_attr attr;

    return netlink_attr_find(attrs, type, &attr) && netlink_attr_be32(&attr, ret);
}

/* The constant inside an attribute of kind nft_data. */
static bool constant(struct netlink_attrs attrs, uint16_t type, struct netlink_attr *ret)
{
    struct netlink_attr attr;

    return netlink_attr_find(attrs, type, &attr) &&
           netlink_attr_find(netlink_attr_nested(&attr), NFTA_DATA_VALUE, ret);
}

/* Those of 16 bytes lie over those of 4. False for the verdict's, and for what is none. */
static bool register_index(struct netlink_attrs attrs, uint16_t type, size_t *ret)
{
    uint32_t name;

    if (!number(attrs, type, &name) || name == NFT_REG_VERDICT) {
        return false;
    }
    *ret = name < NFT_REG32_00 ? (name - NFT_REG_1) * (REGISTERS / REGISTERS_WHOLE)
                               : name - NFT_REG32_00;
    return *ret < REGISTERS;
}

static void load(struct walk *walk, struct netlink_attrs attrs, uint16_t type, enum holds holds)
{
    size_t at;

    if (register_index(attrs, type, &at)) {
        walk->registers[at] = holds;
    }
}

static enum holds held(const struct walk *walk, struct netlink_attrs attrs, uint16_t type)
{
    size_t at;

    return register_index(attrs, type, &at) ? walk->registers[at] : HOLDS_OTHER;
}

static bool port_of(const struct netlink_attr *value, uint32_t *ret)
{
    if (value->len != sizeof(uint16_t)) {
        return false;
    }
    *ret = (uint32_t)value->data[0] << 8 | value->data[1];
    return true;
}

/* ---- expressions of nft ---- */

static void on_meta(struct walk *walk, struct netlink_attrs attrs)
{
    uint32_t key = UINT32_MAX;

    number(attrs, NFTA_META_KEY, &key);
    load(walk, attrs, NFTA_META_DREG,
         key == NFT_META_L4PROTO                          ? HOLDS_PROTOCOL
         : key == NFT_META_IIF || key == NFT_META_IIFNAME ? HOLDS_ORIGIN
                                                          : HOLDS_OTHER);
}

static void on_payload(struct walk *walk, struct netlink_attrs attrs)
{
    uint32_t base = UINT32_MAX, offset = 0, len = 0;
    enum holds holds = HOLDS_OTHER;

    number(attrs, NFTA_PAYLOAD_BASE, &base);
    number(attrs, NFTA_PAYLOAD_OFFSET, &offset);
    number(attrs, NFTA_PAYLOAD_LEN, &len);
    for (size_t i = 0; i < ARRAY_LEN(loads) && holds == HOLDS_OTHER; i++) {
        const struct loaded *one = &loads[i];

        if (one->base == base && one->offset == offset && len >= one->len_min &&
            len <= one->len_max && (!one->not_in || one->not_in != walk->family)) {
            holds = one->holds;
        }
    }
    load(walk, attrs, NFTA_PAYLOAD_DREG, holds);
}

static void on_bitwise(struct walk *walk, struct netlink_attrs attrs)
{
    enum holds holds = held(walk, attrs, NFTA_BITWISE_SREG);
    struct netlink_attr mask;
    bool whole = constant(attrs, NFTA_BITWISE_MASK, &mask);

    for (size_t i = 0; whole && i < mask.len; i++) {
        whole = mask.data[i] == 0xff;
    }
    if (!whole) {
        holds = holds == HOLDS_ADDRESS || holds == HOLDS_NETWORK ? HOLDS_NETWORK
                : holds == HOLDS_ORIGIN                          ? HOLDS_ORIGIN
                                                                 : HOLDS_OTHER;
    }
    load(walk, attrs, NFTA_BITWISE_DREG, holds);
}

static void compare_port(struct walk *walk, uint32_t op, const struct netlink_attr *value)
{
    uint32_t port;

    if (!port_of(value, &port)) {
        walk->unfit = true;
        return;
    }
    switch (op) {
    case NFT_CMP_EQ:
        walk->first = walk->last = port;
        break;
    case NFT_CMP_GT:
        walk->first = port + 1;
        break;
    case NFT_CMP_GTE:
        walk->first = port;
        break;
    case NFT_CMP_LT:
        walk->last = port ? port - 1 : 0;
        break;
    case NFT_CMP_LTE:
        walk->last = port;
        break;
    default:
        walk->unfit = true;
    }
}

static void compare_equal(struct walk *walk, enum holds holds, const struct netlink_attr *value)
{
    switch (holds) {
    case HOLDS_PROTOCOL:
        walk->protocol = value->len == 1 ? value->data[0] : 0;
        break;
    case HOLDS_ADDRESS:
        walk->unfit = walk->unfit || (value->len != 4 && value->len != 16);
        if (!walk->unfit) {
            walk->address_len = (uint8_t)value->len;
            memcpy(walk->address, value->data, value->len);
        }
        break;
    case HOLDS_NETWORK:
    case HOLDS_ORIGIN:
        walk->unfit = true;
        break;
    default:
        break;
    }
}

static void on_cmp(struct walk *walk, struct netlink_attrs attrs)
{
    enum holds holds = held(walk, attrs, NFTA_CMP_SREG);
    struct netlink_attr value;
    uint32_t op = UINT32_MAX;

    number(attrs, NFTA_CMP_OP, &op);
    if (!constant(attrs, NFTA_CMP_DATA, &value)) {
        walk->unfit = true;
    } else if (holds == HOLDS_PORT) {
        compare_port(walk, op, &value);
    } else if (op == NFT_CMP_EQ) {
        compare_equal(walk, holds, &value);
    } else if (op != NFT_CMP_NEQ && holds != HOLDS_OTHER) {
        walk->unfit = true;
    }
}

static void on_range(struct walk *walk, struct netlink_attrs attrs)
{
    enum holds holds = held(walk, attrs, NFTA_RANGE_SREG);
    struct netlink_attr from, to;
    uint32_t op = UINT32_MAX;

    number(attrs, NFTA_RANGE_OP, &op);
    if (holds == HOLDS_OTHER || (op == NFT_RANGE_NEQ && holds != HOLDS_PORT)) {
        return;
    }
    walk->unfit = walk->unfit || op != NFT_RANGE_EQ || holds != HOLDS_PORT ||
                  !constant(attrs, NFTA_RANGE_FROM_DATA, &from) ||
                  !constant(attrs, NFTA_RANGE_TO_DATA, &to) || !port_of(&from, &walk->first) ||
                  !port_of(&to, &walk->last);
}

static void on_lookup(struct walk *walk, struct netlink_attrs attrs)
{
    uint32_t flags = 0;

    number(attrs, NFTA_LOOKUP_FLAGS, &flags);
    if (held(walk, attrs, NFTA_LOOKUP_SREG) != HOLDS_OTHER && !(flags & NFT_LOOKUP_F_INV)) {
        walk->unfit = true;
    }
    load(walk, attrs, NFTA_LOOKUP_DREG, HOLDS_OTHER);
}

static void on_immediate(struct walk *walk, struct netlink_attrs attrs)
{
    load(walk, attrs, NFTA_IMMEDIATE_DREG, HOLDS_OTHER);
}

static void on_nat(struct walk *walk, struct netlink_attrs attrs)
{
    uint32_t type = NFT_NAT_SNAT, family = 0;

    number(attrs, NFTA_NAT_TYPE, &type);
    number(attrs, NFTA_NAT_FAMILY, &family);
    walk->translates = walk->translates || type == NFT_NAT_DNAT;
    walk->nat_family = (uint8_t)family;
}

/* ---- structs of iptables ---- */

static void match_ports(struct walk *walk, uint8_t protocol, const uint16_t spts[2],
                        const uint16_t dpts[2], uint8_t inverted)
{
    walk->protocol = protocol;
    if (dpts[0] != 0 || dpts[1] != UINT16_MAX) { /* else it is about flags */
        walk->first = dpts[0];
        walk->last = dpts[1];
    }
    walk->unfit = walk->unfit || inverted || spts[0] != 0 || spts[1] != UINT16_MAX;
}

static void match_tcp(struct walk *walk, const struct netlink_attr *info)
{
    struct xt_tcp tcp;

    if (info->len < sizeof(tcp)) {
        walk->unfit = true;
        return;
    }
    memcpy(&tcp, info->data, sizeof(tcp));
    match_ports(walk, IPPROTO_TCP, tcp.spts, tcp.dpts, tcp.invflags);
}

static void match_udp(struct walk *walk, const struct netlink_attr *info)
{
    struct xt_udp udp;

    if (info->len < sizeof(udp)) {
        walk->unfit = true;
        return;
    }
    memcpy(&udp, info->data, sizeof(udp));
    match_ports(walk, IPPROTO_UDP, udp.spts, udp.dpts, udp.invflags);
}

/* Of one port or one range. */
static void match_multiport(struct walk *walk, const struct netlink_attr *info)
{
    struct xt_multiport_v1 many;

    if (info->len < sizeof(many)) {
        walk->unfit = true;
        return;
    }
    memcpy(&many, info->data, sizeof(many));
    walk->unfit = walk->unfit || many.invert || many.flags != XT_MULTIPORT_DESTINATION ||
                  many.count != (many.pflags[0] ? 2 : 1);
    walk->first = many.ports[0];
    walk->last = many.pflags[0] ? many.ports[1] : many.ports[0];
}

static void match_set(struct walk *walk, const struct netlink_attr *info)
{
    walk->unfit = true;
}

static void on_match(struct walk *walk, struct netlink_attrs attrs)
{
    static const struct {
        const char *name;
        void (*fn)(struct walk *walk, const struct netlink_attr *info);
    } matches[] = {{"tcp", match_tcp},
                   {"udp", match_udp},
                   {"multiport", match_multiport},
                   {"set", match_set},
                   {"iprange", match_set}};
    struct netlink_attr name, info;

    if (!netlink_attr_find(attrs, NFTA_MATCH_NAME, &name) ||
        !netlink_attr_find(attrs, NFTA_MATCH_INFO, &info)) {
        walk->unfit = true;
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(matches); i++) {
        if (netlink_attr_is(&name, matches[i].name)) {
            matches[i].fn(walk, &info);
        }
    }
}

static void on_target(struct walk *walk, struct netlink_attrs attrs)
{
    struct netlink_attr name;

    walk->translates = walk->translates || (netlink_attr_find(attrs, NFTA_TARGET_NAME, &name) &&
                                            netlink_attr_is(&name, "DNAT"));
}

/* ---- the rule ---- */

static void on_other(struct walk *walk, struct netlink_attrs attrs)
{
    memset(walk->registers, 0, sizeof(walk->registers));
}

static void walk_expression(struct walk *walk, struct netlink_attrs expression)
{
    static const struct {
        const char *name;
        void (*fn)(struct walk *walk, struct netlink_attrs attrs);
    } kinds[] = {
        {"meta", on_meta},
        {"payload", on_payload},
        {"bitwise", on_bitwise},
        {"cmp", on_cmp},
        {"range", on_range},
        {"lookup", on_lookup},
        {"immediate", on_immediate},
        {"nat", on_nat},
        {"match", on_match},
        {"target", on_target},
        {"", on_other},
    };
    struct netlink_attr name, data = {0};
    size_t i = 0;

    if (!netlink_attr_find(expression, NFTA_EXPR_NAME, &name)) {
        walk->unfit = true;
        return;
    }
    netlink_attr_find(expression, NFTA_EXPR_DATA, &data);
    while (i + 1 < ARRAY_LEN(kinds) && !netlink_attr_is(&name, kinds[i].name)) {
        i++;
    }
    kinds[i].fn(walk, netlink_attr_nested(&data));
}

bool natrule_parse(uint8_t family, struct netlink_attrs rule, struct natrule *ret)
{
    struct walk walk = {.family = family};
    struct netlink_attr list, element;
    struct netlink_attrs rest;
    uint8_t len;

    if (!netlink_attr_find(rule, NFTA_RULE_EXPRESSIONS, &list)) {
        return false;
    }
    rest = netlink_attr_nested(&list);
    while (netlink_attr_next(&rest, &element)) {
        walk_expression(&walk, netlink_attr_nested(&element));
    }
    family = family == NATRULE_INET ? walk.nat_family : family;
    len = walk.address_len         ? walk.address_len
          : family == NATRULE_IPV4 ? 4
          : family == NATRULE_IPV6 ? 16
                                   : 0;
    if (!walk.translates || walk.unfit || !len || walk.first < 1 || walk.first > walk.last ||
        walk.last > UINT16_MAX || (walk.protocol != IPPROTO_TCP && walk.protocol != IPPROTO_UDP)) {
        return false;
    }
    *ret = (struct natrule){.protocol = walk.protocol == IPPROTO_TCP ? PORT_TCP : PORT_UDP,
                            .address_len = len,
                            .first = (uint16_t)walk.first,
                            .last = (uint16_t)walk.last};
    memcpy(ret->address, walk.address, len);
    return true;
}
