/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the table drives: something that listens at one end and carries connections (or datagrams)
 * to the other. Each kind fills one table of functions: tcp (TCP and Unix sockets of the host),
 * udp, reverse (a socket in the guest whose connections go to one of the host). A kind's struct
 * begins with struct forward_listener.
 */
#pragma once

#include "base/error.h"
#include "forward/rule.h"
#include "peer/dialer.h"
#include "util/loop.h"

struct peer;
struct forward_listener;

/*
 * From the loop, never from open(): a listener that became ready late, or lost and regained what it
 * listens on (a reverse one does with the session). @reason is for people, NULL when it listens.
 * May stop or close the listener.
 */
typedef void (*forward_listener_fn)(struct forward_listener *listener, bool listening,
                                    const char *reason, void *arg);

/* Surroundings. All borrowed and longer-lived than any listener. */
struct forward_env {
    struct loop *loop;
    struct dialer *dialer;
    struct peer *peer;    /* for reverse; NULL: there is none */
    bool udp;             /* the dialer carries it */
    unsigned udp_idle_ms; /* a UDP client that is quiet so long is forgotten; 0: 90 s */
    const char *user;     /* whose rights guest sockets are dialled and made with */
    forward_listener_fn changed;
    void *arg;
};

struct forward_listener_ops {
    /*
     * @host and @guest are copied. 0: it listens; 1: it will call changed() when it does.
     * With host port 0 any free port is taken.
     * Errors: EADDRINUSE (taken), EACCES (port below 1024), EADDRNOTAVAIL, EOPNOTSUPP.
     */
    int (*open)(const struct forward_env *env, const struct forward_endpoint *host,
                const struct forward_endpoint *guest, struct forward_listener **ret,
                struct error *err);
    /* Where new connections go from now on; established ones stay. NULL: cannot. */
    void (*retarget)(struct forward_listener *listener, const struct forward_endpoint *guest);
    /* Stops listening; connections go on to their own end. Then only close and connections. */
    void (*stop)(struct forward_listener *listener);
    /* Stops listening, resets the connections, frees it. */
    void (*close)(struct forward_listener *listener);
    /* Present connections, or clients of a UDP port. */
    size_t (*connections)(const struct forward_listener *listener);
};

struct forward_listener {
    const struct forward_listener_ops *ops;
    uint16_t port; /* that the host listens on; 0: a Unix socket */
};

extern const struct forward_listener_ops forward_tcp_ops;
extern const struct forward_listener_ops forward_udp_ops;
extern const struct forward_listener_ops forward_reverse_ops;

/* The kind that carries @guest to @host (@reverse: @host's socket to @guest's). */
const struct forward_listener_ops *forward_listener_kind(const struct forward_endpoint *host,
                                                         const struct forward_endpoint *guest,
                                                         bool reverse);
