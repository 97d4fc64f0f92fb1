/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/mount.h"

#include <assert.h>
#include <errno.h>
#include "base/alloc.h"
#include "peer/call.h"
#include "peer/wire.h"

struct peer_mount {
    struct call call; /* first: freed as one */
    peer_mount_fn done;
    void *arg;
    bool raw; /* bytes follow the answer */
    bool answered;
    struct peer_mounted mounted;
};

static int on_mount_message(struct call *call, const uint8_t *data, size_t len)
{
    struct peer_mount *mount = container_of(call, struct peer_mount, call);
    struct peer_mounted mounted;
    peer_mount_fn done = mount->done;
    void *arg = mount->arg;
    int r = mount->answered ? -EBADMSG : wire_mounted_decode(data, len, &mounted);

    if (r < 0) {
        return r;
    }
    if (!mount->raw) {
        mount->answered = true;
        mount->mounted = mounted;
        return CALL_ON;
    }
    done(0, NULL, &mounted, call_take(call), arg);
    return CALL_TAKEN;
}

static void on_mount_ended(struct call *call, int r, const char *text)
{
    struct peer_mount *mount = container_of(call, struct peer_mount, call);
    struct peer_mounted mounted = mount->mounted;
    scoped(free) char *words = xstrdup(text);
    peer_mount_fn done = mount->done;
    void *arg = mount->arg;

    if (r == 0 && mount->raw) {
        r = -EPROTO;
    }
    call_free(call);
    done(r, words, r < 0 ? NULL : &mounted, NULL, arg);
}

static const struct call_ops mount_ops = {
    .message = on_mount_message,
    .ended = on_mount_ended,
};

static int on_touch_accepted(struct call *call)
{
    struct peer_mount *mount = container_of(call, struct peer_mount, call);
    peer_mount_fn done = mount->done;
    void *arg = mount->arg;

    done(0, NULL, NULL, call_take(call), arg);
    return CALL_TAKEN;
}

static const struct call_ops touch_ops = {
    .accepted = on_touch_accepted,
    .ended = on_mount_ended,
};

static struct peer_mount *begin_as(struct peer *peer, const char *service, bool raw,
                                   const struct call_ops *ops, peer_mount_fn done, void *arg)
{
    struct peer_mount *mount = xnew(struct peer_mount);

    static_assert(offsetof(struct peer_mount, call) == 0, "freed through its call");
    mount->done = done;
    mount->arg = arg;
    mount->raw = raw;
    call_init(&mount->call, peer, ops, service);
    return mount;
}

static struct peer_mount *begin(struct peer *peer, const char *service, bool raw,
                                peer_mount_fn done, void *arg)
{
    return begin_as(peer, service, raw, &mount_ops, done, arg);
}

struct peer_mount *peer_mount_open(struct peer *peer, const struct peer_mount_request *request,
                                   peer_mount_fn done, void *arg)
{
    struct peer_mount *mount =
        begin(peer, "Mount", request->kind == PEER_MOUNT_AGENT || request->kind == PEER_MOUNT_SSHFS,
              done, arg);

    wire_put_mount_request(&mount->call.request, request);
    return call_start(&mount->call) ? mount : NULL;
}

/* --- Follow --- */

struct peer_follow {
    struct call call; /* first: freed as one */
    peer_follow_fn done;
    void *arg;
};

static int on_follow_accepted(struct call *call)
{
    const struct peer_follow *follow = container_of(call, struct peer_follow, call);

    follow->done(1, NULL, follow->arg); /* may cancel it, as call.c finds out */
    return CALL_ON;
}

static int on_follow_message(struct call *call, const uint8_t *data, size_t len)
{
    return CALL_ON; /* of a later version */
}

static void on_follow_ended(struct call *call, int r, const char *text)
{
    const struct peer_follow *follow = container_of(call, struct peer_follow, call);
    scoped(free) char *words = xstrdup(text);
    peer_follow_fn done = follow->done;
    void *arg = follow->arg;

    call_free(call);
    done(r, words, arg);
}

static const struct call_ops follow_ops = {
    .accepted = on_follow_accepted,
    .message = on_follow_message,
    .ended = on_follow_ended,
};

struct peer_follow *peer_mount_follow(struct peer *peer, const char *tag, peer_follow_fn done,
                                      void *arg)
{
    struct peer_follow *follow = xnew(struct peer_follow);

    static_assert(offsetof(struct peer_follow, call) == 0, "freed through its call");
    follow->done = done;
    follow->arg = arg;
    call_init(&follow->call, peer, &follow_ops, "Follow");
    wire_put_follow_request(&follow->call.request, tag);
    return call_start(&follow->call) ? follow : NULL;
}

void peer_follow_cancel(struct peer_follow *follow)
{
    if (follow) {
        call_free(&follow->call);
    }
}

/* --- the others --- */

struct peer_mount *peer_mount_remove(struct peer *peer, const char *tag, bool lazy,
                                     peer_mount_fn done, void *arg)
{
    struct peer_mount *mount = begin(peer, "Unmount", false, done, arg);

    wire_put_unmount_request(&mount->call.request, tag, lazy);
    return call_start(&mount->call) ? mount : NULL;
}

struct peer_mount *peer_mount_touch(struct peer *peer, const char *tag, peer_mount_fn done,
                                    void *arg)
{
    struct peer_mount *mount = begin_as(peer, "Touch", true, &touch_ops, done, arg);

    wire_put_touch_request(&mount->call.request, tag);
    return call_start(&mount->call) ? mount : NULL;
}

struct peer_mount *peer_mount_settled(struct peer *peer, peer_mount_fn done, void *arg)
{
    struct peer_mount *mount = begin(peer, "Settled", false, done, arg);

    return call_start(&mount->call) ? mount : NULL;
}

void peer_mount_cancel(struct peer_mount *mount)
{
    if (mount) {
        call_free(&mount->call);
    }
}
