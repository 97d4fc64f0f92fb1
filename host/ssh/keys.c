/* SPDX-License-Identifier: Apache-2.0 */
#include "ssh/keys.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define KEY_MAX           (64u << 10) /* bytes of a public key file */
#define KEYGEN_TIMEOUT_MS 60000

char *keys_user_path(const char *lima_home)
{
    return path_join(lima_home, "_config", "user");
}

void keys_list_dot_ssh(struct strv *ret)
{
    const char *home = path_home();
    scoped(free) char *path = home ? path_join(home, ".ssh") : NULL;
    DIR *dir = path ? opendir(path) : NULL;
    struct dirent *entry;

    if (!dir) {
        return;
    }
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] != '.' && str_ends(entry->d_name, ".pub")) {
            strv_take(ret, path_join(path, entry->d_name));
        }
    }
    closedir(dir);
    strv_sort(ret);
}

/* The key line of @path; NULL if it holds anything but one. Caller frees. */
static char *key_read(const char *path)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(free) char *line = NULL;

    if (file_read(path, KEY_MAX, &text, NULL) < 0) {
        return NULL;
    }
    if (memchr(text.data ? text.data : "", '\0', text.len)) {
        return NULL;
    }
    line = str_trim(buf_str(&text));
    for (const char *p = line; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return NULL;
        }
    }
    return strchr(line, ' ') ? steal(line) : NULL;
}

/* Makes the pair under temporary names, so that whoever finds `user` finds a complete key. */
static int key_generate(const char *key, const char *pub, struct error *err)
{
    scoped(free) char *tmp = xasprintf("%s.new", key);
    scoped(free) char *tmp_pub = xasprintf("%s.pub", tmp);
    const char *argv[] = {"ssh-keygen", "-t",   "ed25519", "-q", "-N", "",
                          "-C",         "lima", "-f",      tmp,  NULL};
    int r;

    if ((r = file_remove(tmp, err)) < 0 || (r = file_remove(tmp_pub, err)) < 0) {
        return r;
    }
    r = process_check(argv, KEYGEN_TIMEOUT_MS, NULL, err);
    if (r == -ENOENT) {
        error_hint(err, "install the OpenSSH client");
    }
    if (r < 0) {
        return r;
    }
    if (rename(tmp_pub, pub) < 0 || rename(tmp, key) < 0) {
        return error_errno(err, errno, "renaming '%s'", tmp);
    }
    return 0;
}

/* The public half of a private key whose .pub was lost. */
static int key_derive(const char *key, const char *pub, struct error *err)
{
    const char *argv[] = {"ssh-keygen", "-y", "-f", key, NULL};
    scoped(buf_done) struct buf text = BUF_INIT;
    int r = process_check(argv, KEYGEN_TIMEOUT_MS, &text, err);

    return r < 0 ? r : file_write(pub, text.data, text.len, 0644, err);
}

/* The pair exists afterwards; callers hold the lock. */
static int pair_ensure(const char *key, const char *pub, struct error *err)
{
    if (!file_exists(key)) {
        return key_generate(key, pub, err);
    }
    return file_exists(pub) ? 0 : key_derive(key, pub, err);
}

static int user_key_ensure(const char *lima_home, char **ret_line, struct error *err)
{
    scoped(free) char *dir = path_join(lima_home, "_config");
    scoped(free) char *key = keys_user_path(lima_home);
    scoped(free) char *pub = xasprintf("%s.pub", key);
    scoped(fd_close) int lock = -1;
    int r;

    if ((r = file_mkdirs(dir, 0700, err)) < 0 || (r = file_lock(dir, false, &lock, err)) < 0 ||
        (r = pair_ensure(key, pub, err)) < 0) {
        return error_wrap(err, r, "making the ssh key '%s'", key);
    }
    *ret_line = key_read(pub);
    if (!*ret_line) {
        error_set(err, EINVAL, "'%s' holds no public key", pub);
        return error_hint(err, "remove the file: it is made again from '%s'", key);
    }
    return 0;
}

int ssh_keys_ensure(const char *lima_home, bool dot_ssh, struct strv *ret_keys, struct error *err)
{
    scoped(strv_done) struct strv paths = STRV_INIT;
    scoped(free) char *own = NULL;
    int r = user_key_ensure(lima_home, &own, err);

    if (r < 0) {
        return r;
    }
    strv_add(ret_keys, own);
    if (dot_ssh) {
        keys_list_dot_ssh(&paths);
    }
    for (size_t i = 0; i < paths.len; i++) {
        scoped(free) char *line = key_read(paths.items[i]);

        if (!line) {
            log_debug("'%s' holds no public key, ignoring", paths.items[i]);
        } else if (!strv_contains(ret_keys, line)) {
            strv_add(ret_keys, line);
        }
    }
    return 0;
}
