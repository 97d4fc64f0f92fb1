/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/start.h"

#include "base/alloc.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/target.h"

static int run(const struct cmd_context *ctx, struct error *err)
{
    scoped(free) char *name = NULL;
    struct lifecycle_start_options options = {
        .lima_home = ctx->lima_home,
        .timeout_ms = cmd_flags_duration_ms(ctx->flags, "timeout"),
        .foreground = cmd_flags_bool(ctx->flags, "foreground"),
    };
    bool exists;
    int r = cmd_target_lists(ctx, err);

    if (r != 0) {
        return MIN(r, 0);
    }
    r = cmd_target(ctx, true, &name, &exists, err);
    if (r < 0) {
        return r;
    }
    if (exists) {
        log_info("Using the existing instance `%s`", name);
        r = cmd_target_apply(ctx, name, err);
        if (r < 0) {
            return r;
        }
    }
    options.name = name;
    return lifecycle_start(&options, err);
}

static const struct cmd_flag flags[] = {
    {"foreground", 0, CMD_FLAG_BOOL, NULL, "Run the host agent in the foreground"},
    {"progress", 0, CMD_FLAG_BOOL, NULL, "Accepted: progress is always shown"},
    {"timeout", 0, CMD_FLAG_DURATION, NULL,
     "Fail after this `duration`, such as 10m0s; without it, or with 0, a start fails when it "
     "makes no "
     "progress for 5 minutes"},
    {0},
};

const struct cmd cmd_start = {
    .name = "start",
    .group = CMD_GROUP_BASIC,
    .use = "start [NAME|FILE.yaml|URL]",
    .brief = "Start an instance of Lima",
    .help = "Start an instance of Lima; one that does not exist yet is created first.",
    .example =
        "  To create an instance \"default\" (if not created yet) from the default template, and "
        "start it:\n"
        "  $ limactl start\n"
        "\n"
        "  To create an instance \"dev\" from a template, and start it:\n"
        "  $ limactl start --name=dev template:debian-12\n"
        "\n"
        "  To start an existing instance:\n"
        "  $ limactl start dev\n",
    .flags = flags,
    .config_flags = CMD_CONFIG_CREATE,
    .more_flags = cmd_create_flags,
    .more_section = "Flags inherited from `limactl create`",
    .max_args = 1,
    .warns_root = true,
    .run = run,
};
