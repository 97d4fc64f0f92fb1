/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/delete.h"

#include <stdio.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "instance/instance.h"
#include "instance/layout.h"
#include "instance/store.h"
#include "lifecycle/lock.h"
#include "lifecycle/stop.h"
#include "util/file.h"

static int check(const struct instance *inst, bool force, struct error *err)
{
    bool dead = !inst->host_agent_pid && !inst->driver_pid;

    if (inst->is_protected) {
        error_set(err, EPERM,
                  "instance is protected to prohibit accidental removal (Hint: use `limactl "
                  "unprotect`)");
        return -EPERM;
    }
    if (!force && !dead) {
        return error_set(err, EBUSY,
                         "expected status `Stopped`, got `%s` (maybe use `limactl delete -f`?)",
                         instance_status_name(inst->status));
    }
    return 0;
}

/*
 * The folder goes out of the way first, so that nobody finds half of it or puts something into it,
 * such as a new lock file, while its content is removed.
 */
static int remove_folder(const char *lima_home, const char *name, const char *dir,
                         struct error *err)
{
    scoped(free) char *moved = xasprintf("%s/.deleted-%s.%d", lima_home, name, (int)getpid());

    if (rename(dir, moved) < 0) {
        return error_errno(err, errno, "renaming '%s' to '%s'", dir, moved);
    }
    return file_remove_tree(moved, err);
}

int lifecycle_delete(const char *lima_home, const char *name, bool force, struct error *err)
{
    scoped(free) char *dir = instance_dir(lima_home, name);
    scoped(free) char *config_path = path_join(dir, LAYOUT_CONFIG);
    scoped(instance_free) struct instance *inst = NULL;
    scoped(fd_close) int lock = -1;
    int r;

    if (!instance_exists(lima_home, name)) {
        return error_set(err, ENOENT, "instance `%s` does not exist", name);
    }
    if (!file_exists(config_path)) {
        error_set(err, EINVAL, "instance `%s` directory '%s' has no " LAYOUT_CONFIG "; it is kept",
                  name, dir);
        return error_hint(err, "remove the folder by hand if nothing in it is needed"), -EINVAL;
    }
    r = lifecycle_lock(dir, name, &lock, err);
    if (r < 0) {
        return r;
    }
    r = instance_open(lima_home, name, &inst, err);
    if (r == 0) {
        r = check(inst, force, err);
    }
    if (r == 0) {
        r = lifecycle_kill(inst, err);
    }
    if (r == 0) {
        r = remove_folder(lima_home, name, dir, err);
    }
    if (r < 0) {
        return error_wrap(err, r, "failed to delete instance `%s`", name);
    }
    log_info("Deleted `%s` (`%s`)", name, dir);
    return 0;
}
