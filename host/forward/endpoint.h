/* SPDX-License-Identifier: Apache-2.0 */
/* One end of a forward: an address with a port, or a Unix socket; on the host or in the guest. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include "config/config.h"

struct forward_endpoint {
    enum config_proto proto; /* TCP or UDP; a socket counts as TCP */
    struct config_address address;
    uint16_t port;
    bool named;         /* a rule names the address: the guest's agent may dial it if not its own */
    const char *socket; /* path, then address and port mean nothing; borrowed. NULL: none */
};

/* With a socket path of its own, which forward_endpoint_done() frees. */
struct forward_endpoint forward_endpoint_copy(const struct forward_endpoint *endpoint);
void forward_endpoint_done(struct forward_endpoint *endpoint);
bool forward_endpoint_equal(const struct forward_endpoint *a, const struct forward_endpoint *b);
/* "127.0.0.1:80", "[::1]:80" or the socket's path. Caller frees. */
char *forward_endpoint_format(const struct forward_endpoint *endpoint);

bool forward_address_is_any(const struct config_address *address);
bool forward_address_is_loopback(const struct config_address *address); /* 127.0.0.1 or ::1 */
bool forward_address_equal(const struct config_address *a, const struct config_address *b);
/* "127.0.0.1:80" or "[::1]:80". Caller frees. */
char *forward_address_format(const struct config_address *address, uint16_t port);
/* What is dialled to reach a listener on @address: itself, or loopback for 0.0.0.0 and ::. */
struct config_address forward_address_dialled(const struct config_address *address);
