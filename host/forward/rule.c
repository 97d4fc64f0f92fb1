/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/rule.h"

#include <string.h>
#include "base/macros.h"

#define SSH_PORT 22

static bool is_v4_loopback(const struct config_address *address)
{
    return address->family == AF_INET && address->v4.s_addr == htonl(INADDR_LOOPBACK);
}

static bool address_fits(const struct config_port_forward *rule, const struct config_address *guest)
{
    return forward_address_is_any(guest) || forward_address_equal(guest, &rule->guest_ip) ||
           (guest->family == AF_INET6 && forward_address_is_loopback(guest) &&
            is_v4_loopback(&rule->guest_ip)) ||
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

/* The host's side of a rule for @port of its guest range. */
static struct forward_endpoint host_side(const struct config_port_forward *rule,
                                         enum config_proto proto, int port)
{
    if (*rule->host_socket) {
        return (struct forward_endpoint){.proto = proto, .socket = rule->host_socket};
    }
    return (struct forward_endpoint){
        .proto = proto,
        .address = rule->host_ip,
        .port = (uint16_t)(port - rule->guest_first + rule->host_first),
    };
}

void forward_rule_ends(const struct config_port_forward *rule, enum config_proto proto, int port,
                       struct forward_endpoint *ret_guest, struct forward_endpoint *ret_host)
{
    if (*rule->guest_socket) {
        *ret_guest = (struct forward_endpoint){.proto = proto, .socket = rule->guest_socket};
        *ret_host = host_side(rule, proto, rule->guest_first);
        return;
    }
    *ret_guest = (struct forward_endpoint){
        .proto = proto, .address = rule->guest_ip, .port = (uint16_t)port, .named = true};
    *ret_host = host_side(rule, proto, port);
}

/* One side: the socket, or address and ports. */
static bool side_same(const char *a_socket, const struct config_address *a, int a_first, int a_last,
                      const char *b_socket, const struct config_address *b, int b_first, int b_last)
{
    if (*a_socket || *b_socket) {
        return strcmp(a_socket, b_socket) == 0;
    }
    return a_first == b_first && a_last == b_last && forward_address_equal(a, b);
}

bool forward_rule_same(const struct config_port_forward *a, const struct config_port_forward *b)
{
    return a->reverse == b->reverse && a->ignore == b->ignore &&
           (a->proto == b->proto || b->proto == CONFIG_PROTO_ANY) &&
           side_same(a->guest_socket, &a->guest_ip, a->guest_first, a->guest_last, b->guest_socket,
                     &b->guest_ip, b->guest_first, b->guest_last) &&
           side_same(a->host_socket, &a->host_ip, a->host_first, a->host_last, b->host_socket,
                     &b->host_ip, b->host_first, b->host_last);
}

static enum forward_verdict match_fallback(const struct forward_endpoint *guest,
                                           struct forward_match *ret)
{
    if (!forward_address_is_any(&guest->address) && !forward_address_is_loopback(&guest->address)) {
        return FORWARD_VERDICT_NONE;
    }
    ret->host = (struct forward_endpoint){
        .proto = guest->proto,
        .address = {.family = AF_INET, .v4.s_addr = htonl(INADDR_LOOPBACK)},
        .port = guest->port,
    };
    return FORWARD_VERDICT_FORWARD;
}

enum forward_verdict forward_rule_match(const struct config_port_forward *rules, size_t count,
                                        int ssh_port, const struct forward_endpoint *guest,
                                        struct forward_match *ret)
{
    *ret = (struct forward_match){.rule = FORWARD_RULE_IMPLICIT};
    if (guest->port == SSH_PORT || guest->port == ssh_port) {
        return FORWARD_VERDICT_IGNORED;
    }
    for (size_t i = 0; i < count; i++) {
        if (!rule_fits(&rules[i], guest)) {
            continue;
        }
        ret->rule = (int)i;
        if (rules[i].ignore) {
            return FORWARD_VERDICT_IGNORED;
        }
        ret->host = host_side(&rules[i], guest->proto, guest->port);
        return FORWARD_VERDICT_FORWARD;
    }
    return match_fallback(guest, ret);
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
