/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/restart.h"

#include "base/log.h"
#include "instance/instance.h"
#include "lifecycle/stop.h"

int lifecycle_restart(const struct lifecycle_start_options *options, bool force, struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    int r = instance_open(options->lima_home, options->name, &inst, err);

    if (r < 0) {
        return r;
    }
    if (!inst->host_agent_pid && !inst->driver_pid) {
        log_warn("instance `%s` is not running, ignoring that and starting it", options->name);
    } else {
        r = lifecycle_stop(options->lima_home, options->name, force, err);
        if (r < 0) {
            return r;
        }
    }
    return lifecycle_start(options, err);
}
