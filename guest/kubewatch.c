/* SPDX-License-Identifier: Apache-2.0 */
#include "kubewatch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "json.h"

#define NAME_MAX_LEN 254 /* a DNS name, with its NUL */

struct published {
    enum port_protocol protocol;
    uint16_t port;
};

struct service {
    char *key; /* "namespace/name" */
    struct published *ports;
    size_t count;
    bool stale; /* not named by the stream that runs now */
};

struct kubewatch {
    struct service *services;
    size_t count, cap;
};

enum kind {
    KIND_OTHER,
    KIND_NODE_PORT,
    KIND_LOAD_BALANCER,
};

struct event_port {
    uint32_t port, node_port;
    bool other_protocol, udp;
};

struct event {
    char type[16];
    char namespace[NAME_MAX_LEN], name[NAME_MAX_LEN];
    enum kind kind;
    struct event_port ports[KUBEWATCH_PORTS_MAX];
    size_t begun; /* elements of the list; those beyond the array are skipped */
};

struct kubewatch *kubewatch_new(void)
{
    return xnew(struct kubewatch);
}

static void service_done(struct service *service)
{
    free(service->key);
    free(service->ports);
}

void kubewatch_clear(struct kubewatch *watch)
{
    for (size_t i = 0; i < watch->count; i++) {
        service_done(&watch->services[i]);
    }
    watch->count = 0;
}

void kubewatch_free(struct kubewatch *watch)
{
    if (!watch) {
        return;
    }
    kubewatch_clear(watch);
    free(watch->services);
    free(watch);
}

/* ---- one event ---- */

static uint32_t port_number(const char *value)
{
    char *end;
    unsigned long number = strtoul(value, &end, 10);

    return *end || number > UINT16_MAX ? 0 : (uint32_t)number;
}

static void on_port_value(struct event *event, const char *member, const char *value)
{
    struct event_port *port;

    if (!event->begun || event->begun > ARRAY_LEN(event->ports)) {
        return;
    }
    port = &event->ports[event->begun - 1];
    if (strcmp(member, "port") == 0) {
        port->port = port_number(value);
    } else if (strcmp(member, "nodePort") == 0) {
        port->node_port = port_number(value);
    } else if (strcmp(member, "protocol") == 0) {
        port->udp = strcmp(value, "UDP") == 0;
        port->other_protocol = !port->udp && strcmp(value, "TCP") != 0;
    }
}

static void on_value(const char *path, const char *value, void *arg)
{
    static const char ports[] = "object.spec.ports[]";
    struct event *event = arg;

    if (strncmp(path, ports, strlen(ports)) == 0) {
        if (!value) {
            event->begun += path[strlen(ports)] == '\0';
        } else if (path[strlen(ports)] == '.') {
            on_port_value(event, path + strlen(ports) + 1, value);
        }
    } else if (!value) {
        return;
    } else if (strcmp(path, "type") == 0) {
        snprintf(event->type, sizeof(event->type), "%s", value);
    } else if (strcmp(path, "object.metadata.namespace") == 0) {
        snprintf(event->namespace, sizeof(event->namespace), "%s", value);
    } else if (strcmp(path, "object.metadata.name") == 0) {
        snprintf(event->name, sizeof(event->name), "%s", value);
    } else if (strcmp(path, "object.spec.type") == 0) {
        event->kind = strcmp(value, "NodePort") == 0       ? KIND_NODE_PORT
                      : strcmp(value, "LoadBalancer") == 0 ? KIND_LOAD_BALANCER
                                                           : KIND_OTHER;
    }
}

/* Into @ret, which has room for KUBEWATCH_PORTS_MAX. */
static size_t published_ports(const struct event *event, struct published *ret)
{
    size_t count = 0;

    for (size_t i = 0; i < MIN(event->begun, ARRAY_LEN(event->ports)); i++) {
        const struct event_port *port = &event->ports[i];
        uint32_t number = event->kind == KIND_NODE_PORT ? port->node_port : port->port;

        if (event->kind != KIND_OTHER && number && !port->other_protocol) {
            ret[count++] = (struct published){port->udp ? PORT_UDP : PORT_TCP, (uint16_t)number};
        }
    }
    return count;
}

/* ---- all of them ---- */

static void drop(struct kubewatch *watch, size_t at)
{
    service_done(&watch->services[at]);
    watch->services[at] = watch->services[--watch->count];
}

static void put(struct kubewatch *watch, const struct event *event)
{
    scoped(free) char *key = xasprintf("%s/%s", event->namespace, event->name);
    struct published ports[KUBEWATCH_PORTS_MAX];
    size_t count = strcmp(event->type, "DELETED") == 0 ? 0 : published_ports(event, ports);
    size_t at = 0;

    while (at < watch->count && strcmp(watch->services[at].key, key) != 0) {
        at++;
    }
    if (at < watch->count) {
        drop(watch, at);
    }
    if (count && watch->count < KUBEWATCH_SERVICES_MAX) {
        array_reserve(watch->services, watch->cap, watch->count + 1);
        watch->services[watch->count++] = (struct service){
            .key = steal(key), .ports = xmemdup(ports, count * sizeof(*ports)), .count = count};
    }
}

int kubewatch_line(struct kubewatch *watch, const char *line)
{
    static struct event event; /* some kilobytes */

    event = (struct event){0};
    if (json_scan(line, on_value, &event) < 0) {
        return -EBADMSG;
    }
    if (strcmp(event.type, "ERROR") == 0) {
        return -EREMOTE;
    }
    if (strcmp(event.type, "ADDED") == 0 || strcmp(event.type, "MODIFIED") == 0 ||
        strcmp(event.type, "DELETED") == 0) {
        if (!event.name[0]) {
            return -EBADMSG;
        }
        put(watch, &event);
    }
    return 0;
}

void kubewatch_begin(struct kubewatch *watch)
{
    for (size_t i = 0; i < watch->count; i++) {
        watch->services[i].stale = true;
    }
}

void kubewatch_settle(struct kubewatch *watch)
{
    for (size_t i = watch->count; i > 0; i--) {
        if (watch->services[i - 1].stale) {
            drop(watch, i - 1);
        }
    }
}

void kubewatch_ports(const struct kubewatch *watch, struct portset *ret)
{
    static const uint8_t any[4];

    portset_clear(ret);
    for (size_t i = 0; i < watch->count; i++) {
        const struct service *service = &watch->services[i];

        for (size_t p = 0; p < service->count; p++) {
            portset_add(ret, service->ports[p].protocol, any, sizeof(any), service->ports[p].port);
        }
    }
    portset_seal(ret);
}
