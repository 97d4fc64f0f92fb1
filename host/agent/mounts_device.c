/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts by virtiofs: devices that a running VM is given, and what becomes of those that fail. */
#include "agent/mounts_internal.h"

#include <string.h>
#include "base/log.h"
#include "mount/mount.h"

static struct mount *find(const struct mounts *mounts, const char *tag)
{
    struct mount *mount = mounts->list;

    while (mount && strcmp(mount->tag, tag) != 0) {
        mount = mount->next;
    }
    return mount;
}

static bool has_device(const struct mount *mount)
{
    const struct mounts_options *options = &mount->mounts->options;

    return options->has_device(mount->tag, options->arg);
}

static bool take_out(const struct mount *mount)
{
    const struct mounts_options *options = &mount->mounts->options;
    scoped(error_done) struct error err = ERROR_INIT;

    if (options->remove_device(mount->tag, options->arg, &err) < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "the device of '%s' stays until the VM ends",
                     mount->config.mount_point);
        return false;
    }
    return true;
}

bool mounts_take_device_out(struct mount *mount)
{
    return has_device(mount) && take_out(mount);
}

/* Until it is gone, sync(2) hangs in the guest. */
void mounts_drop_dead_device(struct mount *mount)
{
    if (mount->device_dead) {
        mount->device_dead = false;
        (void)take_out(mount);
    }
}

void mounts_fall_back(struct mount *mount, const char *why)
{
    log_warn("'%s' cannot be mounted at '%s' by %s (%s): the guest agent mounts it instead, "
             "ignoring",
             mount->config.location, mount->config.mount_point, mount_type_name(mount->type), why);
    if (mount->device_new) {
        (void)mounts_take_device_out(mount); /* nobody needs it */
    }
    mounts_drop_carriers(mount);
    mount->type = CONFIG_MOUNT_AGENT;
    mount->state = MOUNTS_STATE_WAITING;
    if (mount->server) { /* of sshfs */
        mount->swapping = true;
        mount_server_stop(mount->server);
    }
}

bool mounts_need_device(struct mount *mount)
{
    const struct mounts_options *options = &mount->mounts->options;
    scoped(error_done) struct error err = ERROR_INIT;

    if (mount->type != CONFIG_MOUNT_VIRTIOFS || has_device(mount)) {
        return false;
    }
    if (options->add_device(&mount->config, options->arg, &err) < 0) {
        mounts_fall_back(mount, error_text(&err));
        return false;
    }
    mount->device_new = true;
    mount->state = MOUNTS_STATE_SERVING;
    return true;
}

void mounts_device_added(struct mounts *mounts, const char *tag, const char *why)
{
    struct mount *mount = mounts ? find(mounts, tag) : NULL;

    if (!mount || mount->type != CONFIG_MOUNT_VIRTIOFS || mount->state != MOUNTS_STATE_SERVING) {
        return;
    }
    mount->state = MOUNTS_STATE_WAITING;
    if (why) {
        mount->device_new = false;
        mounts_fall_back(mount, why);
    }
    mounts_step(mounts);
}

void mounts_device_removed(struct mounts *mounts, const char *tag, const char *why)
{
    struct mount *mount = mounts ? find(mounts, tag) : NULL;

    if (why) {
        log_warn("the VM keeps the device of a mount: %s, ignoring", why);
    }
    if (!why && mount && mount->type == CONFIG_MOUNT_AGENT) {
        log_info("the dead device of '%s' is gone", mount->config.mount_point);
    } else if (mount && mount->state == MOUNTS_STATE_REMOVING && !mount->call) {
        mounts_end_removal(mount);
        mounts_step(mounts);
    }
}

/* Its server never answers again. */
void mounts_lost(struct mounts *mounts, const char *tag, const char *reason)
{
    struct mount *mount = mounts ? find(mounts, tag) : NULL;

    if (!mount || mounts_is_served(mount) || mount->state == MOUNTS_STATE_REMOVING) {
        return;
    }
    log_warn("'%s' at '%s': %s: the guest agent mounts it instead, ignoring",
             mount->config.location, mount->config.mount_point, reason);
    mounts_drop_carriers(mount);
    mount->type = CONFIG_MOUNT_AGENT;
    mount->device_dead = true;
    mount->state = MOUNTS_STATE_WAITING;
    mounts_set_reason(mount, reason);
    mounts->options.changed(mounts->options.arg);
    mounts_step(mounts);
}
