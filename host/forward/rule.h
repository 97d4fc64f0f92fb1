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

#include <netinet/in.h>
#include <stdbool.h>
#include "config/config.h"

/* A listener, or an address to dial. */
struct forward_endpoint {
    enum config_proto proto; /* TCP or UDP */
    struct config_address address;
    uint16_t port;
};

enum forward_verdict {
    FORWARD_VERDICT_NONE,    /* no rule fits */
    FORWARD_VERDICT_IGNORED, /* an ignore rule fits */
    FORWARD_VERDICT_FORWARD,
};

struct forward_target {
    struct config_address address; /* host side; unused with a socket */
    uint16_t port;
    const char *socket; /* host socket path, borrowed from the rule; NULL: address and port */
};

/*
 * Looks @guest up in: ignore 22 and @ssh_port on any address; @rules in order; everything on
 * 127.0.0.1 to the same port. @ret is set with FORWARD_VERDICT_FORWARD.
 */
enum forward_verdict forward_rule_match(const struct config_port_forward *rules, size_t count,
                                        int ssh_port, const struct forward_endpoint *guest,
                                        struct forward_target *ret);
/* True when leading ignore rules cover every port of @proto: then silence is wanted. */
bool forward_rules_silent(const struct config_port_forward *rules, size_t count,
                          enum config_proto proto);

bool forward_address_is_any(const struct config_address *address);
bool forward_address_equal(const struct config_address *a, const struct config_address *b);
/* "127.0.0.1:80" or "[::1]:80". Caller frees. */
char *forward_address_format(const struct config_address *address, uint16_t port);
