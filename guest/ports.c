/* SPDX-License-Identifier: Apache-2.0 */
#include "ports.h"

#include "base/alloc.h"
#include "sockets.h"

struct ports {
    ports_changed_fn *changed;
    void *arg;
    struct sockets *sockets;
    struct portset current;
};

/* True when the set changed. */
static bool gather(struct ports *ports)
{
    scoped(portset_done) struct portset now = {0};
    bool same;

    portset_add_all(&now, sockets_tcp(ports->sockets), PORT_SOCKET);
    portset_add_all(&now, sockets_udp(ports->sockets), PORT_SOCKET);
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
    gather(ports);
    *ret = ports;
    return 0;
}

void ports_close(struct ports *ports)
{
    if (!ports) {
        return;
    }
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
