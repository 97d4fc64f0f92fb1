/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/path.h"

#define CONFIG_FILE "ssh.config"
#define CONFIG_MAX  (256u << 10)

static const char header[] =
    "# For 'ssh -F' and 'Include': how to reach this instance by ssh.\n"
    "# Written by limactl, which itself passes the same options on the command line.\n"
    "# Changes are lost: the file is written again at each start.\n";

static bool has_line_break(const char *s)
{
    return strpbrk(s, "\r\n") != NULL;
}

int ssh_config_write(const char *dir, const char *hostname, const struct strv *options, int port,
                     struct error *err)
{
    scoped(free) char *path = path_join(dir, CONFIG_FILE);
    scoped(buf_done) struct buf out = BUF_INIT;

    if (!*hostname || strpbrk(hostname, " \t\r\n\"*?!#")) {
        return error_set(err, EINVAL, "'%s' cannot be a host name in '%s'", hostname, path);
    }
    buf_printf(&out, "%sHost %s\n", header, hostname);
    for (size_t i = 0; i < options->len; i++) {
        const char *option = options->items[i];
        const char *value = strchr(option, '=');

        if (!value || has_line_break(option)) {
            return error_set(err, EINVAL, "'%s' cannot be an option in '%s'", option, path);
        }
        buf_printf(&out, "  %.*s %s\n", (int)(value - option), option, value + 1);
    }
    buf_printf(&out, "  Hostname 127.0.0.1\n  Port %d\n", port);
    return file_write(path, out.data, out.len, 0600, err);
}

int ssh_config_port(const char *dir)
{
    scoped(free) char *path = path_join(dir, CONFIG_FILE);
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(strv_done) struct strv lines = STRV_INIT;
    int port;

    if (file_read(path, CONFIG_MAX, &text, NULL) < 0) {
        return 0;
    }
    strv_split(&lines, buf_str(&text), '\n');
    for (size_t i = lines.len; i-- > 0;) {
        if (sscanf(lines.items[i], " Port %d", &port) == 1 && port > 0 && port < 65536) {
            return port;
        }
    }
    return 0;
}
