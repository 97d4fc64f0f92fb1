/* SPDX-License-Identifier: Apache-2.0 */
/* Where something in the guest listens, or shall. */
#pragma once

#include <stdint.h>
#include "config/config.h"

enum peer_network {
    PEER_NETWORK_TCP,
    PEER_NETWORK_UDP,
    PEER_NETWORK_UNIX,
};

struct peer_address {
    enum peer_network network;
    struct config_address address; /* TCP, UDP */
    uint16_t port;                 /* TCP, UDP */
    const char *path;              /* UNIX: absolute; borrowed */
    const char *user;              /* UNIX: with whose rights; NULL: root's; borrowed */
};
