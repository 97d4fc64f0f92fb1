/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `limactl shell` becomes ssh: the command line is put together and the process replaced, so exit
 * status, signals and the terminal are ssh's own, and what we add to its time is reading one
 * configuration.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/shell_env.h"
#include "cmd/shell_script.h"
#include "instance/instance.h"
#include "lifecycle/start.h"
#include "ssh/ssh.h"
#include "util/term.h"

/* The instance and the words for the guest, taken from the arguments. @ret_words is borrowed. */
static int take_instance(const struct cmd_context *ctx, const char **ret_name,
                         const char *const **ret_words, struct error *err)
{
    const char *const *args = strv_argv(ctx->args);
    const char *name = cmd_flags_text(ctx->flags, "instance");

    if (!name || !*name) {
        name = *args;
        if (!name) {
            return error_set(err, EINVAL, "requires instance name as first argument");
        }
        args++;
        if (str_eq(*args, "--")) {
            args++;
        }
    }
    *ret_name = name;
    *ret_words = args;
    return 0;
}

static void warn_of_verb(const char *word)
{
    static const char *const verbs[] = {"create", "start", "delete", "shell"};

    for (size_t i = 0; word && i < ARRAY_LEN(verbs); i++) {
        if (strcmp(word, verbs[i]) == 0) {
            log_warn("Perhaps you meant `limactl %s`?", word);
        }
    }
}

static int open_instance(const char *lima_home, const char *name, struct instance **ret,
                         struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    int r = instance_open(lima_home, name, &inst, err);

    if (r == -ENOENT) {
        return error_set(err, ENOENT,
                         "instance `%s` does not exist, run `limactl create %s` to create a new "
                         "instance",
                         name, name);
    }
    if (r < 0) {
        return r;
    }
    if (!inst->config) {
        return error_set(err, EINVAL, "instance `%s` has no configuration: %s", name,
                         inst->errors.len > 0 ? inst->errors.items[0] : "it cannot be read");
    }
    *ret = steal(inst);
    return 0;
}

/* Whether a stopped instance is to be started: told by the flag, else asked for on a terminal. */
static int wants_start(const struct cmd_context *ctx, const char *name, bool *ret,
                       struct error *err)
{
    scoped(free) char *question = NULL;

    if (cmd_flags_given(ctx->flags, "start")) {
        *ret = cmd_flags_bool(ctx->flags, "start");
        return 0;
    }
    if (!ctx->tty || !term_stdin_is_tty()) {
        *ret = false;
        return 0;
    }
    question = xasprintf("Instance '%s' is stopped. Start it now?", name);
    return term_confirm(question, true, ret, err);
}

/* Makes sure that the instance runs. *inst is opened again after a start. */
static int ensure_running(const struct cmd_context *ctx, struct instance **inst, struct error *err)
{
    scoped(free) char *name = xstrdup((*inst)->name);
    const struct lifecycle_start_options options = {
        .lima_home = ctx->lima_home, .name = name, .quiet = true};
    bool start;
    int r;

    if ((*inst)->status != INSTANCE_STATUS_STOPPED) {
        return 0;
    }
    r = wants_start(ctx, name, &start, err);
    if (r < 0) {
        return r;
    }
    if (!start) {
        return error_set(err, ESRCH,
                         "instance `%s` is stopped, run `limactl start %s` to start the instance",
                         name, name);
    }
    r = lifecycle_start(&options, err);
    if (r < 0) {
        return r;
    }
    instance_free(steal(*inst));
    return open_instance(ctx->lima_home, name, inst, err);
}

/* The script that ssh hands to the guest. Caller frees. */
static int make_script(const struct cmd_context *ctx, const struct config *config,
                       const char *const *words, char **ret, struct error *err)
{
    scoped(strv_done) struct strv env = STRV_INIT;
    const char *workdir = cmd_flags_text(ctx->flags, "workdir");
    const char *shell = cmd_flags_text(ctx->flags, "shell");
    struct shell_script script = {.env = &env, .words = words};
    int r;

    if (cmd_flags_bool(ctx->flags, "preserve-env")) {
        r = shell_env_select((const char *const *)environ, getenv("LIMA_SHELLENV_BLOCK"),
                             getenv("LIMA_SHELLENV_ALLOW"), &env, err);
        if (r < 0) {
            return r;
        }
    }
    script.workdir = workdir && *workdir ? workdir : NULL;
    script.shell = shell && *shell ? shell : *config->user.shell ? config->user.shell : NULL;
    *ret = shell_script_make(&script);
    return 0;
}

static int make_argv(const struct cmd_context *ctx, const struct instance *inst, const char *script,
                     struct strv *ret, struct error *err)
{
    scoped(ssh_client_done) struct ssh_client client = SSH_CLIENT_INIT;
    scoped(strv_done) struct strv options = STRV_INIT;
    int port = inst->ssh_port ? inst->ssh_port : ssh_config_port(inst->dir);
    int r;

    if (port == 0) {
        return error_set(err, ENOTCONN, "instance `%s`: the ssh port is not known yet", inst->name);
    }
    if ((r = ssh_client_find(&client, err)) < 0 ||
        (r = ssh_client_options(&client, ctx->lima_home, inst->dir, &inst->config->ssh,
                                inst->config->user.name, &options, err)) < 0) {
        return r;
    }
    strv_extend(ret, &client.command);
    strv_add_all(ret, "-F", "/dev/null", NULL);
    for (size_t i = 0; i < options.len; i++) {
        strv_add_all(ret, "-o", options.items[i], NULL);
    }
    if (isatty(STDOUT_FILENO)) {
        strv_add(ret, "-t");
    }
    if (getenv("COLORTERM")) {
        strv_add_all(ret, "-o", "SendEnv=COLORTERM", NULL);
    }
    strv_add_all(ret, "-o",
                 ssh_client_at_least(&client, 8, 9) ? "LogLevel=ERROR" : "LogLevel=QUIET", "-p",
                 NULL);
    strv_addf(ret, "%d", port);
    strv_add_all(ret, "127.0.0.1", "--", script, NULL);
    return 0;
}

static int run(const struct cmd_context *ctx, struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(free) char *script = NULL;
    const char *const *words = NULL;
    const char *name = NULL;
    int r;

    if ((r = take_instance(ctx, &name, &words, err)) < 0) {
        return r;
    }
    warn_of_verb(*words);
    if ((r = open_instance(ctx->lima_home, name, &inst, err)) < 0 ||
        (r = ensure_running(ctx, &inst, err)) < 0 ||
        (r = make_script(ctx, inst->config, words, &script, err)) < 0) {
        return r;
    }
    if (cmd_flags_bool(ctx->flags, "reconnect")) {
        ssh_master_stop(inst->dir);
    }
    r = make_argv(ctx, inst, script, &argv, err);
    if (r < 0) {
        return r;
    }
    execv(argv.items[0], argv.items);
    return error_errno(err, errno, "running '%s'", argv.items[0]);
}

static const struct cmd_flag flags[] = {
    {"instance", 0, CMD_FLAG_STRING, NULL,
     "`Name` of the instance; then all arguments are the command", true},
    {"preserve-env", 0, CMD_FLAG_BOOL, NULL,
     "Pass environment variables on, but those in LIMA_SHELLENV_BLOCK"},
    {"reconnect", 0, CMD_FLAG_BOOL, NULL, "End the shared ssh connection first, for a new login"},
    {"shell", 0, CMD_FLAG_STRING, NULL, "`Shell` to run instead of the user's own"},
    {"start", 0, CMD_FLAG_BOOL, NULL, "Start the instance if it is stopped"},
    {"workdir", 0, CMD_FLAG_STRING, NULL, "`Folder` of the guest to work in"},
    {0},
};

static const char *const suggest_for[] = {"ssh", NULL};

const struct cmd cmd_shell = {
    .name = "shell",
    .suggest_for = suggest_for,
    .group = CMD_GROUP_BASIC,
    .use = "shell [flags] INSTANCE [COMMAND...]",
    .brief = "Execute a shell in the guest",
    .help = "Run a command in the guest, or an interactive shell. Arguments arrive unchanged; the "
            "exit\n"
            "status is the command's. `lima` is short for `limactl shell $LIMA_INSTANCE`.",
    .example = "  limactl shell default uname -a\n"
               "  limactl shell --workdir /tmp default sh -c 'echo \"$PWD\"'\n",
    .flags = flags,
    .max_args = -1,
    .mode = CMD_FLAGS_STOP_AT_ARG,
    .run = run,
};
