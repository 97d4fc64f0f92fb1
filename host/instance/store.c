/* SPDX-License-Identifier: Apache-2.0 */
#include "instance/store.h"

#include <dirent.h>
#include <string.h>
#include <sys/un.h>
#include "base/alloc.h"
#include "instance/layout.h"
#include "util/file.h"
#include "util/units.h"

static void close_dir(DIR *dir)
{
    closedir(dir);
}
SCOPED_PTR(DIR, close_dir)

int instance_names(const char *lima_home, struct strv *ret, struct error *err)
{
    scoped(close_dir) DIR *dir = opendir(lima_home);
    scoped(strv_done) struct strv names = STRV_INIT;
    struct dirent *entry;

    if (!dir) {
        return errno == ENOENT ? 0 : error_errno(err, errno, "listing '%s'", lima_home);
    }
    while ((errno = 0, entry = readdir(dir))) {
        scoped(free) char *path = NULL;

        if (entry->d_name[0] == '_' || entry->d_name[0] == '.') {
            continue;
        }
        path = path_join(lima_home, entry->d_name);
        if (file_is_dir(path)) {
            strv_add(&names, entry->d_name);
        }
    }
    if (errno) {
        return error_errno(err, errno, "listing '%s'", lima_home);
    }
    strv_sort(&names);
    strv_extend(ret, &names);
    return 0;
}

char *instance_dir(const char *lima_home, const char *name)
{
    return path_join(lima_home, name);
}

bool instance_exists(const char *lima_home, const char *name)
{
    scoped(free) char *dir = instance_dir(lima_home, name);

    return instance_name_ok(name) && file_is_dir(dir);
}

int instance_check_name(const char *lima_home, const char *name, struct error *err)
{
    scoped(free) char *probe = NULL;
    size_t max = sizeof(((struct sockaddr_un *)0)->sun_path);

    if (!instance_name_ok(name)) {
        error_set(err, EINVAL, "`%s` is not a valid instance name", name);
        return error_hint(err, "use letters and digits, with single '.', '_' or '-' between them, "
                               "at most 76 characters, not ending in .yaml"),
               -EINVAL;
    }
    probe = path_join(lima_home, name, LAYOUT_SOCKET_PROBE);
    if (strlen(probe) >= max) {
        error_set(
            err, ENAMETOOLONG,
            "instance name `%s` too long: the socket path `%s` must have fewer than %zu bytes, "
            "it has %zu",
            name, probe, max, strlen(probe));
        return error_hint(err, "choose a shorter name or a shorter LIMA_HOME"), -ENAMETOOLONG;
    }
    return 0;
}
