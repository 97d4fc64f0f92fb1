/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/servers.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "util/file.h"

#define RESOLV_CONF_MAX (1u << 20)
#define KEYWORD         "nameserver"
#define BLANKS          " \t\r"

/* Literals alone: nothing is asked. Takes a zone too, as in fe80::1%eth0. */
static void add_server(struct dns_servers *servers, const char *text, uint16_t port)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found = NULL;
    struct dns_address address = {0};
    char service[8];

    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(text, service, &hints, &found) != 0) {
        log_debug("'%s' is no address of a DNS server, ignoring", text);
        return;
    }
    address.len = MIN(found->ai_addrlen, (socklen_t)sizeof(address.v6));
    memcpy(&address.any, found->ai_addr, address.len);
    servers->items[servers->len++] = address;
    freeaddrinfo(found);
}

void dns_servers_parse(const char *text, uint16_t port, struct dns_servers *ret)
{
    *ret = (struct dns_servers){0};
    for (const char *line = text; *line && ret->len < DNS_SERVERS_MAX;
         line += strcspn(line, "\n"), line += *line == '\n') {
        scoped(free) char *word = NULL;
        const char *at = line;
        size_t blanks;

        if (strncmp(at, KEYWORD, strlen(KEYWORD)) != 0) {
            continue;
        }
        at += strlen(KEYWORD);
        blanks = strspn(at, BLANKS);
        word = xstrndup(at + blanks, strcspn(at + blanks, BLANKS "\n#;"));
        if (blanks && *word) {
            add_server(ret, word, port);
        }
    }
}

void dns_servers_load(const char *path, uint16_t port, struct dns_servers *ret)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(error_done) struct error err = ERROR_INIT;

    if (file_read(path, RESOLV_CONF_MAX, &text, &err) < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "no servers known, ignoring");
    }
    dns_servers_parse(buf_str(&text), port, ret);
}
