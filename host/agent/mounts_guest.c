/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include "agent/mounts_internal.h"
#include "base/alloc.h"
#include "mount/mount.h"

#define DEVICE_MS 5000  /* for a device that was added, in the guest */
#define ANSWER_MS 60000 /* for a mount in the guest, which may have much to do */

static void on_link_closed(void *arg)
{
    struct mount *mount = arg;

    mount->link = NULL;
}

/*
 * The guest ends a stream in good order when the mount is gone there, and only then. A break is as
 * a rule the first sign of something that will be known soon: the end of the server, or of the
 * session. Of sshfs on_followed() knows more.
 */
static void on_join_done(bool ordered, void *arg)
{
    struct mount *mount = arg;

    mount->join = NULL;
    if (mount->state == MOUNTS_STATE_MOUNTED && mount->type == CONFIG_MOUNT_AGENT) {
        mount->unmounted = ordered;
        loop_timer_set(mount->again, ordered ? 0 : MOUNTS_RESTART_MS);
    }
}

bool mounts_is_served(const struct mount *mount)
{
    return mount->type == CONFIG_MOUNT_AGENT || mount->type == CONFIG_MOUNT_REVERSE_SSHFS;
}

void mounts_check_carriers(struct mount *mount)
{
    bool followed = mount->follow || mount->type != CONFIG_MOUNT_REVERSE_SSHFS;

    if (mounts_is_served(mount) && (!mount->join || !followed)) {
        loop_timer_set(mount->again, MOUNTS_RESTART_MS);
    }
}

/* The guest itself may say the same of a mount that is broken, in words. */
static bool is_session_over(int r, const char *text)
{
    return r == -ENOTCONN && !text;
}

/* See peer_follow_fn. */
static void on_followed(int r, const char *text, void *arg)
{
    struct mount *mount = arg;
    struct mounts *mounts = mount->mounts;

    if (r > 0) {
        mounts_mounted(mount, false);
        mounts_step(mounts);
        return;
    }
    mount->follow = NULL;
    if (is_session_over(r, text)) {
        return; /* the end of the session comes */
    }
    if (mount->state == MOUNTS_STATE_MOUNTING) {
        loop_timer_set(mount->again, -1);
        mounts_fall_back(mount, text ? text : strerror(-r));
        mounts_step(mounts);
    } else if (mount->state == MOUNTS_STATE_MOUNTED) {
        mount->unmounted = r == 0;
        loop_timer_set(mount->again, r == 0 ? 0 : MOUNTS_RESTART_MS);
    }
}

static void follow(struct mount *mount)
{
    mount->follow = peer_mount_follow(mount->mounts->options.peer, mount->tag, on_followed, mount);
    if (mount->follow) {
        loop_timer_set(mount->again, ANSWER_MS);
    } else {
        mounts_drop_carriers(mount);
        mount->state = MOUNTS_STATE_WAITING; /* the session is about to end */
    }
}

static void join_server(struct mount *mount, struct mux_stream *stream,
                        const struct peer_mounted *about)
{
    scoped(error_done) struct error err = ERROR_INIT;
    bool replays = mount->mounts->options.config->mount_inotify && about->replays;
    struct mux_stream *local;
    int fd;

    if (mount_server_connect(mount->server, about->uid, about->gid, replays, &fd, &err) < 0) {
        mux_stream_reset(stream, MUX_RESET_CANCEL);
        mounts_fail(mount, error_text(&err));
        return;
    }
    mount->link =
        link_new(mount->mounts->options.loop, fd, DIRECT_FORM_BARE, &local, on_link_closed, mount);
    mount->join = join_new(local, stream, on_join_done, mount);
    if (mount->type == CONFIG_MOUNT_REVERSE_SSHFS) {
        follow(mount);
    } else {
        mounts_mounted(mount, about->resumed);
    }
}

static void on_mount_answer(int r, const char *text, const struct peer_mounted *about,
                            struct mux_stream *stream, void *arg)
{
    struct mount *mount = arg;
    struct mounts *mounts = mount->mounts;

    mount->call = NULL;
    loop_timer_set(mount->again, -1);
    if (is_session_over(r, text)) {
        mount->state = MOUNTS_STATE_WAITING; /* the end of the session comes */
        return;
    }
    if (r < 0 && mount->type != CONFIG_MOUNT_AGENT) {
        mounts_fall_back(mount, text ? text : strerror(-r));
    } else if (r < 0) {
        mounts_fail(mount, text ? text : strerror(-r));
    } else if (stream) {
        join_server(mount, stream, about);
    } else {
        mounts_mounted(mount, about->resumed);
    }
    mounts_step(mounts);
}

static enum peer_mount_kind kind_of(const struct mount *mount)
{
    return mount->type == CONFIG_MOUNT_9P              ? PEER_MOUNT_9P
           : mount->type == CONFIG_MOUNT_VIRTIOFS      ? PEER_MOUNT_VIRTIOFS
           : mount->type == CONFIG_MOUNT_REVERSE_SSHFS ? PEER_MOUNT_SSHFS
                                                       : PEER_MOUNT_AGENT;
}

/* Caller frees. */
static char *options_of(const struct mount *mount)
{
    return mount->type == CONFIG_MOUNT_9P              ? mount_9p_options(&mount->config)
           : mount->type == CONFIG_MOUNT_REVERSE_SSHFS ? mount_sshfs_options(&mount->config)
                                                       : xstrdup("");
}

void mounts_ask_guest(struct mount *mount)
{
    const struct mounts_options *options = &mount->mounts->options;
    scoped(free) char *mount_options = options_of(mount);
    struct peer_mount_request request = {
        .kind = kind_of(mount),
        .tag = mount->tag,
        .mount_point = mount->config.mount_point,
        .options = mount_options,
        .user = options->config->user.name,
        .writable = mount->config.writable,
        .replays = options->config->mount_inotify,
        .wait_ms = mount->device_new ? DEVICE_MS : 0,
    };

    if (mount->type == CONFIG_MOUNT_AGENT) {
        memcpy(request.id, mount_server_id(mount->server), sizeof(request.id));
    }
    mount->state = MOUNTS_STATE_MOUNTING;
    loop_timer_set(mount->again, ANSWER_MS);
    mount->call = peer_mount_open(options->peer, &request, on_mount_answer, mount);
    if (!mount->call) {
        mount->state = MOUNTS_STATE_WAITING; /* the session is about to end */
    }
}
