/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The master of a user's ssh connections (ControlMaster) listens on ssh.sock; it is told to end in
 * its own language, PROTOCOL.mux of OpenSSH. It answers little and then goes, which is the end of
 * the connection; so nothing that it says needs to be understood.
 */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/loop.h"
#include "util/path.h"

#define MASTER_SOCKET "ssh.sock"
#define EXIT_MS       5000

static const uint8_t hello_and_terminate[] = {
    0,    0, 0, 8, /* length */
    0,    0, 0, 1, /* MUX_MSG_HELLO */
    0,    0, 0, 4, /* version */
    0,    0, 0, 8, /* length */
    0x10, 0, 0, 5, /* MUX_C_TERMINATE */
    0,    0, 0, 0, /* request */
};

/* Reads until the other end closes. */
static int wait_for_end(int fd, struct error *err)
{
    int64_t end_ms = loop_now_ms() + EXIT_MS;
    char chunk[256];
    ssize_t n = 1;

    while (n != 0) {
        int64_t left_ms = end_ms - loop_now_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (left_ms <= 0) {
            return error_set(err, ETIMEDOUT, "it has not ended within %d s", EXIT_MS / 1000);
        }
        if (poll(&p, 1, (int)left_ms) <= 0) {
            continue;
        }
        n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return errno == ECONNRESET ? 0 : error_errno(err, errno, "reading");
        }
    }
    return 0;
}

/* A socket that has room for so few bytes takes them at once. */
static int master_exit(int fd, struct error *err)
{
    ssize_t n =
        send(fd, hello_and_terminate, sizeof(hello_and_terminate), MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n != sizeof(hello_and_terminate)) {
        return error_errno(err, n < 0 ? errno : EIO, "writing");
    }
    return wait_for_end(fd, err);
}

void ssh_master_stop(const char *dir)
{
    scoped(free) char *socket = path_join(dir, MASTER_SOCKET);
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(fd_close) int fd = -1;
    int r = file_connect_unix(socket, &fd, &err);

    if (r == -ENOENT) {
        return;
    }
    if (r == 0 && master_exit(fd, &err) < 0) {
        log_debug("ending the ssh master on '%s': %s, ignoring", socket, error_text(&err));
    }
    file_remove(socket, NULL);
}
