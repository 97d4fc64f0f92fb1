/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the ssh client can do is asked by `ssh -o GSSAPIAuthentication=no -V`, which tells its
 * version on stderr and rejects an option that it does not know. The answer is one line of text in
 * the cache folder, followed by the path it is about; size and modification time of the program
 * tell whether it still holds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define CACHE_FILE       "ssh-client"
#define CACHE_MAX        8192
#define CACHE_FORMAT     1
#define PROBE_TIMEOUT_MS 10000

/* What one may expect of a client that was not asked. */
#define MODERN_MAJOR 8
#define MODERN_MINOR 1

void ssh_client_done(struct ssh_client *client)
{
    strv_done(&client->command);
    *client = SSH_CLIENT_INIT;
}

bool ssh_client_at_least(const struct ssh_client *client, int major, int minor)
{
    return client->major > major || (client->major == major && client->minor >= minor);
}

/* What identifies the program's file; the first words of a cache entry. */
static char *cache_key(const struct stat *st)
{
    return xasprintf("%d %" PRId64 " %" PRId64 ".%09ld", CACHE_FORMAT, (int64_t)st->st_size,
                     (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

static bool cache_load(const char *path, const char *key, struct ssh_client *client)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(strv_done) struct strv lines = STRV_INIT;
    int major, minor, gssapi;

    if (file_read(path, CACHE_MAX, &text, NULL) < 0) {
        return false;
    }
    strv_split(&lines, buf_str(&text), '\n');
    if (lines.len < 2 || !str_starts(lines.items[0], key) ||
        !str_eq(lines.items[1], client->command.items[0]) ||
        sscanf(lines.items[0] + strlen(key), " %d %d %d", &major, &minor, &gssapi) != 3) {
        return false;
    }
    client->major = major;
    client->minor = minor;
    client->gssapi = gssapi;
    return true;
}

/* A cache that cannot be written only costs time. */
static void cache_save(const char *path, const char *key, const struct ssh_client *client)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *dir = path_dir(path);
    scoped(free) char *text = xasprintf("%s %d %d %d\n%s\n", key, client->major, client->minor,
                                        client->gssapi, client->command.items[0]);

    if (file_mkdirs(dir, 0755, &err) < 0 || file_write_text(path, text, 0644, &err) < 0) {
        log_debug("what ssh can do is not remembered: %s, ignoring", error_text(&err));
    }
}

static int client_probe(struct ssh_client *client, struct error *err)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    scoped(buf_done) struct buf out = BUF_INIT;
    const char *version;
    int r;

    strv_extend(&argv, &client->command);
    strv_add_all(&argv, "-o", "GSSAPIAuthentication=no", "-V", NULL);
    r = process_capture(strv_argv(&argv), NULL, PROBE_TIMEOUT_MS, &out, &out, err);
    if (r < 0) {
        return error_wrap(err, r, "asking '%s' for its version", client->command.items[0]);
    }
    version = strstr(buf_str(&out), "OpenSSH_");
    if (!version || sscanf(version, "OpenSSH_%d.%d", &client->major, &client->minor) != 2) {
        client->major = client->minor = 0;
    }
    client->gssapi = !strcasestr(buf_str(&out), "unsupported option");
    return 0;
}

/* @ret_cache is NULL where there is no cache. Both are the caller's to free. */
static int cache_place(const struct ssh_client *client, char **ret_cache, char **ret_key,
                       struct error *err)
{
    scoped(free) char *folder = NULL;
    struct stat st;

    if (stat(client->command.items[0], &st) < 0) {
        return error_errno(err, errno, "'%s'", client->command.items[0]);
    }
    *ret_key = cache_key(&st);
    *ret_cache = path_cache(&folder, NULL) == 0 ? path_join(folder, CACHE_FILE) : NULL;
    return 0;
}

static int client_inspect(struct ssh_client *client, struct error *err)
{
    scoped(free) char *cache = NULL;
    scoped(free) char *key = NULL;
    int r = cache_place(client, &cache, &key, err);

    if (r < 0 || (cache && cache_load(cache, key, client))) {
        return r;
    }
    r = client_probe(client, err);
    if (r == 0 && cache) {
        cache_save(cache, key, client);
    }
    return r;
}

static int find_command(struct ssh_client *client, struct error *err)
{
    const char *env = getenv("SSH");
    char *program;
    int r = ssh_words(env ? env : "", &client->command, err);

    if (r < 0) {
        return error_wrap(err, r, "environment variable SSH");
    }
    if (client->command.len == 0) {
        strv_add(&client->command, "ssh");
    }
    program = process_find_program(client->command.items[0]);
    if (!program) {
        error_set(err, ENOENT, "no program '%s' in PATH", client->command.items[0]);
        return error_hint(err, "install the OpenSSH client");
    }
    free(client->command.items[0]);
    client->command.items[0] = program;
    return 0;
}

int ssh_client_find(struct ssh_client *ret, struct error *err)
{
    scoped(ssh_client_done) struct ssh_client client = SSH_CLIENT_INIT;
    int r;

    if ((r = find_command(&client, err)) < 0 || (r = client_inspect(&client, err)) < 0) {
        return r;
    }
    *ret = client;
    client = SSH_CLIENT_INIT;
    return 0;
}

void ssh_client_recall(struct ssh_client *ret)
{
    scoped(free) char *cache = NULL;
    scoped(free) char *key = NULL;

    *ret = SSH_CLIENT_INIT;
    if (find_command(ret, NULL) < 0 || cache_place(ret, &cache, &key, NULL) < 0 || !cache ||
        !cache_load(cache, key, ret)) {
        ret->major = MODERN_MAJOR;
        ret->minor = MODERN_MINOR;
    }
}
