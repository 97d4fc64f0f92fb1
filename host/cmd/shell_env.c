/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/shell_env.h"

#include <ctype.h>
#include <fnmatch.h>
#include <string.h>
#include "base/alloc.h"

/* What would make no sense in the guest, or break it. */
static const char *const default_block[] = {
    "BASH*",    "DISPLAY", "DYLD_*", "EUID", "FPATH",      "GID",   "GROUP",   "HOME",  "HOSTNAME",
    "LD_*",     "LOGNAME", "OLDPWD", "PATH", "PWD",        "SHELL", "SHLVL",   "SSH_*", "TERM",
    "TERMINFO", "TMPDIR",  "UID",    "USER", "XAUTHORITY", "XDG_*", "ZDOTDIR", "ZSH*",  "_*",
};

/* Adds the patterns of a list separated by commas; @name is the variable it came from. */
static int add_patterns(const char *list, const char *name, struct strv *ret, struct error *err)
{
    scoped(strv_done) struct strv parts = STRV_INIT;

    strv_split(&parts, list, ',');
    for (size_t i = 0; i < parts.len; i++) {
        scoped(free) char *pattern = str_trim(parts.items[i]);

        for (const char *p = pattern; *p; p++) {
            if (!isalnum((unsigned char)*p) && *p != '_' && *p != '*') {
                return error_set(err, EINVAL,
                                 "Invalid %s pattern: '%s' contains invalid character '%c'", name,
                                 pattern, *p);
            }
        }
        if (*pattern) {
            strv_add(ret, pattern);
        }
    }
    return 0;
}

int shell_env_block(const char *setting, struct strv *ret, struct error *err)
{
    bool replaces = setting && *setting && setting[0] != '+';

    if (!replaces) {
        for (size_t i = 0; i < ARRAY_LEN(default_block); i++) {
            strv_add(ret, default_block[i]);
        }
    }
    if (!setting || !*setting) {
        return 0;
    }
    return add_patterns(replaces ? setting : setting + 1, "LIMA_SHELLENV_BLOCK", ret, err);
}

static bool matches_any(const struct strv *patterns, const char *name)
{
    for (size_t i = 0; i < patterns->len; i++) {
        if (fnmatch(patterns->items[i], name, 0) == 0) {
            return true;
        }
    }
    return false;
}

int shell_env_select(const char *const *environment, const char *block, const char *allow,
                     struct strv *ret, struct error *err)
{
    scoped(strv_done) struct strv blocked = STRV_INIT;
    scoped(strv_done) struct strv allowed = STRV_INIT;
    int r;

    if ((r = shell_env_block(block, &blocked, err)) < 0 ||
        (r = add_patterns(allow ? allow : "", "LIMA_SHELLENV_ALLOW", &allowed, err)) < 0) {
        return r;
    }
    for (; *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        scoped(free) char *name =
            equals ? xstrndup(*environment, (size_t)(equals - *environment)) : NULL;

        if (name && *name && (matches_any(&allowed, name) || !matches_any(&blocked, name))) {
            strv_add(ret, *environment);
        }
    }
    return 0;
}
