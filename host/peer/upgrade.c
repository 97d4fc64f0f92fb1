/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/upgrade.h"

#include <assert.h>
#include <errno.h>
#include "base/alloc.h"
#include "peer/call.h"
#include "peer/wire_upkeep.h"

struct peer_upgrade {
    struct call call;   /* first: freed as one */
    struct buf program; /* until the guest has said that it wants it */
    peer_upgrade_fn *done;
    void *arg;
};

static void upgrade_free(struct peer_upgrade *upgrade)
{
    buf_done(&upgrade->program);
    call_free(&upgrade->call);
}

static int on_accepted(struct call *call)
{
    struct peer_upgrade *upgrade = container_of(call, struct peer_upgrade, call);

    if (upgrade->program.len > 0) {
        call_send(call, upgrade->program.data, upgrade->program.len);
        buf_done(&upgrade->program);
    }
    return CALL_ON;
}

static void finish(struct peer_upgrade *upgrade, int r, const char *text, const char *version)
{
    peer_upgrade_fn *done = upgrade->done;
    void *arg = upgrade->arg;

    upgrade_free(upgrade);
    done(r, text, version, arg);
}

static void on_upgraded(int error, const char *text, const char *version, void *arg)
{
    finish(arg, -error, text, version);
}

static int on_message(struct call *call, const uint8_t *data, size_t len)
{
    int r = wire_upgraded_decode(data, len, on_upgraded, call);

    return r < 0 ? r : CALL_TAKEN;
}

static void on_ended(struct call *call, int r, const char *text)
{
    finish(container_of(call, struct peer_upgrade, call), r ? r : -EPROTO, text, "");
}

static const struct call_ops ops = {
    .accepted = on_accepted, .message = on_message, .ended = on_ended};

static struct peer_upgrade *upgrade_new(struct peer *peer, peer_upgrade_fn *done, void *arg)
{
    struct peer_upgrade *upgrade = xnew(struct peer_upgrade);

    static_assert(offsetof(struct peer_upgrade, call) == 0, "freed through its call");
    upgrade->done = done;
    upgrade->arg = arg;
    call_init(&upgrade->call, peer, &ops, "Upgrade");
    return upgrade;
}

struct peer_upgrade *peer_upgrade_send(struct peer *peer, const struct peer_upgrade_source *source,
                                       struct buf *take_program, peer_upgrade_fn *done, void *arg)
{
    struct peer_upgrade *upgrade = upgrade_new(peer, done, arg);

    assert(take_program->len == source->size);
    wire_put_upgrade_request(&upgrade->call.request, source);
    if (!call_start(&upgrade->call)) {
        buf_done(take_program);
        return NULL;
    }
    upgrade->program = *take_program; /* no callback comes before we have returned */
    *take_program = BUF_INIT;
    return upgrade;
}

struct peer_upgrade *peer_upgrade_rollback(struct peer *peer, peer_upgrade_fn *done, void *arg)
{
    struct peer_upgrade *upgrade = upgrade_new(peer, done, arg);

    wire_put_rollback_request(&upgrade->call.request);
    return call_start(&upgrade->call) ? upgrade : NULL;
}

void peer_upgrade_cancel(struct peer_upgrade *upgrade)
{
    if (upgrade) {
        upgrade_free(upgrade);
    }
}
