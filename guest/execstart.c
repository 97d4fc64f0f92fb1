/* SPDX-License-Identifier: Apache-2.0 */
#include "execstart.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "login.h"
#include "pty.h"

static void process_done(struct exec_process *process)
{
    fd_close(process->in);
    fd_close(process->out);
    fd_close(process->err);
    free(process->name);
    free(process->dir);
}
SCOPED_VAL(struct exec_process, process_done)

static int find_user(const struct execs_options *options, const char *wanted,
                     struct system_user *ret, struct error *err)
{
    const char *name = wanted;

    if (!*name && options->user) {
        name = options->user(options->arg);
        if (!*name) {
            return error_set(err, ENOENT, "the instance's user is not known yet");
        }
    }
    if (*name ? !login_find(name, ret) : !login_find_self(ret)) {
        return error_set(err, ENOENT, "there is no user '%s'", name);
    }
    if (geteuid() != 0 && geteuid() != ret->uid) {
        return error_set(err, EPERM, "only root can run commands as '%s'", name);
    }
    return 0;
}

/* What the child gets; ends that are the child's alone are closed by whoever calls. */
struct ends {
    int fds[3];
};

static void ends_done(struct ends *ends)
{
    for (size_t i = 0; i < ARRAY_LEN(ends->fds); i++) {
        fd_close(ends->fds[i]);
    }
}
SCOPED_VAL(struct ends, ends_done)

/* *ret_ours does not block. */
static int make_pipe(bool input, int *ret_ours, int *ret_theirs, struct error *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return error_errno(err, errno, "opening a pipe");
    }
    *ret_ours = fds[input ? 1 : 0];
    *ret_theirs = fds[input ? 0 : 1];
    fcntl(*ret_ours, F_SETFL, O_NONBLOCK);
    return 0;
}

static int make_terminal(struct exec_process *process, const struct exec_request *request,
                         uid_t uid, struct ends *ends, struct error *err)
{
    int r = pty_open(uid, request->rows, request->columns, &process->out, &ends->fds[0], err);

    if (r < 0) {
        return r;
    }
    process->in = fcntl(process->out, F_DUPFD_CLOEXEC, 3);
    ends->fds[1] = fcntl(ends->fds[0], F_DUPFD_CLOEXEC, 3);
    ends->fds[2] = fcntl(ends->fds[0], F_DUPFD_CLOEXEC, 3);
    return process->in < 0 || ends->fds[1] < 0 || ends->fds[2] < 0
               ? error_errno(err, errno, "opening a terminal")
               : 0;
}

static int make_pipes(struct exec_process *process, struct ends *ends, struct error *err)
{
    int r;

    if ((r = make_pipe(true, &process->in, &ends->fds[0], err)) < 0 ||
        (r = make_pipe(false, &process->out, &ends->fds[1], err)) < 0) {
        return r;
    }
    return make_pipe(false, &process->err, &ends->fds[2], err);
}

static void make_env(const struct system_user *user, const struct exec_request *request,
                     struct envlist *env)
{
    const struct envlist given = {.items = request->env, .count = request->env_count};

    login_env(user, env);
    envlist_merge(env, &given, "");
}

static char *working_dir(const struct system_user *user, const char *dir)
{
    return !*dir         ? xstrdup(user->home)
           : *dir == '/' ? xstrdup(dir)
                         : xasprintf("%s/%s", user->home, dir);
}

/* *ret_login is to be freed; @ret_argv has room for one more than the request has, at least two. */
static const char *make_argv(const struct system_user *user, const struct exec_request *request,
                             const char **argv, char **ret_login)
{
    const char *slash = strrchr(user->shell, '/');
    const char *path = request->argc && *request->argv[0] ? request->argv[0] : user->shell;

    for (size_t i = 0; i < request->argc; i++) {
        argv[i] = request->argv[i];
    }
    argv[0] = path;
    if (!request->argc) {
        *ret_login = xasprintf("-%s", slash ? slash + 1 : user->shell);
        argv[0] = *ret_login;
    }
    return path;
}

static int start_program(struct children *children, const struct exec_request *request,
                         const struct system_user *user, const struct ends *ends,
                         struct exec_process *process, exec_ended_fn *ended, void *arg,
                         struct error *err)
{
    const struct spawn_identity identity = {user->name, user->uid, user->gid};
    scoped(envlist_done) struct envlist env = {0};
    scoped(free) const char **argv = xnew_n(const char *, request->argc + 2);
    scoped(free) char *login = NULL;
    struct spawn_options options = {.argv = argv,
                                    .as = geteuid() == 0 ? &identity : NULL,
                                    .dir = process->dir,
                                    .dir_optional = !*request->dir,
                                    .terminal = request->pty};

    make_env(user, request, &env);
    options.path = make_argv(user, request, argv, &login);
    options.envp = (const char *const *)env.items;
    memcpy(options.fds, ends->fds, sizeof(options.fds));
    process->name = xstrdup(options.path);
    return process_start(children, &options, ended, arg, &process->process, &process->status, err);
}

int exec_process_start(const struct execs_options *options, const struct exec_request *request,
                       exec_ended_fn *ended, void *arg, struct exec_process *ret, struct error *err)
{
    scoped(system_user_done) struct system_user user = {0};
    scoped(ends_done) struct ends ends = {{-1, -1, -1}};
    scoped(process_done) struct exec_process process = {.in = -1, .out = -1, .err = -1};
    int r = find_user(options, request->user, &user, err);

    if (r < 0) {
        return r;
    }
    process.dir = working_dir(&user, request->dir);
    r = request->pty ? make_terminal(&process, request, user.uid, &ends, err)
                     : make_pipes(&process, &ends, err);
    if (r < 0 || (r = start_program(options->children, request, &user, &ends, &process, ended, arg,
                                    err)) < 0) {
        return r;
    }
    *ret = process;
    process = (struct exec_process){.in = -1, .out = -1, .err = -1};
    return 0;
}
