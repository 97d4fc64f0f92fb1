/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include "api/client.h"
#include "base/alloc.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "instance/instance.h"
#include "instance/layout.h"

#define PATIENCE_MS 240000 /* the agents give up before */

static int find_running(const struct cmd_context *ctx, const char *name, char **ret_socket,
                        struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    int r = instance_open(ctx->lima_home, name, &inst, err);

    if (r < 0) {
        return r;
    }
    if (inst->status != INSTANCE_STATUS_RUNNING) {
        error_set(err, ENOTCONN, "instance `%s` is not running", name);
        return error_hint(err, "a start brings the guest agent of this version by itself");
    }
    if (inst->config->plain) {
        return error_set(err, EOPNOTSUPP, "instance `%s` is plain: it has no guest agent", name);
    }
    *ret_socket = instance_path(inst, LAYOUT_HA_SOCK);
    return 0;
}

/* What the host agent is asked for. */
static int make_body(const struct cmd_context *ctx, jv *ret, struct error *err)
{
    const char *program = cmd_flags_text(ctx->flags, "program");
    bool rollback = cmd_flags_bool(ctx->flags, "rollback");
    char path[PATH_MAX];

    *ret = JV_OBJECT(jv_string("rollback"), jv_bool(rollback));
    if (!program || !*program) {
        return 0;
    }
    if (rollback || !realpath(program, path)) {
        jv_free(*ret);
        return rollback ? error_set(err, EINVAL, "option --program conflicts with --rollback")
                        : error_errno(err, errno, "option --program '%s'", program);
    }
    *ret = jv_object_set(*ret, jv_string("program"), jv_string(path));
    return 0;
}

static void report(const char *name, jv answer)
{
    scoped(value_done) jv upgraded = jv_object_get(jv_copy(answer), jv_string("upgraded"));
    scoped(value_done) jv version = jv_object_get(answer, jv_string("version"));
    const char *text = jv_get_kind(version) == JV_KIND_STRING ? jv_string_value(version) : "?";

    if (jv_get_kind(upgraded) == JV_KIND_TRUE) {
        log_info("The guest agent of `%s` is version %s now.", name, text);
    } else {
        log_info("The guest agent of `%s` is this one already, version %s.", name, text);
    }
}

static int run(const struct cmd_context *ctx, struct error *err)
{
    const char *name = ctx->args->len ? ctx->args->items[0] : "default";
    scoped(free) char *socket = NULL;
    jv body, answer;
    int r = find_running(ctx, name, &socket, err);

    if (r == 0) {
        r = make_body(ctx, &body, err);
    }
    if (r < 0) {
        return r;
    }
    r = api_call(socket, "POST", "/v1/guest/upgrade", body, PATIENCE_MS, &answer, err);
    if (r < 0) {
        return error_wrap(err, r, "replacing the guest agent of instance `%s`", name);
    }
    report(name, jv_get_kind(answer) == JV_KIND_OBJECT ? answer : (jv_free(answer), jv_object()));
    return 0;
}

static const struct cmd_flag flags[] = {
    {"program", 0, CMD_FLAG_STRING, "", "Install this `file` instead of the one of this version"},
    {"rollback", 0, CMD_FLAG_BOOL, NULL, "Go back to the agent that was there before"},
    {0},
};

const struct cmd cmd_guest_install = {
    .name = "guest-install",
    .group = CMD_GROUP_ADVANCED,
    .use = "guest-install [INSTANCE]",
    .brief = "Replace the guest agent of a running instance",
    .help =
        "Put the guest agent that belongs to this version of Lima into a running instance,\n"
        "`default` if none is named, and let it take over. A new agent that does not come up is\n"
        "replaced by the old one again, by itself. Shells and commands that run through the\n"
        "agent end. An agent older than this version is replaced without being asked when the\n"
        "host agent begins.",
    .flags = flags,
    .max_args = 1,
    .run = run,
};
