/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include "base/error.h"
#include "mounts_internal.h"

static void on_sshfs_ended(void *arg)
{
    struct mount *mount = arg;

    if (mount->state == MOUNTS_STATE_UNMOUNTING) { /* our doing, and goes on in on_unmount_done() */
        sshfs_free(steal(mount->sshfs));
        return;
    }
    mounts_free_one(mount);
}

int mounts_begin_sshfs(struct mounts *mounts, const struct rpc_call *call,
                       const lima_guest_v1_MountRequest *request, const char *path, bool replaces,
                       struct error *err)
{
    struct mount *mount = mounts_new_one(mounts, request->tag, path);
    dev_t device;
    const struct sshfs_options options = {
        .children = mounts->options.children,
        .tunnels = mounts->options.tunnels,
        .source = mount->tag,
        .path = mount->path,
        .options = request->options,
        .read_only = !request->writable,
        .replaces = replaces || mountpoint_find_type(SSHFS_TYPE, request->tag, &device),
        .ended = on_sshfs_ended,
        .arg = mount};
    int r = sshfs_start(&options, &mount->sshfs, err);

    if (r < 0) {
        mounts_free_one(mount);
        return r;
    }
    mount->type = SSHFS_TYPE;
    mounts_find_user(mount, request->user);
    mount->state = MOUNTS_STATE_MOUNTED;
    mux_stream_consumed(call->stream, call->rest_len);
    if (mounts_reply(mount, call->stream, false)) {
        sshfs_join(mount->sshfs, call->stream);
    } else {
        mux_stream_reset(call->stream, MUX_RESET_REFUSED);
        mounts_free_one(mount);
    }
    return 0;
}

int mounts_serve_follow(const struct rpc_call *call, void *arg, struct error *err)
{
    struct mounts *mounts = arg;
    lima_guest_v1_FollowRequest request = lima_guest_v1_FollowRequest_init_zero;
    struct mount *mount;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_FollowRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    mount = mounts_find(mounts, request.tag);
    if (!mount || !mount->sshfs) {
        return error_set(err, ENOENT, "no such mount");
    }
    sshfs_follow(mount->sshfs, call);
    return 0;
}
