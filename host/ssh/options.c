/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values are read by ssh as in its configuration file: a quoted word in which backslash protects
 * quotes and itself, then '%' and "${" are expanded in paths. '%' can be doubled; "${" cannot be
 * written.
 */
#include "ssh/options.h"

#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "ssh/aes.h"
#include "ssh/keys.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/path.h"

#define CIPHERS_AES    "Ciphers=\"^aes128-gcm@openssh.com,aes256-gcm@openssh.com\""
#define CIPHERS_CHACHA "Ciphers=\"^chacha20-poly1305@openssh.com\""

static bool has_control(const char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) {
            return true;
        }
    }
    return false;
}

int options_add_quoted(struct strv *ret, const char *key, const char *value, bool expands,
                       struct error *err)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    if (has_control(value) || (expands && strstr(value, "${"))) {
        return error_set(err, EINVAL,
                         "ssh option %s: '%s' holds a line break, a control character "
                         "or '${', which ssh cannot be given",
                         key, value);
    }
    buf_printf(&out, "%s=\"", key);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\') {
            buf_putc(&out, '\\');
        } else if (expands && *value == '%') {
            buf_putc(&out, '%');
        }
        buf_putc(&out, *value);
    }
    buf_putc(&out, '"');
    strv_take(ret, buf_steal(&out));
    return 0;
}

static int add_identities(const char *lima_home, bool dot_ssh, struct strv *ret, struct error *err)
{
    scoped(strv_done) struct strv paths = STRV_INIT;
    scoped(free) char *own = keys_user_path(lima_home);
    int r = options_add_quoted(ret, "IdentityFile", own, true, err);

    if (r == 0 && dot_ssh) {
        keys_list_dot_ssh(&paths);
    }
    for (size_t i = 0; r == 0 && i < paths.len; i++) {
        char *path = paths.items[i];

        path[strlen(path) - strlen(".pub")] = '\0';
        if (file_exists(path)) {
            r = options_add_quoted(ret, "IdentityFile", path, true, err);
        }
    }
    return r;
}

static void add_flags(const struct config_ssh *ssh, struct strv *ret)
{
    const struct {
        bool on;
        const char *option;
    } flags[] = {
        {ssh->forward_agent, "ForwardAgent=yes"},
        {ssh->forward_x11, "ForwardX11=yes"},
        {ssh->forward_x11_trusted, "ForwardX11Trusted=yes"},
    };

    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (flags[i].on) {
            strv_add(ret, flags[i].option);
        }
    }
}

/* A plain login name as it is, anything else quoted. */
static int add_user(const char *user, struct strv *ret, struct error *err)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

    if (*user && strspn(user, plain) == strlen(user)) {
        strv_addf(ret, "User=%s", user);
        return 0;
    }
    return options_add_quoted(ret, "User", user, false, err);
}

int ssh_client_options(const struct ssh_client *client, const char *lima_home, const char *dir,
                       const struct config_ssh *ssh, const char *user, struct strv *ret,
                       struct error *err)
{
    scoped(strv_done) struct strv out = STRV_INIT;
    scoped(free) char *control = path_join(dir, "ssh.sock");
    int r;

    r = add_identities(lima_home, ssh->load_dot_ssh_pub_keys, &out, err);
    if (r < 0) {
        return r;
    }
    strv_add_all(&out, "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
                 "NoHostAuthenticationForLocalhost=yes", "PreferredAuthentications=publickey",
                 "Compression=no", "BatchMode=yes", "IdentitiesOnly=yes", NULL);
    if (client->gssapi) {
        strv_add(&out, "GSSAPIAuthentication=no");
    }
    if (ssh_client_at_least(client, 8, 1)) {
        strv_add(&out, aes_in_hardware() ? CIPHERS_AES : CIPHERS_CHACHA);
    }
    if ((r = add_user(user, &out, err)) < 0) {
        return r;
    }
    strv_add(&out, "ControlMaster=auto");
    if ((r = options_add_quoted(&out, "ControlPath", control, true, err)) < 0) {
        return r;
    }
    strv_add(&out, "ControlPersist=yes");
    add_flags(ssh, &out);
    strv_extend(ret, &out);
    return 0;
}

int ssh_options(const char *lima_home, const char *dir, const struct config_ssh *ssh,
                const char *user, struct strv *ret, struct error *err)
{
    scoped(ssh_client_done) struct ssh_client client = SSH_CLIENT_INIT;

    ssh_client_recall(&client);
    return ssh_client_options(&client, lima_home, dir, ssh, user, ret, err);
}
