/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/restart.h"

#include "base/log.h"
#include "instance/instance.h"
#include "lifecycle/stop.h"

int lifecycle_restart_stop(const char *lima_home, const char *name, bool force, struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    int r = instance_open(lima_home, name, &inst, err);

    if (r < 0) {
        return r;
    }
    if (!inst->host_agent_pid && !inst->driver_pid) {
        log_warn("instance `%s` is not running, ignoring that and starting it", name);
        return 0;
    }
    return lifecycle_stop(lima_home, name, force, err);
}
