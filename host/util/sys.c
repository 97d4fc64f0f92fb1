/* SPDX-License-Identifier: Apache-2.0 */
#include "util/sys.h"

#include <limits.h>
#include <linux/magic.h>
#include <pwd.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"

/* Kernel's machine name -> Lima's. */
static const struct {
    const char *machine, *arch;
} archs[] = {
    {"x86_64", "x86_64"},   {"aarch64", "aarch64"}, {"arm64", "aarch64"}, {"armv7l", "armv7l"},
    {"ppc64le", "ppc64le"}, {"riscv64", "riscv64"}, {"s390x", "s390x"},
};

const char *sys_arch(void)
{
    struct utsname name;

    if (uname(&name) == 0) {
        for (size_t i = 0; i < ARRAY_LEN(archs); i++) {
            if (strcmp(name.machine, archs[i].machine) == 0) {
                return archs[i].arch;
            }
        }
    }
    return "";
}

int sys_cpus(void)
{
    cpu_set_t set;
    long n;

    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        return CPU_COUNT(&set);
    }
    n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

int64_t sys_memory(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

const char *sys_user(void)
{
    struct passwd *pw = getpwuid(geteuid());
    const char *env = getenv("USER");

    if (pw) {
        return pw->pw_name;
    }
    return env ? env : "";
}

uid_t sys_uid(void)
{
    return geteuid();
}

static char *read_line(const char *path)
{
    scoped(buf_done) struct buf text = BUF_INIT;

    return file_read(path, 4096, &text, NULL) < 0 ? xstrdup("") : str_trim(buf_str(&text));
}

char *sys_timezone(void)
{
    scoped(free) char *zone = read_line("/etc/timezone");
    scoped(free) char *real = NULL, *zone_path = path_join("/usr/share/zoneinfo", zone);
    const char *name;

    if (*zone && !strstr(zone, "..") && file_exists(zone_path)) {
        return steal(zone);
    }
    real = realpath("/etc/localtime", NULL);
    name = real ? strstr(real, "/zoneinfo/") : NULL;
    return xstrdup(name ? name + strlen("/zoneinfo/") : "");
}

char *sys_machine_id(void)
{
    static const char *const paths[] = {"/etc/machine-id", "/var/lib/dbus/machine-id"};
    char host[HOST_NAME_MAX + 1] = "";

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        scoped(free) char *id = read_line(paths[i]);

        if (*id) {
            return steal(id);
        }
    }
    gethostname(host, sizeof(host) - 1);
    return xstrdup(host);
}

bool sys_on_nfs(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && fs.f_type == NFS_SUPER_MAGIC;
}
