/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "dns/server.h"
#include "peer/redirect.h"

/* Addresses of QEMU's network, as the guest sees them. */
#define GATEWAY "192.168.5.2" /* the host's 127.0.0.1 */
#define DNS     "192.168.5.3"
#define GUEST   "192.168.5.15"

struct resolver {
    struct peer *peer;
    struct dns_server *server;
    struct peer_redirect *redirect; /* NULL: none in this session */
};

static void on_redirected(const char *method, void *arg)
{
    log_info("the guest asks the host's resolver, by %s", method);
}

static void on_redirect_ended(int r, const char *text, void *arg)
{
    struct resolver *resolver = arg;

    resolver->redirect = NULL;
    if (r != -ENOTCONN) {
        log_warn(
            "the guest cannot ask the host's resolver, but that of QEMU's network: %s, ignoring",
            text ? text : strerror(-r));
    }
}

static const struct peer_redirect_events redirect_events = {
    .redirected = on_redirected,
    .ended = on_redirect_ended,
};

/* Those of the configuration first: the fixed ones win. */
static struct dns_names *names_of(const struct config *config, const char *hostname)
{
    struct dns_names *names = dns_names_new();
    scoped(free) char *by_instance = xasprintf("lima-%s", config->instance);
    const char *const guests[] = {by_instance, hostname};

    for (size_t i = 0; i < config->host_resolver.hosts.len; i++) {
        const struct config_pair *pair = &config->host_resolver.hosts.items[i];

        dns_names_add(names, pair->key, pair->value);
    }
    dns_names_add(names, "host.lima.internal", GATEWAY);
    for (size_t i = 0; i < ARRAY_LEN(guests); i++) {
        scoped(free) char *internal = xasprintf("%s.internal", guests[i]);

        dns_names_add(names, guests[i], GUEST);
        dns_names_add(names, internal, GUEST);
    }
    return names;
}

struct resolver *resolver_new(struct loop *loop, const struct config *config, const char *hostname,
                              struct peer *peer)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct dns_server_options options = {.ipv6 = config->host_resolver.ipv6};
    struct dns_server *server;
    struct resolver *resolver;

    if (!config->host_resolver.enabled || config->plain) {
        return NULL;
    }
    if (dns_server_new(loop, names_of(config, hostname), &options, &server, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err,
                     "the guest has the DNS of QEMU's network alone, ignoring");
        return NULL;
    }
    log_debug("resolver on ports %u (UDP) and %u (TCP)", dns_server_udp_port(server),
              dns_server_tcp_port(server));
    resolver = xnew(struct resolver);
    *resolver = (struct resolver){.peer = peer, .server = server};
    return resolver;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver) {
        peer_redirect_close(resolver->redirect);
        dns_server_free(resolver->server);
        free(resolver);
    }
}

void resolver_connected(struct resolver *resolver)
{
    struct peer_redirect_rules rules;

    if (!resolver || resolver->redirect) {
        return;
    }
    if (!peer_has(resolver->peer, "redirect")) {
        log_debug("the guest agent cannot redirect DNS, ignoring");
        return;
    }
    rules.udp_port = dns_server_udp_port(resolver->server);
    rules.tcp_port = dns_server_tcp_port(resolver->server);
    inet_pton(AF_INET, DNS, &rules.address);
    inet_pton(AF_INET, GATEWAY, &rules.to);
    resolver->redirect = peer_redirect_open(resolver->peer, &rules, &redirect_events, resolver);
}
