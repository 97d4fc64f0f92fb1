/* SPDX-License-Identifier: Apache-2.0 */
#include "util/path.h"

#define LIBEXEC_DIR "libexec/lima"

#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/file.h"
#include "util/strv.h"

#undef path_join

char *path_join(const char *first, ...)
{
    scoped(buf_done) struct buf buf = BUF_INIT;
    const char *part;
    va_list ap;

    buf_puts(&buf, first);
    va_start(ap, first);
    while ((part = va_arg(ap, const char *))) {
        while (buf.len > 1 && buf.data[buf.len - 1] == '/') {
            buf_truncate(&buf, buf.len - 1);
        }
        part += strspn(part, "/");
        if (buf.len > 0 && buf.data[buf.len - 1] != '/') {
            buf_putc(&buf, '/');
        }
        buf_puts(&buf, part);
    }
    va_end(ap);
    return buf_steal(&buf);
}

char *path_clean(const char *path)
{
    bool absolute = path[0] == '/';
    scoped(strv_done) struct strv parts = STRV_INIT;
    scoped(strv_done) struct strv kept = STRV_INIT;
    scoped(free) char *joined = NULL;

    strv_split(&parts, path, '/');
    for (size_t i = 0; i < parts.len; i++) {
        const char *p = parts.items[i];

        if (!*p || strcmp(p, ".") == 0) {
            continue;
        }
        if (strcmp(p, "..") != 0) {
            strv_add(&kept, p);
        } else if (kept.len > 0 && strcmp(kept.items[kept.len - 1], "..") != 0) {
            free(kept.items[--kept.len]);
            kept.items[kept.len] = NULL;
        } else if (!absolute) {
            strv_add(&kept, p);
        }
    }
    joined = strv_join(&kept, "/");
    if (!absolute && !*joined) {
        return xstrdup(".");
    }
    return xasprintf("%s%s", absolute ? "/" : "", joined);
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

char *path_dir(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash) {
        return xstrdup(".");
    }
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

const char *path_home(void)
{
    const char *home = getenv("HOME");
    struct passwd *pw;

    if (home && *home) {
        return home;
    }
    pw = getpwuid(geteuid());
    return pw && pw->pw_dir && *pw->pw_dir ? pw->pw_dir : NULL;
}

int path_expand(const char *path, char **ret, struct error *err)
{
    if (path[0] == '~') {
        const char *home = path_home();
        scoped(free) char *full = NULL;

        if (path[1] && path[1] != '/') {
            error_set(err, EINVAL, "'%s': only '~' and '~/...' are understood", path);
            return error_hint(err, "write the folder of the other user in full"), -EINVAL;
        }
        if (!home) {
            return error_set(err, ENOENT, "'%s': no home folder is known: set HOME", path);
        }
        full = path_join(home, path + 1, NULL);
        *ret = path_clean(full);
        return 0;
    }
    if (path[0] != '/') {
        scoped(free) char *cwd = getcwd(NULL, 0);
        scoped(free) char *full = NULL;

        if (!cwd) {
            return error_errno(err, errno, "finding the working directory");
        }
        full = path_join(cwd, path, NULL);
        *ret = path_clean(full);
        return 0;
    }
    *ret = path_clean(path);
    return 0;
}

int path_lima_home(char **ret, struct error *err)
{
    const char *env = getenv("LIMA_HOME");
    scoped(free) char *path = NULL;
    char *real;
    int r;

    if (env && *env) {
        r = path_expand(env, &path, err);
        if (r < 0) {
            return error_wrap(err, r, "LIMA_HOME");
        }
    } else if (path_home()) {
        path = path_join(path_home(), ".lima", NULL);
    } else {
        return error_set(err, ENOENT, "neither LIMA_HOME nor HOME is set");
    }
    real = realpath(path, NULL);
    *ret = real ? real : steal(path);
    return 0;
}

int path_cache(char **ret, struct error *err)
{
    const char *xdg = getenv("XDG_CACHE_HOME");

    if (xdg && xdg[0] == '/') {
        *ret = path_join(xdg, "lima", NULL);
        return 0;
    }
    if (!path_home()) {
        return error_set(err, ENOENT, "neither XDG_CACHE_HOME nor HOME is set");
    }
    *ret = path_join(path_home(), ".cache/lima", NULL);
    return 0;
}

/* Of the program @exe, which lies in <prefix>/bin or <prefix>/libexec/lima. Caller frees. */
static char *prefix_of(const char *exe)
{
    scoped(free) char *dir = path_dir(exe);
    size_t len = strlen(dir), own = strlen("/" LIBEXEC_DIR);

    if (len > own && strcmp(dir + len - own, "/" LIBEXEC_DIR) == 0) {
        return xstrndup(dir, len - own);
    }
    return path_dir(dir);
}

char *path_self(void)
{
    static const char deleted[] = " (deleted)";
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe));

    if (n <= 0 || n == (ssize_t)sizeof(exe)) {
        return NULL;
    }
    if ((size_t)n > strlen(deleted) &&
        strncmp(exe + n - strlen(deleted), deleted, strlen(deleted)) == 0) {
        n -= (ssize_t)strlen(deleted);
    }
    return xstrndup(exe, (size_t)n);
}

/* @name below the folder in the environment variable @env, else below <prefix>/@dir. */
static char *beside_binary(const char *env, const char *dir, const char *name)
{
    const char *override = getenv(env);
    scoped(free) char *exe = NULL, *prefix = NULL;

    if (override && *override) {
        return path_join(override, name, NULL);
    }
    exe = path_self();
    prefix = prefix_of(exe ? exe : "/usr/local/bin/limactl");
    return path_join(prefix, dir, name, NULL);
}

char *path_share(const char *name)
{
    return beside_binary("LIMA_DATADIR", "share/lima", name);
}

char *path_libexec(const char *name)
{
    return beside_binary("LIMA_LIBEXECDIR", LIBEXEC_DIR, name);
}

char *path_tilde(const char *path)
{
    const char *home = path_home();

    if (home && strcmp(home, "/") != 0 && path_is_below(path, home)) {
        return xasprintf("~%s", path + strlen(home));
    }
    return xstrdup(path);
}

bool path_is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    if (strcmp(dir, "/") == 0) {
        return path[0] == '/';
    }
    return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}
