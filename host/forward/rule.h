/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which guest listener goes to which host address: the user's rules between the implicit ones.
 * Pure.
 *
 * The first rule that fits decides: protocol equal or any, port in the guest range, and address: a
 * listener on 0.0.0.0 or :: fits every rule, else it must equal guestIP, or be ::1 where guestIP is
 * 127.0.0.1, or guestIP is unspecified without guestIPMustBeZero. An ignore rule with a specific
 * guestIP does not apply to listeners on all addresses.
 */
#pragma once

#include "forward/endpoint.h"

enum forward_verdict {
    FORWARD_VERDICT_NONE,    /* no rule fits */
    FORWARD_VERDICT_IGNORED, /* an ignore rule fits */
    FORWARD_VERDICT_FORWARD,
};

#define FORWARD_RULE_IMPLICIT -1 /* index of the rules that nobody wrote */

struct forward_match {
    struct forward_endpoint host; /* with FORWARD_VERDICT_FORWARD; a socket is the rule's */
    int rule;                     /* index, or FORWARD_RULE_IMPLICIT */
};

/*
 * Looks @guest up in: ignore 22 and @ssh_port on any address; @rules in order; everything on
 * 127.0.0.1 to the same port. @ret is set unless no rule fits.
 */
enum forward_verdict forward_rule_match(const struct config_port_forward *rules, size_t count,
                                        int ssh_port, const struct forward_endpoint *guest,
                                        struct forward_match *ret);
/*
 * What a rule that needs no listener leads from and to, at @port of its guest range (any number
 * with a guestSocket). Sockets are the rule's.
 */
void forward_rule_ends(const struct config_port_forward *rule, enum config_proto proto, int port,
                       struct forward_endpoint *ret_guest, struct forward_endpoint *ret_host);
/*
 * The same ends, in the same direction, whatever else is set. @wanted's protocol "any" is that of
 * every rule.
 */
bool forward_rule_same(const struct config_port_forward *rule,
                       const struct config_port_forward *wanted);
/* True when leading ignore rules cover every port of @proto: then silence is wanted. */
bool forward_rules_silent(const struct config_port_forward *rules, size_t count,
                          enum config_proto proto);
