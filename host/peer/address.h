/* SPDX-License-Identifier: Apache-2.0 */
/* Where something in the guest listens, or shall. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "config/config.h"

#define PEER_DATAGRAM_MAX 65507 /* bytes, as UDP over IPv4 has it */

enum peer_network {
    PEER_NETWORK_TCP,
    PEER_NETWORK_UDP,
    PEER_NETWORK_UNIX,
};

struct peer_address {
    enum peer_network network;
    struct config_address address; /* TCP, UDP */
    uint16_t port;                 /* TCP, UDP */
    bool named;       /* TCP, UDP: a rule names the address, so it need not be the guest's own */
    const char *path; /* UNIX: absolute; borrowed */
    const char *user; /* UNIX: with whose rights; NULL: root's; borrowed */
};
