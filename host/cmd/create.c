/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/target.h"
#include "lifecycle/delete.h"
#include "lifecycle/prepare.h"

/* An instance whose image cannot be had is not left behind: the same command can be given again. */
static int prepare(const struct cmd_context *ctx, const char *name, struct error *err)
{
    scoped(error_done) struct error cleanup = ERROR_INIT;
    int r = lifecycle_prepare_name(ctx->lima_home, name, err);

    if (r < 0 && lifecycle_delete(ctx->lima_home, name, false, &cleanup) < 0) {
        log_error_of(LOG_LEVEL_WARN, &cleanup, "removing `%s` again failed, ignoring", name);
    }
    return r;
}

static int run(const struct cmd_context *ctx, struct error *err)
{
    scoped(free) char *name = NULL;
    bool exists;
    int r = cmd_target_lists(ctx, err);

    if (r != 0) {
        return MIN(r, 0);
    }
    r = cmd_target(ctx, false, &name, &exists, err);
    if (r < 0) {
        return r;
    }
    r = prepare(ctx, name, err);
    if (r < 0) {
        return r;
    }
    log_info("Run `limactl start %s` to start the instance.", name);
    return 0;
}

const struct cmd cmd_create = {
    .name = "create",
    .group = CMD_GROUP_BASIC,
    .use = "create [FILE.yaml|URL|template:NAME|-]",
    .brief = "Create an instance of Lima",
    .help = "Create an instance of Lima and get its image; `limactl start` boots it.",
    .example = "  To create an instance \"default\" from the default template:\n"
               "  $ limactl create\n"
               "\n"
               "  To create an instance \"dev\" from a template, with 2 CPUs:\n"
               "  $ limactl create --name=dev --cpus=2 template:debian-12\n"
               "\n"
               "  To see the templates:\n"
               "  $ limactl create --list-templates\n"
               "\n"
               "  To create an instance \"local\" from a file, or from stdin:\n"
               "  $ limactl create --name=local /usr/local/share/lima/templates/default.yaml\n"
               "  $ cat template.yaml | limactl create --name=local -\n"
               "\n"
               "  To change the configuration by an expression of jq:\n"
               "  $ limactl create --set '.ssh.localPort = 60022' template:default\n",
    .config_flags = CMD_CONFIG_CREATE,
    .more_flags = cmd_create_flags,
    .max_args = 1,
    .warns_root = true,
    .run = run,
};
