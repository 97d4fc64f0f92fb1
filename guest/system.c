/* SPDX-License-Identifier: Apache-2.0 */
#include "system.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "files.h"
#include "rights.h"
#include "login.h"
#include "text.h"

#define HOST_ALIAS    "host.lima.internal"
#define BLOCK_BEGIN   "#LIMA-START"
#define BLOCK_END     "#LIMA-END"
#define SUBID_START   524288ul
#define SUBID_COUNT   1073741824ul
#define LINGER_FOLDER "/var/lib/systemd/linger"

void system_user_done(struct system_user *user)
{
    free(user->name);
    free(user->home);
    free(user->shell);
    *user = (struct system_user){0};
}

bool system_find_user(const struct seed *seed, struct system_user *ret)
{
    return login_find(envlist_text(&seed->vars, "LIMA_CIDATA_USER"), ret);
}

bool system_has_systemd(void)
{
    return files_exist("/run/systemd/system");
}

/* systemd's init takes real-time signals as requests; the C library's SIGRTMIN differs between
 * libcs. */
int system_power(bool reboot)
{
    const int base = 34;

    if (!system_has_systemd()) {
        return -ENOTSUP;
    }
    return kill(1, reboot ? base + 5 : base + 4) < 0 ? -errno : 0;
}

/* The text of @path, "" when it is not there, NULL (logged) when it cannot be read. */
static char *read_or_empty(const char *path)
{
    scoped(error_done) struct error err = ERROR_INIT;
    char *text = files_read(path, FILES_TEXT_MAX, &err);

    if (!text && err.code == ENOENT) {
        return xstrdup("");
    }
    if (!text) {
        log_error_of(LOG_LEVEL_WARN, &err, "settings of the seed, ignoring");
    }
    return text;
}

/* Takes @take_text (may be NULL: nothing to do). */
static void save(const char *path, char *take_text, mode_t mode)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = take_text;

    if (text && files_write(path, text, mode, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "settings of the seed, ignoring");
    }
}

static void apply_hostname(const char *hostname)
{
    scoped(free) char *line = xasprintf("%s\n", hostname);
    char old[HOST_NAME_MAX + 1] = "";

    gethostname(old, sizeof(old) - 1);
    if (strcmp(old, hostname) != 0 && sethostname(hostname, strlen(hostname)) < 0) {
        log_warn("setting the host name '%s': %s, ignoring", hostname, strerror(errno));
    }
    save("/etc/hostname", steal(line), 0644);
}

static void apply_hosts(const struct seed *seed)
{
    const char *gateway = envlist_text(&seed->vars, "LIMA_CIDATA_SLIRP_GATEWAY");
    char *text = read_or_empty("/etc/hosts");

    if (text && *gateway) {
        scoped(free) char *old = text;

        text = text_hosts(old, gateway, HOST_ALIAS);
    }
    /* sudo looks its own host up on each call. */
    if (text && seed->hostname && !text_hosts_names(text, seed->hostname)) {
        scoped(free) char *old = text;

        text = text_hosts(old, "127.0.1.1", seed->hostname);
    }
    save("/etc/hosts", text, 0644);
}

void system_apply_machine(const struct seed *seed)
{
    scoped(free) char *environment = read_or_empty("/etc/environment");

    if (seed->hostname && *seed->hostname) {
        apply_hostname(seed->hostname);
    }
    apply_hosts(seed);
    if (environment) {
        save("/etc/environment", text_block(environment, BLOCK_BEGIN, BLOCK_END, seed->env_text),
             0644);
    }
}

static int make_ssh_folder(const char *path, const struct system_user *user, struct error *err)
{
    if (mkdir(path, 0700) == 0) {
        return lchown(path, user->uid, user->gid) < 0
                   ? error_errno(err, errno, "giving '%s' away", path)
                   : 0;
    }
    return errno == EEXIST ? 0 : error_errno(err, errno, "making '%s'", path);
}

static int add_keys(const char *keys, const struct system_user *user, struct error *err)
{
    scoped(free) char *folder = xasprintf("%s/.ssh", user->home);
    scoped(free) char *path = xasprintf("%s/authorized_keys", folder);
    scoped(free) char *old = read_or_empty(path);
    scoped(free) char *text = old ? text_with_lines(old, keys) : NULL;
    int r;

    if (!text || !*keys || strcmp(old, text) == 0) {
        return 0;
    }
    r = make_ssh_folder(folder, user, err);
    return r < 0 ? r : files_write_as(path, text, 0600, user->uid, user->gid, err);
}

void system_apply_keys(const char *keys, const struct system_user *user)
{
    scoped(rights_return) struct rights saved = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    const struct rights_user as = {.name = user->name, .uid = user->uid, .gid = user->gid};
    int r = rights_take(&as, &saved, &err);

    r = r < 0 ? r : add_keys(keys, user, &err);
    if (r < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "authorised keys, ignoring");
    }
}

static void apply_subid(const char *path, const struct system_user *user)
{
    unsigned long start = user->uid >= SUBID_START ? user->uid + 1ul : SUBID_START;
    scoped(free) char *old = read_or_empty(path);

    if (old) {
        save(path, text_subid(old, user->name, start, SUBID_COUNT), 0644);
    }
}

static void apply_linger(const struct system_user *user)
{
    scoped(free) char *path = xasprintf("%s/%s", LINGER_FOLDER, user->name);
    scoped(error_done) struct error err = ERROR_INIT;

    if (!files_exist("/var/lib/systemd") || files_exist(path)) {
        return;
    }
    if (files_mkdirs(LINGER_FOLDER, 0755, &err) < 0 || files_write(path, "", 0644, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "letting the user's services run, ignoring");
    }
}

void system_apply_user(const struct seed *seed, const struct system_user *user)
{
    system_apply_keys(seed->ssh_keys, user);
    apply_subid("/etc/subuid", user);
    apply_subid("/etc/subgid", user);
    apply_linger(user);
}
