/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sshport.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include "base/alloc.h"
#include "instance/layout.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/units.h"

#define LEGACY_PORT 60022

/* Binds 127.0.0.1:@port (0: any) and lets go again. The port, or -errno. */
static int probe(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    scoped(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
        return -errno;
    }
    return ntohs(address.sin_port);
}

int sshport_any(int *ret, struct error *err)
{
    int r = probe(0);

    if (r < 0) {
        return error_errno(err, -r, "looking for a free port on 127.0.0.1");
    }
    *ret = r;
    return 0;
}

int sshport_choose(const struct instance *inst, int *ret, struct error *err)
{
    int port = inst->config->ssh.local_port, r;

    if (port > 0) {
        r = probe(port);
        if (r < 0) {
            error_errno(err, -r, "ssh.localPort %d on 127.0.0.1", port);
            error_hint(err, "free the port, or set ssh.localPort to another one, or to 0");
            return r;
        }
        *ret = port;
        return 0;
    }
    port = ssh_config_port(inst->dir);
    if (port == 0 && strcmp(inst->name, "default") == 0 && *inst->version &&
        version_compare(inst->version, "2.0.0") < 0) {
        port = LEGACY_PORT;
    }
    if (port > 0 && probe(port) == port) {
        *ret = port;
        return 0;
    }
    return sshport_any(ret, err);
}
