/* SPDX-License-Identifier: Apache-2.0 */
/* DNS queries of the guest, led to a resolver of ours. */
#pragma once

#include <netinet/in.h>
#include "peer/client.h"

struct peer_redirect;

struct peer_redirect_rules {
    struct in_addr address;      /* whom the guest asks, on port 53 */
    struct in_addr to;           /* the host as the guest sees it */
    uint16_t udp_port, tcp_port; /* there; 0: that protocol is left alone */
};

struct peer_redirect_events {
    /* The rules stand. @method is constant: "nftables", "iptables" or "other". */
    void (*redirected)(const char *method, void *arg);
    /*
     * The last call: the guest's own -errno (EOPNOTSUPP: it has no means; @text has its words or is
     * NULL), or ENOTCONN with the session. The handle is invalid.
     */
    void (*ended)(int r, const char *text, void *arg);
};

/*
 * Has the guest redirect as long as the handle lives. No callback comes before this has returned.
 * NULL while the session is down or no stream can be had.
 */
struct peer_redirect *peer_redirect_open(struct peer *peer, const struct peer_redirect_rules *rules,
                                         const struct peer_redirect_events *events, void *arg);
/* The guest takes the rules away; no callback comes any more. NULL is fine. */
void peer_redirect_close(struct peer_redirect *redirect);
