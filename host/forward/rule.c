/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/rule.h"

#include <arpa/inet.h>
#include <string.h>
#include "base/alloc.h"

#define SSH_PORT 22

bool forward_address_is_any(const struct config_address *address)
{
    if (address->family == AF_INET) {
        return address->v4.s_addr == htonl(INADDR_ANY);
    }
    return IN6_IS_ADDR_UNSPECIFIED(&address->v6);
}

bool forward_address_equal(const struct config_address *a, const struct config_address *b)
{
    if (a->family != b->family) {
        return false;
    }
    return a->family == AF_INET ? a->v4.s_addr == b->v4.s_addr : IN6_ARE_ADDR_EQUAL(&a->v6, &b->v6);
}

char *forward_address_format(const struct config_address *address, uint16_t port)
{
    char text[INET6_ADDRSTRLEN] = "";

    inet_ntop(address->family, &address->v4, text, sizeof(text));
    return xasprintf(address->family == AF_INET ? "%s:%u" : "[%s]:%u", text, port);
}

static bool is_v4_loopback(const struct config_address *address)
{
    return address->family == AF_INET && address->v4.s_addr == htonl(INADDR_LOOPBACK);
}

static bool is_v6_loopback(const struct config_address *address)
{
    return address->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->v6);
}

static bool address_fits(const struct config_port_forward *rule, const struct config_address *guest)
{
    return forward_address_is_any(guest) || forward_address_equal(guest, &rule->guest_ip) ||
           (is_v6_loopback(guest) && is_v4_loopback(&rule->guest_ip)) ||
           (forward_address_is_any(&rule->guest_ip) && !rule->guest_ip_must_be_zero);
}

static bool proto_fits(enum config_proto rule, enum config_proto guest)
{
    return rule == CONFIG_PROTO_ANY || rule == guest;
}

static bool rule_fits(const struct config_port_forward *rule, const struct forward_endpoint *guest)
{
    if (*rule->guest_socket || rule->reverse || !proto_fits(rule->proto, guest->proto) ||
        guest->port < rule->guest_first || guest->port > rule->guest_last ||
        !address_fits(rule, &guest->address)) {
        return false;
    }
    return !(rule->ignore && forward_address_is_any(&guest->address) &&
             !forward_address_is_any(&rule->guest_ip));
}

enum forward_verdict forward_rule_match(const struct config_port_forward *rules, size_t count,
                                        int ssh_port, const struct forward_endpoint *guest,
                                        struct forward_target *ret)
{
    const struct config_address loopback = {.family = AF_INET, .v4.s_addr = htonl(INADDR_LOOPBACK)};

    if (guest->port == SSH_PORT || guest->port == ssh_port) {
        return FORWARD_VERDICT_IGNORED;
    }
    for (size_t i = 0; i < count; i++) {
        const struct config_port_forward *rule = &rules[i];

        if (!rule_fits(rule, guest)) {
            continue;
        }
        if (rule->ignore) {
            return FORWARD_VERDICT_IGNORED;
        }
        *ret = (struct forward_target){
            .address = rule->host_ip,
            .port = (uint16_t)(guest->port - rule->guest_first + rule->host_first),
            .socket = *rule->host_socket ? rule->host_socket : NULL,
        };
        return FORWARD_VERDICT_FORWARD;
    }
    if (forward_address_is_any(&guest->address) || is_v4_loopback(&guest->address) ||
        is_v6_loopback(&guest->address)) {
        *ret = (struct forward_target){.address = loopback, .port = guest->port};
        return FORWARD_VERDICT_FORWARD;
    }
    return FORWARD_VERDICT_NONE;
}

bool forward_rules_silent(const struct config_port_forward *rules, size_t count,
                          enum config_proto proto)
{
    int covered = 0; /* ports 1..covered are ignored by the rules so far */

    for (size_t i = 0; i < count && rules[i].ignore; i++) {
        if (proto_fits(rules[i].proto, proto) && rules[i].guest_first <= covered + 1) {
            covered = MAX(covered, rules[i].guest_last);
        }
    }
    return covered == UINT16_MAX;
}
