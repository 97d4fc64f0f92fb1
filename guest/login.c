/* SPDX-License-Identifier: Apache-2.0 */
#include "login.h"

#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/alloc.h"
#include "files.h"

#define PATH_ROOT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define PATH_USER "/usr/local/bin:/usr/bin:/bin:/usr/games"

static bool take(const struct passwd *pw, struct system_user *ret)
{
    if (!pw) {
        return false;
    }
    *ret = (struct system_user){.name = xstrdup(pw->pw_name),
                                .uid = pw->pw_uid,
                                .gid = pw->pw_gid,
                                .home = xstrdup(pw->pw_dir),
                                .shell = xstrdup(*pw->pw_shell ? pw->pw_shell : "/bin/sh")};
    return true;
}

bool login_find(const char *name, struct system_user *ret)
{
    return take(getpwnam(name), ret);
}

bool login_find_self(struct system_user *ret)
{
    return take(getpwuid(geteuid()), ret);
}

static void add_file(const char *path, struct envlist *env)
{
    scoped(free) char *text = files_read(path, FILES_TEXT_MAX, NULL);

    if (text) {
        envlist_parse_lenient(env, text);
    }
}

static void add_session(const struct system_user *user, struct envlist *env)
{
    scoped(free) char *runtime = xasprintf("/run/user/%lu", (unsigned long)user->uid);
    scoped(free) char *bus = xasprintf("%s/bus", runtime);
    scoped(free) char *address = xasprintf("unix:path=%s", bus);

    if (files_exist(runtime)) {
        envlist_set(env, "XDG_RUNTIME_DIR", runtime);
    }
    if (files_exist(bus)) {
        envlist_set(env, "DBUS_SESSION_BUS_ADDRESS", address);
    }
}

void login_env(const struct system_user *user, struct envlist *env)
{
    envlist_set(env, "PATH", user->uid ? PATH_USER : PATH_ROOT);
    add_file("/etc/environment", env);
    add_file("/etc/default/locale", env);
    envlist_set(env, "HOME", user->home);
    envlist_set(env, "USER", user->name);
    envlist_set(env, "LOGNAME", user->name);
    envlist_set(env, "SHELL", user->shell);
    add_session(user, env);
}
