/* SPDX-License-Identifier: Apache-2.0 */
#include "ports.h"

#include "base/alloc.h"
#include "base/log.h"
#include "kube.h"
#include "nat.h"
#include "sockets.h"

struct ports {
    ports_changed_fn *changed;
    void *arg;
    struct sockets *sockets;
    struct nat *nat;   /* NULL: not to be had */
    struct kube *kube; /* the same */
    struct portset current;
};

/* A server of the node's own keeps its port, whatever a service says of that number. */
static void add_services(struct portset *set, const struct portset *services)
{
    size_t before = set->count;

    for (size_t i = 0; i < services->count; i++) {
        const struct portset_entry *entry = &services->entries[i];
        const struct portset others = {.entries = set->entries, .count = before};

        if (!portset_has_port(&others, entry->protocol, entry->port)) {
            const struct portset one = {.entries = (struct portset_entry *)entry, .count = 1};

            portset_add_all(set, &one, PORT_KUBERNETES);
        }
    }
}

/* True when the set changed. */
static bool gather(struct ports *ports)
{
    scoped(portset_done) struct portset now = {0};
    bool same;

    portset_add_all(&now, sockets_tcp(ports->sockets), PORT_SOCKET);
    portset_add_all(&now, sockets_udp(ports->sockets), PORT_SOCKET);
    if (ports->nat) {
        portset_add_all(&now, nat_current(ports->nat), PORT_CONTAINER);
    }
    if (ports->kube) {
        add_services(&now, kube_current(ports->kube));
    }
    portset_seal(&now);
    same = portset_equal(&ports->current, &now);
    portset_copy(&ports->current, &now);
    return !same;
}

static void on_source_changed(void *arg)
{
    struct ports *ports = arg;

    if (gather(ports)) {
        ports->changed(ports, ports->arg);
    }
}

static void open_others(struct ports *ports, const struct ports_options *options)
{
    const struct kube_options kube = {.loop = options->loop,
                                      .children = options->children,
                                      .changed = on_source_changed,
                                      .arg = ports};
    scoped(error_done) struct error err = ERROR_INIT;

    if (nat_open(options->loop, on_source_changed, ports, &ports->nat, &err) < 0) {
        log_error_of(LOG_LEVEL_INFO, &err, "no ports of containers without sockets, ignoring");
        error_done(&err);
    }
    if (options->children && kube_open(&kube, &ports->kube, &err) < 0) {
        log_error_of(LOG_LEVEL_INFO, &err, "no services of a cluster, ignoring");
    }
}

int ports_open(const struct ports_options *options, struct ports **ret, struct error *err)
{
    struct ports *ports = xnew(struct ports);
    int r;

    *ports = (struct ports){.changed = options->changed, .arg = options->arg};
    r = sockets_open(&(struct sockets_options){.loop = options->loop,
                                               .no_bpf = options->no_bpf,
                                               .changed = on_source_changed,
                                               .arg = ports},
                     &ports->sockets, err);
    if (r < 0) {
        ports_close(ports);
        return r;
    }
    open_others(ports, options);
    gather(ports);
    *ret = ports;
    return 0;
}

void ports_close(struct ports *ports)
{
    if (!ports) {
        return;
    }
    kube_close(ports->kube);
    nat_close(ports->nat);
    sockets_close(ports->sockets);
    portset_done(&ports->current);
    free(ports);
}

const struct portset *ports_current(const struct ports *ports)
{
    return &ports->current;
}

void ports_want_udp(struct ports *ports, const struct udp_range *ranges, size_t count)
{
    sockets_want_udp(ports->sockets, ranges, count);
}

const char *ports_method(const struct ports *ports)
{
    return sockets_method(ports->sockets);
}
