/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/check.h"

#include "base/alloc.h"
#include "driver/driver.h"

int lifecycle_check_config(const struct instance *inst, struct error *err)
{
    scoped(free) char *why = NULL;

    if (inst->config) {
        return 0;
    }
    why = strv_join(&inst->errors, "\n");
    return error_set(err, EINVAL, "errors inspecting instance `%s`: %s", inst->name, why);
}

int lifecycle_check_driver(const struct config *config, struct error *err)
{
    const struct driver_ops *ops;
    int r = driver_find(config->vm_type, &ops, err);

    if (r < 0) {
        return r;
    }
    return ops->validate ? ops->validate(config, err) : 0;
}
