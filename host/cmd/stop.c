/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/stop.h"

#include "base/alloc.h"
#include "base/log.h"
#include "cmd/cmd.h"

static int run(const struct cmd_context *ctx, struct error *err)
{
    bool force = cmd_flags_bool(ctx->flags, "force");
    scoped(strv_done) struct strv names = STRV_INIT;
    scoped(strv_done) struct strv failures = STRV_INIT;

    strv_extend(&names, ctx->args);
    if (names.len == 0) {
        strv_add(&names, "default");
    }
    for (size_t i = 0; i < names.len; i++) {
        scoped(error_done) struct error why = ERROR_INIT;
        int r = lifecycle_stop(ctx->lima_home, names.items[i], force, &why);

        if (r < 0 && names.len == 1) {
            return error_move(err, &why);
        }
        if (r < 0) {
            log_error_of(LOG_LEVEL_ERROR, &why, "failed to stop `%s`", names.items[i]);
            strv_add(&failures, names.items[i]);
        }
    }
    if (failures.len > 0) {
        scoped(free) char *list = strv_join(&failures, ", ");

        return error_set(err, EIO, "failed to stop: %s", list);
    }
    return 0;
}

static const struct cmd_flag flags[] = {
    {"force", 'f', CMD_FLAG_BOOL, NULL, "Force stop the instance: kill its processes"},
    {0},
};

const struct cmd cmd_stop = {
    .name = "stop",
    .group = CMD_GROUP_BASIC,
    .use = "stop [INSTANCE]...",
    .brief = "Stop an instance",
    .help = "Stop instances, `default` if none is named: the guest is asked to power down and gets "
            "three "
            "minutes for it.",
    .flags = flags,
    .max_args = -1,
    .run = run,
};
