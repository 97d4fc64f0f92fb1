/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For programs that speak the protocol of guest.proto over a Unix socket, in the guest or on the
 * host. One connection is one call: messages, each behind its length, as the protocol documentation
 * of Lima describes; for some services raw bytes follow. Blocking, libc only.
 *
 * In the guest, as root: LIMA_GUEST_SOCKET, for the services Info, Register and Accept.
 * On the host: ga.sock in the folder of the instance, for all services of the guest.
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#define LIMA_GUEST_SOCKET "/run/lima-guestagent/agent.sock"
#define LIMA_MESSAGE_MAX  16384 /* bytes; longer ones exist in Exec only */

/* A connected socket, or -1 with errno. */
static inline int lima_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        int saved = errno;

        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* All of it; 0, or -1 with errno. */
static inline int lima_write(int fd, const void *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR) {
            return -1;
        }
        data = (const char *)data + (n > 0 ? n : 0);
        len -= (size_t)(n > 0 ? n : 0);
    }
    return 0;
}

/* Exactly @len bytes; 0, or -1 with errno (EPIPE: the end came first). */
static inline int lima_read(int fd, void *data, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(fd, data, len, 0);

        if (n == 0) {
            errno = EPIPE;
        }
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return -1;
        }
        data = (char *)data + (n > 0 ? n : 0);
        len -= (size_t)(n > 0 ? n : 0);
    }
    return 0;
}

/* An encoded message behind its length, a base-128 varint. 0, or -1 with errno. */
static inline int lima_send(int fd, const void *message, size_t len)
{
    uint8_t prefix[10];
    size_t n = 0, rest = len;

    while (rest >= 0x80) {
        prefix[n++] = (uint8_t)(rest | 0x80);
        rest >>= 7;
    }
    prefix[n++] = (uint8_t)rest;
    return lima_write(fd, prefix, n) < 0 ? -1 : lima_write(fd, message, len);
}

/* The next message; its length, or -1 with errno (EPIPE: the end, EMSGSIZE: above @max). */
static inline ssize_t lima_receive(int fd, void *message, size_t max)
{
    size_t len = 0;
    uint8_t byte = 0x80;

    for (unsigned shift = 0; byte & 0x80; shift += 7) {
        if (lima_read(fd, &byte, 1) < 0) {
            return -1;
        }
        len |= (size_t)(byte & 0x7f) << shift;
        if (len > max || shift > 28) {
            errno = EMSGSIZE;
            return -1;
        }
    }
    return lima_read(fd, message, len) < 0 ? -1 : (ssize_t)len;
}
