/* SPDX-License-Identifier: Apache-2.0 */
/* The servers that resolv.conf names. */
#pragma once

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define DNS_SERVERS_MAX 3 /* as the C library takes */

struct dns_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t len;
};

struct dns_servers {
    struct dns_address items[DNS_SERVERS_MAX];
    size_t len;
};

/* The "nameserver" lines; @port for all. Anything that is no address is passed over. */
void dns_servers_parse(const char *text, uint16_t port, struct dns_servers *ret);
/* The same of a file; none of a file that cannot be read. */
void dns_servers_load(const char *path, uint16_t port, struct dns_servers *ret);
