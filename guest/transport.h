/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The byte stream to the host, which comes and goes: a virtio-serial port (found by name, waited
 * for if the kernel has not made it yet), or for tests a Unix socket that we listen on, or an
 * inherited descriptor.
 *
 * States: absent -> (device appears, peer connects) -> up <-> down. Bytes flow only while up. Of an
 * inherited descriptor down is the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "loop.h"
#include "uevent.h"

#define TRANSPORT_PORT_DEFAULT "io.lima-vm.guest_agent.0"

struct transport;

struct transport_ops {
    /* The host is there. @stale: bytes of an older conversation may come first. */
    void (*up)(struct transport *transport, bool stale, void *arg);
    void (*data)(struct transport *transport, const void *data, size_t len, void *arg);
    /* There is room again after a short transport_write(). */
    void (*writable)(struct transport *transport, void *arg);
    /* The host went away. @final: it will not come back on this transport. */
    void (*down)(struct transport *transport, bool final, void *arg);
};

/*
 * @spec is "virtio:NAME", "unix:PATH" or "fd:N" (taken over). @ops is borrowed. Callbacks come from
 * the loop only, never from this call. @uevent may be NULL except for virtio.
 */
int transport_open(const char *spec, struct loop *loop, struct uevent *uevent,
                   const struct transport_ops *ops, void *arg, struct transport **ret,
                   struct error *err);
void transport_close(struct transport *transport);
/* Before closing it, for a program that goes on with the same: an inherited descriptor stays open.
 */
void transport_leave(struct transport *transport);
/* Takes up to @len bytes and says how many; fewer when there is no room (writable() follows) or
 * down. */
size_t transport_write(struct transport *transport, const void *data, size_t len);

/* Path under /dev of the virtio port @name by /sys/class/virtio-ports, or NULL. Caller frees. */
char *transport_find_port(const char *name);
