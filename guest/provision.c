/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root's scripts run from the medium. The user cannot read that, so those scripts (and probes) are
 * copied to RUN_DIR for as long as they run, and started by the login shell, as a login would: its
 * profile is read, and /etc/environment before that. Interpreters are started by us rather than by
 * the kernel, because /run may be mounted noexec.
 */
#include "provision.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "files.h"
#include "tail.h"

#define RUN_DIR        "/run/lima-guestagent"
#define SCRIPT_MAX     (8u << 20)
#define PATH_ROOT      "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define RETRY_MIN_MS   200
#define RETRY_MAX_MS   3000
#define STATUS_NOSTART 126
#define ARGS_MAX       (PROVISION_ARGS_MAX + 5)

struct provision {
    struct loop *loop;
    struct children *children;
    struct events *events;
    const struct seed *seed;
    /* the run */
    enum seed_mode mode;
    const struct system_user *user;
    provision_done_fn *done;
    void *arg;
    size_t next; /* index into the seed's scripts */
    /* the script */
    const struct seed_script *script; /* NULL: none runs */
    struct child *child;
    char *copy; /* path of the user's copy */
    struct tail tail;
    struct loop_timer *retry; /* of a probe */
    unsigned retry_ms;
    uint64_t began_us;
};

static void run_script(struct provision *p);
static void run_next(struct provision *p);

void provision_command(const char *head, const char *path, char *ret[PROVISION_ARGS_MAX + 1])
{
    size_t count = 0;

    if (strncmp(head, "#!", 2) == 0) {
        const char *line = head + 2 + strspn(head + 2, " \t");
        size_t len = strcspn(line, "\r\n");
        size_t word = MIN(len, strcspn(line, " \t"));
        size_t at = word + strspn(line + word, " \t");

        while (len && (line[len - 1] == ' ' || line[len - 1] == '\t')) {
            len--;
        }
        if (word) {
            ret[count++] = xstrndup(line, word);
        }
        if (word && at < len) {
            ret[count++] = xstrndup(line + at, len - at);
        }
    }
    if (!count && strncmp(head, "\177ELF", 4) != 0) {
        ret[count++] = xstrdup("/bin/sh");
    }
    ret[count++] = xstrdup(path);
    ret[count] = NULL;
}

struct provision *provision_new(struct loop *loop, struct children *children, struct events *events,
                                const struct seed *seed)
{
    struct provision *p = xnew(struct provision);

    p->loop = loop;
    p->children = children;
    p->events = events;
    p->seed = seed;
    return p;
}

static void drop_copy(struct provision *p)
{
    if (p->copy) {
        unlink(p->copy);
        free(p->copy);
        p->copy = NULL;
    }
}

void provision_free(struct provision *p)
{
    if (!p) {
        return;
    }
    if (p->child) {
        child_kill(p->child, SIGTERM);
        child_forget(p->child);
    }
    drop_copy(p);
    loop_timer_free(p->retry);
    free(p);
}

static bool as_user(const struct provision *p)
{
    return p->mode == SEED_MODE_USER || p->mode == SEED_MODE_PROBE;
}

static void root_env(const struct provision *p, struct envlist *env)
{
    envlist_set(env, "PATH", PATH_ROOT);
    envlist_set(env, "HOME", "/root");
    envlist_set(env, "USER", "root");
    envlist_set(env, "LOGNAME", "root");
    envlist_set(env, "SHELL", "/bin/sh");
    envlist_merge(env, &p->seed->env, "");
    envlist_merge(env, &p->seed->vars, "LIMA_CIDATA_");
    envlist_merge(env, &p->seed->params, "PARAM_");
    envlist_set(env, "LIMA_CIDATA_MNT", p->seed->dir);
}

static void user_env(const struct provision *p, struct envlist *env)
{
    scoped(free) char *environment = files_read("/etc/environment", FILES_TEXT_MAX, NULL);
    scoped(free) char *runtime = xasprintf("/run/user/%lu", (unsigned long)p->user->uid);

    envlist_set(env, "PATH", PATH_ROOT);
    if (environment) {
        envlist_parse_lenient(env, environment);
    }
    envlist_set(env, "HOME", p->user->home);
    envlist_set(env, "USER", p->user->name);
    envlist_set(env, "LOGNAME", p->user->name);
    envlist_set(env, "SHELL", p->user->shell);
    envlist_set(env, "XDG_RUNTIME_DIR", runtime);
    envlist_merge(env, &p->seed->params, "PARAM_");
}

/* Shells that know -l and "$@"; with another one the script runs without the profile. */
static bool is_posix_shell(const char *shell)
{
    static const char *const names[] = {"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh"};
    const char *slash = strrchr(shell, '/');
    const char *name = slash ? slash + 1 : shell;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void on_script_output(const void *data, size_t len, void *arg)
{
    struct provision *p = arg;

    tail_put(&p->tail, data, len);
}

static void on_retry_due(void *arg)
{
    run_script(arg);
}

/* True when the probe gets another try. */
static bool retry_probe(struct provision *p)
{
    if (p->mode != SEED_MODE_PROBE ||
        loop_now_us() - p->began_us > (uint64_t)PROVISION_PROBE_LIMIT_MS * 1000) {
        return false;
    }
    if (!p->retry) {
        p->retry = loop_timer_new(p->loop, on_retry_due, p);
    }
    loop_timer_start(p->retry, p->retry_ms);
    p->retry_ms = MIN(2 * p->retry_ms, RETRY_MAX_MS);
    return true;
}

static void script_ended(struct provision *p, int status)
{
    const struct seed_script *script = p->script;

    drop_copy(p);
    if (status && retry_probe(p)) {
        return;
    }
    if (status) {
        scoped(free) char *tail = tail_text(&p->tail);

        log_warn("'%s' exited with status %d, ignoring", script->name, status);
        events_script_ended(p->events, script->name, status, tail, script->hint);
    } else {
        events_script_ended(p->events, script->name, 0, NULL, NULL);
    }
    p->script = NULL;
    run_next(p);
}

static void on_script_exited(int status, void *arg)
{
    struct provision *p = arg;

    p->child = NULL;
    script_ended(p, status);
}

/* The user's copy of the script; its path in p->copy. */
static int copy_script(struct provision *p, const char *text, struct error *err)
{
    int r;

    r = files_mkdirs(RUN_DIR, 0755, err);
    if (r < 0) {
        return r;
    }
    p->copy = xasprintf("%s/script-%zu", RUN_DIR, p->next);
    unlink(p->copy);
    r = files_write_as(p->copy, text, 0500, p->user->uid, p->user->gid, err);
    return r < 0 ? r : 0;
}

static int start_script(struct provision *p, struct error *err)
{
    scoped(envlist_done) struct envlist env = {0};
    struct spawn_identity identity;
    struct child_options options = {
        .dir = "/", .output = on_script_output, .exited = on_script_exited, .arg = p};
    char *command[PROVISION_ARGS_MAX + 1] = {0};
    const char *argv[ARGS_MAX + 1];
    size_t count = 0;
    scoped(free) char *text = files_read(p->script->path, SCRIPT_MAX, err);
    int r = text ? 0 : -EIO;

    if (r == 0 && as_user(p)) {
        r = copy_script(p, text, err);
    }
    if (r < 0) {
        return r;
    }
    if (as_user(p)) {
        identity = (struct spawn_identity){p->user->name, p->user->uid, p->user->gid};
        options.as = &identity;
        options.dir = p->user->home;
        user_env(p, &env);
        if (is_posix_shell(p->user->shell)) {
            argv[count++] = p->user->shell;
            argv[count++] = "-l";
            argv[count++] = "-c";
            argv[count++] = "exec \"$@\"";
            argv[count++] = "lima";
        }
    } else {
        root_env(p, &env);
    }
    provision_command(p->mode == SEED_MODE_BOOT ? "" : text, p->copy ? p->copy : p->script->path,
                      command);
    for (size_t i = 0; command[i]; i++) {
        argv[count++] = command[i];
    }
    argv[count] = NULL;
    options.argv = argv;
    options.envp = (const char *const *)env.items;
    r = child_start(p->children, &options, &p->child, err);
    for (size_t i = 0; command[i]; i++) {
        free(command[i]);
    }
    return r;
}

static void run_script(struct provision *p)
{
    scoped(error_done) struct error err = ERROR_INIT;

    tail_clear(&p->tail);
    if (start_script(p, &err) < 0) {
        tail_put(&p->tail, error_text(&err), strlen(error_text(&err)));
        script_ended(p, STATUS_NOSTART);
    }
}

static void run_next(struct provision *p)
{
    while (p->next < p->seed->script_count && p->seed->scripts[p->next].mode != p->mode) {
        p->next++;
    }
    if (p->next == p->seed->script_count) {
        p->done(p->arg);
        return;
    }
    p->script = &p->seed->scripts[p->next++];
    p->retry_ms = RETRY_MIN_MS;
    p->began_us = loop_now_us();
    log_info("running '%s'", p->script->name);
    events_script_began(p->events, p->script->name);
    run_script(p);
}

void provision_run(struct provision *p, enum seed_mode mode, const struct system_user *user,
                   provision_done_fn *done, void *arg)
{
    assert(!p->script);
    p->mode = mode;
    p->user = user;
    p->done = done;
    p->arg = arg;
    p->next = 0;
    run_next(p);
}
