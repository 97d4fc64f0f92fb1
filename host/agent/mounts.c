/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount is in one of these states; after each event mounts_step() looks what can be done, for one
 * mount after the other in the order of their mount points, so that what lies in another is made
 * after that.
 *
 *   WAITING     for the guest, or for its turn
 *   SERVING     its file server is being started, or by virtiofs the VM is being given a device
 *   MOUNTING    the guest has been asked
 *   MOUNTED     and, but for a device, its stream and the server's connection are joined
 *   UNMOUNTED   the guest has unmounted it by itself; it is left so until the next boot
 *   REMOVING    the guest has been asked to unmount it, then its server ends
 *   FAILED      the reason says why; tried again with the next session
 *
 * The loss of the session leads from every state but REMOVING to WAITING. A file server that dies
 * leads from MOUNTED to SERVING: another one goes on with what it has left.
 */
#include "agent/mounts_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "base/ration.h"
#include "config/mounts.h"
#include "instance/layout.h"
#include "mount/mount.h"
#include "mount/server.h"
#include "mux/join.h"
#include "peer/link.h"
#include "peer/mount.h"
#include "util/file.h"
#include "util/path.h"

#define FEATURE       "mount"
#define FEATURE_SSHFS "follow"
#define CACHE_MS      1000
#define RESTART_BURST 5 /* of a file server that dies, then one every: */
#define RESTART_PER_S 1

const char *const mounts_state_names[] = {
    [MOUNTS_STATE_WAITING] = "waiting",     [MOUNTS_STATE_SERVING] = "starting",
    [MOUNTS_STATE_MOUNTING] = "mounting",   [MOUNTS_STATE_MOUNTED] = "mounted",
    [MOUNTS_STATE_UNMOUNTED] = "unmounted", [MOUNTS_STATE_REMOVING] = "removing",
    [MOUNTS_STATE_FAILED] = "failed",
};
static_assert(ARRAY_LEN(mounts_state_names) == MOUNTS_STATE_FAILED + 1, "a name a state");

/* --- states --- */

void mounts_set_reason(struct mount *mount, const char *reason)
{
    char *copy = xstrdup(reason);

    free(mount->reason);
    mount->reason = copy;
}

void mounts_drop_carriers(struct mount *mount)
{
    mount_watch_stop(mount->watch);
    peer_mount_cancel(mount->call);
    mount->call = NULL;
    peer_follow_cancel(mount->follow);
    mount->follow = NULL;
    if (mount->join) {
        join_free(mount->join);
        mount->join = NULL;
    }
    if (mount->link) {
        link_free(mount->link);
        mount->link = NULL;
    }
}

void mounts_free_one(struct mount *mount)
{
    struct mount **link = &mount->mounts->list;

    while (*link != mount) {
        link = &(*link)->next;
    }
    *link = mount->next;
    mount->mounts->count--;
    mounts_drop_carriers(mount);
    mount_watch_free(mount->watch);
    mount_server_leave(mount->server);
    loop_timer_free(mount->again);
    config_mount_done(&mount->config);
    free(mount->tag);
    free(mount->reason);
    free(mount);
}

void mounts_fail(struct mount *mount, const char *reason)
{
    struct mounts *mounts = mount->mounts;
    struct api_exchange *exchange = steal(mount->exchange);

    mount->state = MOUNTS_STATE_FAILED;
    mounts_set_reason(mount, reason);
    log_warn("'%s' is not mounted at '%s': %s, ignoring", mount->config.location,
             mount->config.mount_point, mount->reason);
    if (exchange) { /* it was added just now, in vain */
        mounts_refuse(exchange, EIO, mount->reason);
        if (mount->server) {
            mount->state = MOUNTS_STATE_REMOVING;
            mount_server_stop(mount->server);
        } else {
            mounts_free_one(mount);
        }
    }
    mounts->options.changed(mounts->options.arg);
}

/* A new mount hides what was mounted in the folder before, or it went with the old one. */
static void mount_again_below(const struct mount *above)
{
    for (struct mount *mount = above->next; mount; mount = mount->next) {
        if (path_is_below(mount->config.mount_point, above->config.mount_point) &&
            (mount->state == MOUNTS_STATE_MOUNTED || mount->state == MOUNTS_STATE_UNMOUNTED)) {
            mounts_drop_carriers(mount);
            mount->state = MOUNTS_STATE_WAITING;
        }
    }
}

/* A mount by the agent needs none: its server watches. */
static void watch_source(struct mount *mount)
{
    const struct mounts_options *options = &mount->mounts->options;

    if (mount->type == CONFIG_MOUNT_AGENT || !options->config->mount_inotify ||
        mount_untold(&mount->config, mount->type)) {
        return;
    }
    if (!mount->watch) {
        mount->watch =
            mount_watch_new(&(struct mount_watch_options){.loop = options->loop,
                                                          .peer = options->peer,
                                                          .tag = mount->tag,
                                                          .source = mount->config.location,
                                                          .without = options->dir,
                                                          .holds = mount->type == CONFIG_MOUNT_9P});
    }
    mount_watch_start(mount->watch);
}

void mounts_mounted(struct mount *mount, bool resumed)
{
    struct mounts *mounts = mount->mounts;
    struct api_exchange *exchange = steal(mount->exchange);

    mount->state = MOUNTS_STATE_MOUNTED;
    mount->unmounted = mount->device_new = false;
    loop_timer_set(mount->again, -1);
    mounts_set_reason(mount, NULL);
    if (!resumed) {
        mount_again_below(mount);
    }
    log_info("'%s' is mounted at '%s'%s", mount->config.location, mount->config.mount_point,
             resumed ? " again" : "");
    watch_source(mount);
    mounts_drop_dead_device(mount);
    if (exchange) {
        mounts_answer(mounts, exchange);
    }
    mounts->options.changed(mounts->options.arg);
}

/* --- the server of a mount --- */

static void on_server_ready(void *arg)
{
    struct mount *mount = arg;

    mount->server_ready = true;
    mounts_step(mount->mounts);
}

static void on_server_ended(const char *reason, void *arg)
{
    struct mount *mount = arg;
    struct mounts *mounts = mount->mounts;
    struct api_exchange *exchange;

    mount->server = NULL;
    mount->server_ready = false;
    if (mount->state == MOUNTS_STATE_REMOVING) {
        exchange = steal(mount->exchange);
        mounts_free_one(mount);
        if (exchange) {
            mounts_answer(mounts, exchange);
        }
        mounts_step(mounts);
        return;
    }
    if (mount->swapping) {
        mount->swapping = false;
        mounts_step(mounts);
        return;
    }
    if (mount->state == MOUNTS_STATE_FAILED || mount->state == MOUNTS_STATE_UNMOUNTED) {
        return; /* another one comes with the next try */
    }
    log_warn("'%s' at '%s': %s, retrying", mount->config.location, mount->config.mount_point,
             reason);
    mounts_drop_carriers(mount);
    mounts_set_reason(mount, reason);
    if (mount->state == MOUNTS_STATE_SERVING) {
        mounts_fail(mount, reason);
    } else if (ration_take(&mount->restarts, loop_now_ms())) {
        mount->state = MOUNTS_STATE_WAITING;
        mounts->options.changed(mounts->options.arg);
    } else {
        mount->state = MOUNTS_STATE_SERVING; /* until the timer */
        loop_timer_set(mount->again, MOUNTS_RESTART_MS);
    }
    mounts_step(mounts);
}

static const struct mount_server_events server_events = {
    .ready = on_server_ready,
    .ended = on_server_ended,
};

static char *server_dir(const struct mount *mount)
{
    scoped(free) char *name = xasprintf("%s%s", mount->tag + strlen("lima-"),
                                        mount->type == CONFIG_MOUNT_REVERSE_SSHFS ? ".sftp" : "");

    return path_join(mount->mounts->options.dir, LAYOUT_MOUNTS_DIR, name);
}

/* As the reference: a folder that is missing is made when it is shared. */
static int make_source(const struct mount *mount, struct error *err)
{
    return file_exists(mount->config.location) ? 0 : file_mkdirs(mount->config.location, 0755, err);
}

/* By the options of the other types, as these are mounted instead. */
static bool may_cache(const struct config_mount *config)
{
    return config->sshfs_cache && !(config->cache && strcmp(config->cache, "none") == 0);
}

/* False: it has failed, and may be gone. */
static bool start_server(struct mount *mount)
{
    const struct mounts_options *options = &mount->mounts->options;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *dir = server_dir(mount);
    bool sftp = mount->type == CONFIG_MOUNT_REVERSE_SSHFS;
    const struct mount_server_options server = {
        .source = mount->config.location,
        .dir = dir,
        .writable = mount->config.writable,
        .vm = options->vm(options->arg),
        .cache_ms = may_cache(&mount->config) ? CACHE_MS : 0,
        .sftp = sftp,
        .follow = sftp && mount->config.follow_symlinks,
    };

    mount->state = MOUNTS_STATE_SERVING;
    if (make_source(mount, &err) < 0 || mount_server_open(options->loop, &server, &server_events,
                                                          mount, &mount->server, &err) < 0) {
        mounts_fail(mount, error_text(&err));
        return false;
    }
    return true;
}

/* --- one after the other --- */

/* The timer: the carriers have ended, a restart is due, or an answer is overdue. */
static void on_again(void *arg)
{
    struct mount *mount = arg;
    struct mounts *mounts = mount->mounts;

    if (mount->state == MOUNTS_STATE_MOUNTING) {
        mounts_drop_carriers(mount);
        mounts_fail(mount, "the guest did not answer in time");
    } else if (mount->state == MOUNTS_STATE_SERVING && !mount->server) {
        mount->state = MOUNTS_STATE_WAITING;
    } else if (mount->state == MOUNTS_STATE_MOUNTED && !mount->unmounted) {
        mounts_drop_carriers(mount);
        mounts_set_reason(mount, "its connection broke");
        mount->state = MOUNTS_STATE_WAITING;
    } else if (mount->state == MOUNTS_STATE_MOUNTED) {
        mounts_drop_carriers(mount);
        mount->state = MOUNTS_STATE_UNMOUNTED;
        mounts_set_reason(mount, "the guest has unmounted it");
        log_info("the guest has unmounted '%s'", mount->config.mount_point);
    }
    mounts_step(mounts);
}

static void on_settled(int r, const char *text, const struct peer_mounted *about,
                       struct mux_stream *stream, void *arg)
{
    struct mounts *mounts = arg;

    mounts->settled = NULL;
    if (r < 0 && r != -ENOTCONN) {
        log_debug("the guest does not care whether mounts are settled: %s", strerror(-r));
    }
}

static void settle(struct mounts *mounts)
{
    if (!mounts->was_settled) {
        mounts->was_settled = true;
        mounts->options.changed(mounts->options.arg);
    }
    if (!mounts->is_settled) {
        mounts->is_settled = true;
        mounts->settled = peer_mount_settled(mounts->options.peer, on_settled, mounts);
    }
}

/* True: the ones behind it have to wait. */
static bool step(struct mount *mount)
{
    switch (mount->state) {
    case MOUNTS_STATE_WAITING:
        if (mount->type == CONFIG_MOUNT_REVERSE_SSHFS &&
            !peer_has(mount->mounts->options.peer, FEATURE_SSHFS)) {
            mounts_fall_back(mount, "the guest agent is of a version without it");
        }
        if (mount->swapping || mounts_need_device(mount)) {
            return true;
        }
        if (mounts_is_served(mount) && !mount->server) {
            return start_server(mount);
        }
        if (mount->server && !mount->server_ready) {
            mount->state = MOUNTS_STATE_SERVING;
            return true;
        }
        mounts_ask_guest(mount);
        return mount->state == MOUNTS_STATE_MOUNTING;
    case MOUNTS_STATE_SERVING:
        if (!mount->server_ready) {
            return mount->server != NULL || mount->type == CONFIG_MOUNT_VIRTIOFS;
        }
        mounts_ask_guest(mount);
        return true;
    case MOUNTS_STATE_MOUNTING:
        return true;
    default:
        return false;
    }
}

void mounts_step(struct mounts *mounts)
{
    struct mount *mount = mounts->list;
    struct mount *next;

    if (!mounts->guest_ready) {
        return;
    }
    for (; mount; mount = next) {
        next = mount->next; /* one that fails while it is added goes */
        if (step(mount)) {
            return;
        }
    }
    settle(mounts);
}

void mounts_connected(struct mounts *mounts, const char *boot_id)
{
    if (mounts->boot_id && strcmp(mounts->boot_id, boot_id) == 0) {
        return;
    }
    free(mounts->boot_id);
    mounts->boot_id = xstrdup(boot_id);
    for (struct mount *mount = mounts->list; mount; mount = mount->next) {
        if (mount->state == MOUNTS_STATE_UNMOUNTED) {
            mount->state = MOUNTS_STATE_WAITING;
        }
    }
}

bool mounts_are_settled(const struct mounts *mounts)
{
    return mounts->was_settled || !mounts->list;
}

void mounts_guest_ready(struct mounts *mounts)
{
    if (mounts->guest_ready) {
        return;
    }
    if (mounts->list && !peer_has(mounts->options.peer, FEATURE)) {
        for (struct mount *mount = mounts->list, *next; mount; mount = next) {
            next = mount->next;
            mounts_fail(mount, "the guest agent is of a version without mounts");
        }
        mounts->was_settled = true;
        mounts->options.changed(mounts->options.arg);
        return;
    }
    for (struct mount *mount = mounts->list; mount; mount = mount->next) {
        if (mount->state == MOUNTS_STATE_FAILED) {
            mount->state = MOUNTS_STATE_WAITING;
        }
    }
    mounts->guest_ready = true;
    mounts_step(mounts);
}

void mounts_disconnected(struct mounts *mounts)
{
    if (!mounts) {
        return;
    }
    mounts->guest_ready = false;
    mounts->is_settled = false;
    peer_mount_cancel(mounts->settled);
    mounts->settled = NULL;
    for (struct mount *mount = mounts->list; mount; mount = mount->next) {
        mounts_drop_carriers(mount);
        loop_timer_set(mount->again, -1);
        if (mount->state == MOUNTS_STATE_REMOVING) {
            continue; /* the server is told, and the guest forgets with its end */
        }
        if (mount->state == MOUNTS_STATE_MOUNTED || mount->state == MOUNTS_STATE_MOUNTING) {
            mounts_set_reason(mount, "the guest agent does not speak");
        }
        if (mount->state != MOUNTS_STATE_FAILED && mount->state != MOUNTS_STATE_UNMOUNTED) {
            mount->state = MOUNTS_STATE_WAITING;
        }
    }
}

/* --- life --- */

struct mount *mounts_add(struct mounts *mounts, const struct config_mount *config, bool temporary)
{
    struct mount_choice choice = mount_choose(config, mounts->options.config->mount_type);
    struct mount *mount = xnew(struct mount);
    struct mount **link = &mounts->list;

    *mount = (struct mount){.mounts = mounts,
                            .config = config_mount_copy(config),
                            .type = choice.type,
                            .tag = mount_tag(config),
                            .temporary = temporary,
                            .restarts = RATION_INIT(RESTART_BURST, RESTART_PER_S)};
    mount->again = loop_timer_new(mounts->options.loop, on_again, mount);
    if (choice.instead) {
        log_warn("'%s' is mounted by the guest agent: %s, ignoring the type", config->mount_point,
                 choice.instead);
    }
    if (mounts->options.config->mount_inotify && mount_untold(config, choice.type)) {
        log_warn("'%s': watchers in the guest do not see what the host does there: %s, ignoring "
                 "mountInotify",
                 config->mount_point, mount_untold(config, choice.type));
    }
    while (*link && mount_compare(&(*link)->config, config) <= 0) {
        link = &(*link)->next;
    }
    mount->next = *link;
    *link = mount;
    mounts->count++;
    return mount;
}

struct mounts *mounts_new(const struct mounts_options *options)
{
    struct mounts *mounts = xnew(struct mounts);

    mounts->options = *options;
    for (size_t i = 0; i < options->config->mount_count; i++) {
        mounts_add(mounts, &options->config->mounts[i], false);
    }
    return mounts;
}

void mounts_free(struct mounts *mounts)
{
    if (!mounts) {
        return;
    }
    peer_mount_cancel(mounts->settled);
    mounts_drop_queries(mounts);
    while (mounts->list) {
        if (mounts->list->exchange) {
            mounts_refuse(mounts->list->exchange, ENOTCONN, "the host agent ends");
        }
        mounts_free_one(mounts->list);
    }
    free(mounts->boot_id);
    free(mounts);
}
