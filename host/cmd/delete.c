/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/delete.h"

#include "base/log.h"
#include "cmd/cmd.h"

/* Missing ones are warnings, folders that are no instances are kept and reported at the end, the
 * rest stops. */
static int run(const struct cmd_context *ctx, struct error *err)
{
    bool force = cmd_flags_bool(ctx->flags, "force");
    scoped(error_done) struct error kept = ERROR_INIT;

    for (size_t i = 0; i < ctx->args->len; i++) {
        const char *name = ctx->args->items[i];
        scoped(error_done) struct error why = ERROR_INIT;
        int r = lifecycle_delete(ctx->lima_home, name, force, &why);

        if (r == -ENOENT) {
            log_warn("Ignoring non-existent instance `%s`", name);
        } else if (r == -EINVAL) {
            if (kept.code) {
                log_error_of(LOG_LEVEL_ERROR, &kept, "an instance was not deleted");
            }
            error_move(&kept, &why);
        } else if (r < 0) {
            return error_move(err, &why);
        }
    }
    return kept.code ? error_move(err, &kept) : 0;
}

static const struct cmd_flag flags[] = {
    {"force", 'f', CMD_FLAG_BOOL, NULL, "Also if it is not stopped: kill its processes first"},
    {0},
};

static const char *const aliases[] = {"remove", "rm", NULL};

const struct cmd cmd_delete = {
    .name = "delete",
    .aliases = aliases,
    .group = CMD_GROUP_BASIC,
    .use = "delete INSTANCE [INSTANCE, ...]",
    .brief = "Delete an instance of Lima",
    .help = "Delete instances of Lima with everything in them.",
    .flags = flags,
    .min_args = 1,
    .max_args = -1,
    .run = run,
};
