/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for vhost-device-vsock beside fake-qemu: the same command line and the same manners of
 * its Unix socket. "CONNECT PORT\n" is answered with "OK PORT\n", and then bytes go between the
 * connection and the Unix socket FAKE_QEMU_STREAM, where the guest agent listens in place of vsock.
 * As with the original an end of file of either side closes the whole connection.
 *
 * Environment:
 *   FAKE_QEMU_STREAM=PATH   where the guest agent listens
 *   FAKE_VSOCK_LOG=PATH     gets a line for each connection
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/file.h"

#define PIECE    65536
#define LINE_MAX 32

static _noreturn_ void die(const char *what)
{
    fprintf(stderr, "fake-vsock: %s\n", what);
    exit(1);
}

static void note(const char *text)
{
    const char *path = getenv("FAKE_VSOCK_LOG");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

    if (fd >= 0) {
        fd_write_all(fd, text, strlen(text));
        close(fd);
    }
}

/* False at the end of either side. */
static bool pass(int from, int to)
{
    static char data[PIECE];
    ssize_t n = read(from, data, sizeof(data));

    return n > 0 && fd_write_all(to, data, (size_t)n) == 0;
}

static void bridge(int host, int guest)
{
    struct pollfd p[] = {{.fd = host, .events = POLLIN}, {.fd = guest, .events = POLLIN}};

    while (poll(p, 2, -1) >= 0) {
        if ((p[0].revents && !pass(host, guest)) || (p[1].revents && !pass(guest, host))) {
            return;
        }
    }
}

static void serve(int host)
{
    const char *path = getenv("FAKE_QEMU_STREAM");
    char line[LINE_MAX + 1] = "";
    size_t len = 0;
    unsigned port;
    int guest;

    while (len < LINE_MAX && read(host, line + len, 1) == 1 && line[len] != '\n') {
        len++;
    }
    if (sscanf(line, "CONNECT %u\n", &port) != 1 || !path ||
        file_connect_unix(path, &guest, NULL) < 0) {
        note("refused\n");
        return;
    }
    note("connected\n");
    dprintf(host, "OK %u\n", port);
    bridge(host, guest);
}

static const char *value_of(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], name, strlen(name)) == 0) {
            return argv[i] + strlen(name);
        }
    }
    die(name);
}

int main(int argc, char **argv)
{
    int device, uds;

    if (file_listen_unix(value_of(argc, argv, "--uds-path="), 128, &uds, NULL) < 0 ||
        file_listen_unix(value_of(argc, argv, "--socket="), 1, &device, NULL) < 0) {
        die("cannot listen");
    }
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        struct pollfd p = {.fd = uds, .events = POLLIN};
        int host = poll(&p, 1, -1) == 1 ? accept4(uds, NULL, NULL, SOCK_CLOEXEC) : -1;

        if (host >= 0 && fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(uds);
            serve(host);
            _exit(0);
        }
        if (host >= 0) {
            close(host);
        }
    }
}
