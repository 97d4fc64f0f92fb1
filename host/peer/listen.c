/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call "Listen" that lives as long as the listener, and one call "Accept" for each connection
 * that the guest announces on it; its stream becomes the connection.
 */
#include "peer/listen.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "peer/call.h"
#include "peer/wire.h"

struct accepting {
    struct call call; /* first: freed as one */
    struct peer_listen *listen;
    struct accepting *next, **link;
};

struct peer_listen {
    struct call call; /* first: freed as one */
    const struct peer_listen_events *events;
    void *arg;
    struct accepting *accepting;
    size_t count;
    bool told; /* that it listens */
};

static void unlink_accepting(struct accepting *a)
{
    *a->link = a->next;
    if (a->next) {
        a->next->link = a->link;
    }
    a->listen->count--;
}

static int on_accept_accepted(struct call *call)
{
    struct accepting *a = container_of(call, struct accepting, call);
    struct peer_listen *listen = a->listen;

    unlink_accepting(a);
    listen->events->accepted(call_take(call), listen->arg);
    return CALL_TAKEN;
}

static void on_accept_ended(struct call *call, int r, const char *text)
{
    struct accepting *a = container_of(call, struct accepting, call);

    unlink_accepting(a);
    if (r != -ENOTCONN) {
        log_debug("a connection of the guest is gone before it was accepted: %s",
                  text ? text : strerror(-r));
    }
    call_free(call);
}

static const struct call_ops accept_ops = {
    .accepted = on_accept_accepted,
    .ended = on_accept_ended,
};

/* A guest that announces more than it may keep waiting breaks the rules. */
static int accept_connection(struct peer_listen *listen, uint64_t id)
{
    struct accepting *a;

    if (listen->count >= PEER_LISTEN_BACKLOG) {
        return -EPROTO;
    }
    a = xnew(struct accepting);
    static_assert(offsetof(struct accepting, call) == 0, "freed through its call");
    call_init(&a->call, listen->call.peer, &accept_ops, "Accept");
    a->call.kind = WAY_KIND_BULK;
    wire_put_accept_request(&a->call.request, id);
    if (!call_start(&a->call)) {
        log_debug("no stream is left for a connection of the guest");
        return CALL_ON;
    }
    a->listen = listen;
    a->next = listen->accepting;
    a->link = &listen->accepting;
    if (a->next) {
        a->next->link = &a->next;
    }
    listen->accepting = a;
    listen->count++;
    return CALL_ON;
}

static int on_listen_message(struct call *call, const uint8_t *data, size_t len)
{
    struct peer_listen *listen = container_of(call, struct peer_listen, call);
    struct wire_incoming incoming;
    int r = wire_incoming_decode(data, len, &incoming);

    if (r < 0) {
        return r;
    }
    if (incoming.accepted) {
        return accept_connection(listen, incoming.id);
    }
    if (incoming.listening && !listen->told) {
        listen->told = true;
        listen->events->listening(incoming.port, listen->arg);
    }
    return CALL_ON;
}

static void listen_free(struct peer_listen *listen)
{
    while (listen->accepting) {
        struct accepting *a = listen->accepting;

        unlink_accepting(a);
        call_free(&a->call);
    }
    call_free(&listen->call);
}

static void on_listen_ended(struct call *call, int r, const char *text)
{
    struct peer_listen *listen = container_of(call, struct peer_listen, call);
    const struct peer_listen_events *events = listen->events;
    scoped(free) char *words = xstrdup(text);
    void *arg = listen->arg;

    listen_free(listen);
    events->ended(r ? r : -ECONNABORTED, words, arg);
}

static const struct call_ops listen_ops = {
    .message = on_listen_message,
    .ended = on_listen_ended,
};

struct peer_listen *peer_listen_open(struct peer *peer, const struct peer_address *at,
                                     unsigned mode, const struct peer_listen_events *events,
                                     void *arg)
{
    struct peer_listen *listen = xnew(struct peer_listen);

    static_assert(offsetof(struct peer_listen, call) == 0, "freed through its call");
    listen->events = events;
    listen->arg = arg;
    call_init(&listen->call, peer, &listen_ops, "Listen");
    wire_put_listen_request(&listen->call.request, at, mode);
    return call_start(&listen->call) ? listen : NULL;
}

void peer_listen_close(struct peer_listen *listen)
{
    if (listen) {
        listen_free(listen);
    }
}
