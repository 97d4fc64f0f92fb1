/* SPDX-License-Identifier: Apache-2.0 */
#include "seed.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "cloudinit.h"
#include "files.h"
#include "text.h"

#define BLOCK_DIR     "/sys/class/block"
#define SECTOR_SIZE   2048
#define SECTOR_NUMBER 16
#define VOLUME_ID_AT  40
#define VOLUME_ID_LEN 32
#define DIGITS        8 /* of a script's file name */

bool seed_is_volume(const unsigned char *sector, const char *label)
{
    const char *id = (const char *)sector + VOLUME_ID_AT;
    size_t len = VOLUME_ID_LEN;

    if (sector[0] != 1 || memcmp(sector + 1, "CD001", 5) != 0) {
        return false;
    }
    while (len && (id[len - 1] == ' ' || id[len - 1] == '\0')) {
        len--;
    }
    return len == strlen(label) && strncasecmp(id, label, len) == 0;
}

static bool device_is_seed(const char *path)
{
    unsigned char sector[SECTOR_SIZE];
    scoped(fd_close) int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

    return fd >= 0 &&
           pread(fd, sector, sizeof(sector), SECTOR_NUMBER * SECTOR_SIZE) == sizeof(sector) &&
           seed_is_volume(sector, SEED_LABEL);
}

/* CD drives, virtio and SCSI disks; whole ones and partitions alike. */
static bool name_fits(const char *name)
{
    static const char *const prefixes[] = {"sr", "vd", "sd", "xvd", "nvme"};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}

char *seed_find_device(void)
{
    DIR *dir = opendir(BLOCK_DIR);
    struct dirent *entry;
    char *found = NULL;

    while (dir && !found && (entry = readdir(dir))) {
        scoped(free) char *path = xasprintf("/dev/%s", entry->d_name);

        if (name_fits(entry->d_name) && device_is_seed(path)) {
            found = steal(path);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return found;
}

bool seed_mounted(void)
{
    return files_exist(SEED_DIR "/lima.env");
}

int seed_mount(const char *device, struct error *err)
{
    int r;

    if (seed_mounted()) {
        return 0;
    }
    r = files_mkdirs(SEED_DIR, 0700, err);
    if (r < 0) {
        return r;
    }
    if (mount(device, SEED_DIR, "iso9660", MS_RDONLY | MS_NODEV | MS_NOSUID,
              "mode=0700,dmode=0700,overriderockperm,uid=0") < 0) {
        return error_errno(err, errno, "mounting the seed '%s'", device);
    }
    return 0;
}

static char *read_text(const struct seed *seed, const char *name, struct error *err)
{
    scoped(free) char *path = xasprintf("%s/%s", seed->dir, name);

    return files_read(path, SEED_TEXT_MAX, err);
}

/* An absent file is an empty one. */
static char *read_optional(const struct seed *seed, const char *name)
{
    char *text = read_text(seed, name, NULL);

    return text ? text : xstrdup("");
}

static char *without_comments(const char *text)
{
    struct buf out = BUF_INIT;

    while (*text) {
        size_t len = strcspn(text, "\n");

        if (len && *text != '#') {
            buf_put(&out, text, len);
            buf_putc(&out, '\n');
        }
        text += len + (text[len] == '\n');
    }
    return buf_steal(&out);
}

static int load_texts(struct seed *seed, struct error *err)
{
    scoped(free) char *meta = read_text(seed, "meta-data", err);
    scoped(free) char *vars = meta ? read_text(seed, "lima.env", err) : NULL;
    scoped(free) char *params = read_optional(seed, "param.env");
    scoped(free) char *env = read_optional(seed, "etc_environment");
    scoped(free) char *user_data = read_optional(seed, "user-data");
    const char *hostname;
    int r;

    if (!vars) {
        return -EIO;
    }
    r = envlist_parse(&seed->vars, vars, "lima.env", err);
    r = r < 0 ? r : envlist_parse(&seed->params, params, "param.env", err);
    if (r < 0) {
        return r;
    }
    seed->only_init = cloudinit_only_init(user_data);
    seed->env_text = without_comments(env);
    envlist_parse_lenient(&seed->env, seed->env_text);
    seed->ssh_keys = read_optional(seed, "ssh_authorized_keys");
    seed->instance_id = text_yaml_scalar(meta, "instance-id");
    hostname = envlist_get(&seed->vars, "LIMA_CIDATA_HOSTNAME");
    seed->hostname = hostname ? xstrdup(hostname) : text_yaml_scalar(meta, "local-hostname");
    if (!seed->instance_id || !*seed->instance_id) {
        return error_set(err, EINVAL, "'meta-data' has no instance-id");
    }
    if (!*envlist_text(&seed->vars, "LIMA_CIDATA_USER")) {
        return error_set(err, EINVAL, "'lima.env' has no LIMA_CIDATA_USER");
    }
    return 0;
}

static int is_script(const struct dirent *entry)
{
    return strspn(entry->d_name, "0123456789") == DIGITS && !entry->d_name[DIGITS];
}

/* The text of a file beside the script @path, or "". Caller frees. */
static char *read_beside(const char *path, const char *suffix)
{
    scoped(free) char *name = xasprintf("%s.%s", path, suffix);
    char *text = files_read(name, SEED_TEXT_MAX, NULL);

    if (!text) {
        return xstrdup("");
    }
    for (size_t len = strlen(text); len && isspace((unsigned char)text[len - 1]); len--) {
        text[len - 1] = '\0';
    }
    return text;
}

static void add_script(struct seed *seed, enum seed_mode mode, const char *folder,
                       const char *number)
{
    struct seed_script script = {.mode = mode};

    script.path = xasprintf("%s/%s/%s", seed->dir, folder, number);
    if (mode == SEED_MODE_PROBE) {
        scoped(free) char *description = read_beside(script.path, "description");

        description[strcspn(description, "\n")] = '\0';
        script.name = xasprintf("probe/%lu%s%s", strtoul(number, NULL, 10),
                                *description ? ": " : "", description);
        script.hint = read_beside(script.path, "hint");
    } else {
        script.name = xasprintf("%s/%s", folder, number);
    }
    array_reserve(seed->scripts, seed->script_cap, seed->script_count + 1);
    seed->scripts[seed->script_count++] = script;
}

static int load_scripts(struct seed *seed, struct error *err)
{
    static const char *const folders[] = {
        [SEED_MODE_BOOT] = "provision.boot",
        [SEED_MODE_SYSTEM] = "provision.system",
        [SEED_MODE_USER] = "provision.user",
        [SEED_MODE_PROBE] = "probes",
    };

    for (size_t mode = 0; mode < ARRAY_LEN(folders); mode++) {
        scoped(free) char *path = xasprintf("%s/%s", seed->dir, folders[mode]);
        struct dirent **entries = NULL;
        int count = scandir(path, &entries, is_script, alphasort);

        for (int i = 0; i < count; i++) {
            if (seed->script_count < SEED_SCRIPTS_MAX) {
                add_script(seed, (enum seed_mode)mode, folders[mode], entries[i]->d_name);
            }
            free(entries[i]);
        }
        free(entries);
        if (count > SEED_SCRIPTS_MAX) {
            return error_set(err, E2BIG, "more than %d scripts in '%s'", SEED_SCRIPTS_MAX, path);
        }
    }
    return 0;
}

int seed_load(const char *dir, struct seed **ret, struct error *err)
{
    scoped(seed_free) struct seed *seed = xnew(struct seed);
    int r;

    seed->dir = xstrdup(dir);
    r = load_texts(seed, err);
    r = r < 0 ? r : load_scripts(seed, err);
    if (r < 0) {
        return error_wrap(err, r, "reading the seed in '%s'", dir);
    }
    *ret = steal(seed);
    return 0;
}

void seed_drop_scripts(struct seed *seed)
{
    for (size_t i = 0; i < seed->script_count; i++) {
        free(seed->scripts[i].name);
        free(seed->scripts[i].path);
        free(seed->scripts[i].hint);
    }
    seed->script_count = 0;
}

void seed_free(struct seed *seed)
{
    if (!seed) {
        return;
    }
    seed_drop_scripts(seed);
    free(seed->scripts);
    free(seed->dir);
    free(seed->instance_id);
    free(seed->hostname);
    free(seed->env_text);
    free(seed->ssh_keys);
    envlist_done(&seed->vars);
    envlist_done(&seed->params);
    envlist_done(&seed->env);
    free(seed);
}

size_t seed_count(const struct seed *seed, enum seed_mode mode)
{
    size_t count = 0;

    for (size_t i = 0; i < seed->script_count; i++) {
        count += seed->scripts[i].mode == mode;
    }
    return count;
}
