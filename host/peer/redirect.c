/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/redirect.h"

#include <assert.h>
#include <errno.h>
#include "base/alloc.h"
#include "peer/call.h"
#include "peer/wire.h"

struct peer_redirect {
    struct call call; /* first: freed as one */
    const struct peer_redirect_events *events;
    void *arg;
};

static int on_redirect_message(struct call *call, const uint8_t *data, size_t len)
{
    struct peer_redirect *redirect = container_of(call, struct peer_redirect, call);
    const char *method;
    int r = wire_redirected_decode(data, len, &method);

    if (r < 0) {
        return r;
    }
    redirect->events->redirected(method, redirect->arg);
    return CALL_ON;
}

static void on_redirect_ended(struct call *call, int r, const char *text)
{
    struct peer_redirect *redirect = container_of(call, struct peer_redirect, call);
    const struct peer_redirect_events *events = redirect->events;
    scoped(free) char *words = xstrdup(text);
    void *arg = redirect->arg;

    call_free(call);
    events->ended(r ? r : -ECONNABORTED, words, arg);
}

static const struct call_ops redirect_ops = {
    .message = on_redirect_message,
    .ended = on_redirect_ended,
};

struct peer_redirect *peer_redirect_open(struct peer *peer, const struct peer_redirect_rules *rules,
                                         const struct peer_redirect_events *events, void *arg)
{
    struct peer_redirect *redirect = xnew(struct peer_redirect);

    static_assert(offsetof(struct peer_redirect, call) == 0, "freed through its call");
    redirect->events = events;
    redirect->arg = arg;
    call_init(&redirect->call, peer, &redirect_ops, "Redirect");
    wire_put_redirect_request(&redirect->call.request, rules);
    return call_start(&redirect->call) ? redirect : NULL;
}

void peer_redirect_close(struct peer_redirect *redirect)
{
    if (redirect) {
        call_free(&redirect->call);
    }
}
