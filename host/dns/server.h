/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's resolver for a guest: DNS by UDP and TCP on ports of 127.0.0.1. Own names and the
 * host's table are answered at once; other addresses are looked up as the host's programs do;
 * everything else goes to the host's servers. What is done to the host's resolv.conf, hosts and
 * nsswitch.conf is seen by the next query. Without a server the answer is SERVFAIL; no other server
 * is ever asked.
 */
#pragma once

#include "dns/lookup.h"
#include "dns/names.h"
#include "util/loop.h"

struct dns_server;

struct dns_server_options {
    bool ipv6;
    /* NULL or 0: the usual ones; for tests. */
    const char *resolv_conf, *hosts, *nsswitch;
    uint16_t server_port;
    lookup_fn lookup;
    int64_t idle_ms; /* of TCP connections */
};

/* @take_names is consumed, on failure too; the paths are borrowed for as long as the server lives.
 */
int dns_server_new(struct loop *loop, struct dns_names *take_names,
                   const struct dns_server_options *options, struct dns_server **ret,
                   struct error *err);
void dns_server_free(struct dns_server *server);
SCOPED_PTR(struct dns_server, dns_server_free)

uint16_t dns_server_udp_port(const struct dns_server *server);
uint16_t dns_server_tcp_port(const struct dns_server *server);
