/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"

#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "instance/layout.h"
#include "util/path.h"

static const struct cmd_flag flags[] = {
    {"guestagent", 0, CMD_FLAG_STRING, NULL, "Accepted: the seed has the agent", true},
    {"nerdctl-archive", 0, CMD_FLAG_STRING, NULL, "Accepted and not used", true},
    {"pidfile", 'p', CMD_FLAG_STRING, NULL, "Write the PID to a `file`"},
    {"progress", 0, CMD_FLAG_BOOL, NULL, "Accepted: progress is always reported", true},
    {"run-gui", 0, CMD_FLAG_BOOL, NULL, "Accepted and not used", true},
    {"socket", 0, CMD_FLAG_STRING, NULL, "`Path` of the socket for requests"},
    {0},
};

/* Becomes the program that runs beside the VM: see agent/main.c. */
static int hostagent_run(const struct cmd_context *ctx, struct error *err)
{
    scoped(free) char *program = path_libexec("lima-hostagent");
    const char *given = cmd_flags_text(ctx->flags, "pidfile");
    scoped(free) char *pidfile = NULL;
    const char *socket = cmd_flags_text(ctx->flags, "socket");
    scoped(strv_done) struct strv argv = STRV_INIT;

    if (!socket || !*socket) {
        return error_set(err, EINVAL, "required flag(s) \"socket\" not set");
    }
    pidfile =
        given ? xstrdup(given) : path_join(ctx->lima_home, ctx->args->items[0], LAYOUT_HA_PID);
    strv_add_all(&argv, program, "--pidfile", pidfile, "--socket", socket, NULL);
    if (log_get_level() <= LOG_LEVEL_DEBUG) {
        strv_add(&argv, "--debug");
    }
    strv_add_all(&argv, "--", ctx->args->items[0], NULL);
    execv(program, (char *const *)strv_argv(&argv));
    return error_errno(err, errno, "running '%s'", program);
}

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
    .run = hostagent_run,
};
