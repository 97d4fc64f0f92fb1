/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"

#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "util/path.h"

static const struct cmd_flag flags[] = {
    {"pidfile", 'p', CMD_FLAG_STRING, NULL, "write PID to `FILE`"},
    {"socket", 0, CMD_FLAG_STRING, NULL, "`FILE` of the API socket"},
    {"guestagent", 0, CMD_FLAG_STRING, NULL, "accepted for old callers; the seed has it", true},
    {"progress", 0, CMD_FLAG_BOOL, NULL, "accepted for old callers; events always have it", true},
    {NULL},
};

/* Becomes the program that runs beside the VM: see agent/main.c. */
static int hostagent_run(const struct cmd_context *ctx, struct error *err)
{
    scoped(free) char *program = path_libexec("lima-hostagent");
    const char *pidfile = cmd_flags_text(ctx->flags, "pidfile");
    const char *socket = cmd_flags_text(ctx->flags, "socket");
    scoped(strv_done) struct strv argv = STRV_INIT;

    if (!pidfile || !socket) {
        return error_set(err, EINVAL, "required flag(s) \"%s\" not set",
                         pidfile ? "socket" : "pidfile");
    }
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
    .flags = flags,
    .min_args = 1,
    .max_args = 1,
    .run = hostagent_run,
};
