/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/prepare.h"

#include "base/alloc.h"
#include "image/prepare.h"
#include "lifecycle/check.h"
#include "lifecycle/lock.h"
#include "util/file.h"
#include "util/path.h"

int lifecycle_guestagent(const struct config *config, char **ret, struct error *err)
{
    scoped(free) char *name = xasprintf("lima-guestagent.%s-%s", config->os, config->arch);
    scoped(free) char *path = path_share(name);

    if (config->plain) {
        *ret = NULL;
        return 0;
    }
    if (!file_exists(path)) {
        error_set(err, ENOENT, "guest agent binary '%s' could not be found", path);
        return error_hint(err, "install lima-guestagent for %s guests, or set `plain: true`",
                          config->arch),
               -ENOENT;
    }
    *ret = steal(path);
    return 0;
}

int lifecycle_prepare(const struct instance *inst, const char *lima_home, struct error *err)
{
    scoped(free) char *guestagent = NULL;
    int r = lifecycle_check_config(inst, err);

    if (r < 0) {
        return r;
    }
    r = lifecycle_check_driver(inst->config, err);
    if (r < 0) {
        return r;
    }
    r = lifecycle_guestagent(inst->config, &guestagent, err);
    if (r < 0) {
        return r;
    }
    return image_prepare(inst->config, lima_home, inst->dir, err);
}

int lifecycle_prepare_name(const char *lima_home, const char *name, struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    scoped(fd_close) int lock = -1;
    int r = instance_open(lima_home, name, &inst, err);

    if (r < 0) {
        return r;
    }
    r = lifecycle_lock(inst->dir, name, &lock, err);
    return r < 0 ? r : lifecycle_prepare(inst, lima_home, err);
}
