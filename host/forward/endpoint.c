/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/endpoint.h"

#include <arpa/inet.h>
#include "base/alloc.h"
#include "util/strv.h"

struct forward_endpoint forward_endpoint_copy(const struct forward_endpoint *endpoint)
{
    struct forward_endpoint copy = *endpoint;

    copy.socket = xstrdup(endpoint->socket);
    return copy;
}

void forward_endpoint_done(struct forward_endpoint *endpoint)
{
    free((char *)endpoint->socket);
    endpoint->socket = NULL;
}

bool forward_endpoint_equal(const struct forward_endpoint *a, const struct forward_endpoint *b)
{
    if (a->proto != b->proto || !str_eq(a->socket, b->socket)) {
        return false;
    }
    return a->socket || (a->port == b->port && forward_address_equal(&a->address, &b->address));
}

char *forward_endpoint_format(const struct forward_endpoint *endpoint)
{
    return endpoint->socket ? xstrdup(endpoint->socket)
                            : forward_address_format(&endpoint->address, endpoint->port);
}

bool forward_address_is_any(const struct config_address *address)
{
    if (address->family == AF_INET) {
        return address->v4.s_addr == htonl(INADDR_ANY);
    }
    return IN6_IS_ADDR_UNSPECIFIED(&address->v6);
}

bool forward_address_is_loopback(const struct config_address *address)
{
    if (address->family == AF_INET) {
        return address->v4.s_addr == htonl(INADDR_LOOPBACK);
    }
    return IN6_IS_ADDR_LOOPBACK(&address->v6);
}

bool forward_address_equal(const struct config_address *a, const struct config_address *b)
{
    if (a->family != b->family) {
        return false;
    }
    return a->family == AF_INET ? a->v4.s_addr == b->v4.s_addr : IN6_ARE_ADDR_EQUAL(&a->v6, &b->v6);
}

char *forward_address_format(const struct config_address *address, uint16_t port)
{
    char text[INET6_ADDRSTRLEN] = "";

    inet_ntop(address->family, &address->v4, text, sizeof(text));
    return xasprintf(address->family == AF_INET ? "%s:%u" : "[%s]:%u", text, port);
}

struct config_address forward_address_dialled(const struct config_address *address)
{
    struct config_address dialled = *address;

    if (!forward_address_is_any(address)) {
        return dialled;
    }
    if (address->family == AF_INET) {
        dialled.v4.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        dialled.v6 = in6addr_loopback;
    }
    return dialled;
}
