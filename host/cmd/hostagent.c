/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "instance/layout.h"

static int run(const struct cmd_context *ctx, struct error *err)
{
    const char *name = ctx->args->items[0];
    const char *given = cmd_flags_text(ctx->flags, "pidfile");
    scoped(free) char *pidfile =
        given ? xstrdup(given) : path_join(ctx->lima_home, name, LAYOUT_HA_PID);
    struct agent_options options = {.lima_home = ctx->lima_home,
                                    .instance = name,
                                    .pidfile = pidfile,
                                    .socket = cmd_flags_text(ctx->flags, "socket"),
                                    .guestagent = cmd_flags_text(ctx->flags, "guestagent")};

    if (!options.socket || !*options.socket) {
        return error_set(err, EINVAL, "required flag(s) \"socket\" not set");
    }
    log_set_format(LOG_FORMAT_JSON);
    log_set_level(log_get_level() > LOG_LEVEL_TRACE ? log_get_level() - 1 : LOG_LEVEL_TRACE);
    return agent_run(&options, err);
}

static const struct cmd_flag flags[] = {
    {"guestagent", 0, CMD_FLAG_STRING, NULL, "`Path` of the guest agent binary"},
    {"nerdctl-archive", 0, CMD_FLAG_STRING, NULL, "Accepted and not used", true},
    {"pidfile", 'p', CMD_FLAG_STRING, NULL, "Write the PID to a `file`"},
    {"progress", 0, CMD_FLAG_BOOL, NULL, "Accepted: progress is always reported", true},
    {"run-gui", 0, CMD_FLAG_BOOL, NULL, "Accepted and not used", true},
    {"socket", 0, CMD_FLAG_STRING, NULL, "`Path` of the socket for requests"},
    {0},
};

const struct cmd cmd_hostagent = {
    .name = "hostagent",
    .group = CMD_GROUP_HIDDEN,
    .use = "hostagent INSTANCE",
    .brief = "Run the host agent of an instance",
    .help = "Run the host agent of an instance: events as JSON lines on stdout, logs on stderr.\n"
            "It is started by `limactl start`.",
    .flags = flags,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
