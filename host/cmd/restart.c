/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/restart.h"

#include "base/alloc.h"
#include "cmd/cmd.h"
#include "cmd/target.h"
#include "lifecycle/edit.h"
#include "lifecycle/start.h"

/* Changes are checked before anything stops, and saved only once it has stopped. */
static int run(const struct cmd_context *ctx, struct error *err)
{
    const char *name = ctx->args->len ? ctx->args->items[0] : "default";
    struct lifecycle_start_options options = {.lima_home = ctx->lima_home, .name = name};
    scoped(free) char *text = NULL;
    int r = cmd_target_check(ctx, name, &text, err);

    if (r < 0) {
        return r;
    }
    r = lifecycle_restart_stop(ctx->lima_home, name, cmd_flags_bool(ctx->flags, "force"), err);
    if (r == 0 && text) {
        r = lifecycle_edit_save(ctx->lima_home, name, text, err);
    }
    return r < 0 ? r : lifecycle_start(&options, err);
}

static const struct cmd_flag flags[] = {
    {"force", 'f', CMD_FLAG_BOOL, NULL, "Force stop the instance before it is started again"},
    {"progress", 0, CMD_FLAG_BOOL, NULL, "Accepted: progress is always shown"},
    {0},
};

const struct cmd cmd_restart = {
    .name = "restart",
    .group = CMD_GROUP_BASIC,
    .use = "restart [INSTANCE]",
    .brief = "Restart a running instance",
    .help = "Stop an instance, `default` if none is named, and start it again, with a changed\n"
            "configuration if configuration flags are given.",
    .flags = flags,
    .config_flags = CMD_CONFIG_EDIT,
    .max_args = 1,
    .warns_root = true,
    .run = run,
};
