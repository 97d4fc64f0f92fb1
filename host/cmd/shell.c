/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command goes through the guest agent where that serves commands, else through ssh, by which
 * this process is replaced. Either way what we add to its time is reading one configuration.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/shell_agent.h"
#include "cmd/shell_env.h"
#include "cmd/shell_script.h"
#include "instance/instance.h"
#include "instance/layout.h"
#include "lifecycle/start.h"
#include "ssh/ssh.h"
#include "util/term.h"
#include "util/tty.h"

enum transport {
    TRANSPORT_AUTO,
    TRANSPORT_AGENT,
    TRANSPORT_SSH,
};

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

static int preserved_env(const struct cmd_context *ctx, struct strv *ret, struct error *err)
{
    if (!cmd_flags_bool(ctx->flags, "preserve-env")) {
        return 0;
    }
    return shell_env_select((const char *const *)environ, getenv("LIMA_SHELLENV_BLOCK"),
                            getenv("LIMA_SHELLENV_ALLOW"), ret, err);
}

/* The login shell to run, or NULL for the user's own. */
static const char *shell_of(const struct cmd_context *ctx, const struct config *config)
{
    const char *shell = cmd_flags_text(ctx->flags, "shell");

    return shell && *shell ? shell : *config->user.shell ? config->user.shell : NULL;
}

/* The folder that was asked for, or NULL. */
static const char *workdir_of(const struct cmd_context *ctx)
{
    const char *workdir = cmd_flags_text(ctx->flags, "workdir");

    return workdir && *workdir ? workdir : NULL;
}

/* ---- through the guest agent ---- */

static int find_transport(const struct cmd_context *ctx, const struct config *config,
                          enum transport *ret, struct error *err)
{
    static const char *const names[] = {"auto", "agent", "ssh"};
    const char *name = cmd_flags_text(ctx->flags, "transport");

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(name, names[i])) {
            *ret = (enum transport)i;
            if (i == TRANSPORT_AUTO && (config->ssh.forward_agent || config->ssh.forward_x11)) {
                *ret = TRANSPORT_SSH; /* nothing else forwards them */
            }
            return 0;
        }
    }
    return error_set(err, EINVAL, "invalid --transport '%s': auto, agent and ssh are known", name);
}

static void add_terminal_env(bool pty, struct strv *env)
{
    const char *term = getenv("TERM");
    const char *color = getenv("COLORTERM");

    if (pty && term) {
        strv_addf(env, "TERM=%s", term);
    }
    if (color) {
        strv_addf(env, "COLORTERM=%s", color);
    }
}

/* Errors: EOPNOTSUPP (it does not go this way); see shell_agent_run(). */
static int run_by_agent(const struct cmd_context *ctx, const struct instance *inst,
                        const char *const *words, struct error *err)
{
    scoped(free) char *path = instance_path(inst, LAYOUT_GA_SOCK);
    scoped(free) char *command = shell_script_command(words);
    scoped(strv_done) struct strv env = STRV_INIT;
    const char *shell = shell_of(ctx, inst->config);
    const char *argv[] = {shell ? shell : "", "-l", command ? "-c" : NULL, command, NULL};
    const char *workdir = workdir_of(ctx);
    struct peer_exec_request request = {
        .argv = argv,
        .user = "",
        .dir = workdir ? workdir : "",
        .pty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO),
    };
    int r = preserved_env(ctx, &env, err);

    if (r < 0) {
        return r;
    }
    if (request.pty) {
        tty_size(STDIN_FILENO, &request.rows, &request.columns);
    }
    add_terminal_env(request.pty, &env);
    request.env = strv_argv(&env);
    return shell_agent_run(path, inst->name, &request, err);
}

/* ---- through ssh ---- */

/* The script that ssh hands to the guest. Caller frees. */
static int make_script(const struct cmd_context *ctx, const struct config *config,
                       const char *const *words, char **ret, struct error *err)
{
    scoped(strv_done) struct strv env = STRV_INIT;
    struct shell_script script = {
        .env = &env, .words = words, .workdir = workdir_of(ctx), .shell = shell_of(ctx, config)};
    int r = preserved_env(ctx, &env, err);

    if (r < 0) {
        return r;
    }
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

static int run_by_ssh(const struct cmd_context *ctx, const struct instance *inst,
                      const char *const *words, struct error *err)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(free) char *script = NULL;
    int r;

    if ((r = make_script(ctx, inst->config, words, &script, err)) < 0 ||
        (r = make_argv(ctx, inst, script, &argv, err)) < 0) {
        return r;
    }
    execv(argv.items[0], argv.items);
    return error_errno(err, errno, "running '%s'", argv.items[0]);
}

/* ---- the command ---- */

static int run_by_any(const struct cmd_context *ctx, const struct instance *inst,
                      enum transport transport, const char *const *words, struct error *err)
{
    scoped(error_done) struct error local = ERROR_INIT;
    int r;

    if (transport == TRANSPORT_SSH) {
        return run_by_ssh(ctx, inst, words, err);
    }
    if (transport == TRANSPORT_AGENT) {
        r = run_by_agent(ctx, inst, words, err);
        if (r == -EOPNOTSUPP) {
            error_wrap(err, r, "instance `%s`: the guest agent runs no commands now", inst->name);
            error_hint(err, "use --transport=ssh");
        }
        return r;
    }
    r = run_by_agent(ctx, inst, words, &local);
    if (r == -EOPNOTSUPP) {
        log_debug("not through the guest agent: %s", error_text(&local));
        return run_by_ssh(ctx, inst, words, err);
    }
    if (r < 0) {
        error_move(err, &local);
    }
    return r;
}

static int run(const struct cmd_context *ctx, struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    const char *const *words = NULL;
    const char *name = NULL;
    enum transport transport = TRANSPORT_AUTO;
    int r;

    if ((r = take_instance(ctx, &name, &words, err)) < 0) {
        return r;
    }
    warn_of_verb(*words);
    if ((r = open_instance(ctx->lima_home, name, &inst, err)) < 0 ||
        (r = ensure_running(ctx, &inst, err)) < 0 ||
        (r = find_transport(ctx, inst->config, &transport, err)) < 0) {
        return r;
    }
    if (cmd_flags_bool(ctx->flags, "reconnect")) {
        ssh_master_stop(inst->dir);
    }
    return run_by_any(ctx, inst, transport, words, err);
}

static const struct cmd_flag flags[] = {
    {"instance", 0, CMD_FLAG_STRING, NULL,
     "`Name` of the instance; then all arguments are the command", true},
    {"preserve-env", 0, CMD_FLAG_BOOL, NULL,
     "Pass environment variables on, but those in LIMA_SHELLENV_BLOCK"},
    {"reconnect", 0, CMD_FLAG_BOOL, NULL, "End the shared ssh connection first, for a new login"},
    {"shell", 0, CMD_FLAG_STRING, NULL, "`Shell` to run instead of the user's own"},
    {"start", 0, CMD_FLAG_BOOL, NULL, "Start the instance if it is stopped"},
    {"transport", 0, CMD_FLAG_STRING, "auto",
     "`Way` into the guest: agent, ssh, or auto for the agent where it serves commands"},
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
            "status is the command's. `lima` is short for `limactl shell $LIMA_INSTANCE`.\n"
            "On a terminal, the keys ~. at the beginning of a line end the connection.",
    .example = "  limactl shell default uname -a\n"
               "  limactl shell --workdir /tmp default sh -c 'echo \"$PWD\"'\n",
    .flags = flags,
    .max_args = -1,
    .mode = CMD_FLAGS_STOP_AT_ARG,
    .run = run,
};
