/* SPDX-License-Identifier: Apache-2.0 */
#include "uevent.h"

#include <assert.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define UEVENT_KERNEL_GROUP 1
#define UEVENT_MESSAGE_MAX  8192

struct uevent {
    int fd;
    struct loop_watch *watch;
    struct {
        uevent_fn *fn;
        void *arg;
    } listeners[UEVENT_LISTENERS_MAX];
    size_t count;
};

const char *uevent_subsystem(const char *message, size_t len)
{
    const char *found = NULL;
    size_t at;

    if (!len || message[len - 1] != '\0' || !strchr(message, '@')) {
        return NULL;
    }
    if (strncmp(message, "remove@", 7) == 0) {
        return NULL;
    }
    for (at = strlen(message) + 1; at < len; at += strlen(message + at) + 1) {
        if (strncmp(message + at, "SUBSYSTEM=", 10) == 0) {
            found = message + at + 10;
        }
    }
    return found;
}

static void on_uevent_readable(int fd, short revents, void *arg)
{
    struct uevent *uevent = arg;
    char message[UEVENT_MESSAGE_MAX];
    ssize_t n;

    while ((n = recv(fd, message, sizeof(message), MSG_DONTWAIT)) > 0 ||
           (n < 0 && errno == ENOBUFS)) {
        /* After an overrun nobody knows what was lost: everyone looks again. */
        const char *subsystem = n < 0 ? "" : uevent_subsystem(message, (size_t)n);

        for (size_t i = 0; subsystem && i < uevent->count; i++) {
            uevent->listeners[i].fn(subsystem, uevent->listeners[i].arg);
        }
    }
}

int uevent_socket(int flags)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = UEVENT_KERNEL_GROUP};
    scoped(fd_close) int fd =
        socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | flags, NETLINK_KOBJECT_UEVENT);

    return fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : steal_fd(&fd);
}

int uevent_open(struct loop *loop, struct uevent **ret, struct error *err)
{
    scoped(fd_close) int fd = uevent_socket(SOCK_NONBLOCK);
    struct uevent *uevent;

    if (fd < 0) {
        return error_errno(err, -fd, "opening the device event socket");
    }
    uevent = xnew(struct uevent);
    uevent->watch = loop_watch_new(loop, fd, POLLIN, on_uevent_readable, uevent);
    uevent->fd = steal_fd(&fd);
    *ret = uevent;
    return 0;
}

void uevent_close(struct uevent *uevent)
{
    if (!uevent) {
        return;
    }
    loop_watch_free(uevent->watch);
    fd_close(uevent->fd);
    free(uevent);
}

void uevent_listen(struct uevent *uevent, uevent_fn *fn, void *arg)
{
    assert(uevent->count < UEVENT_LISTENERS_MAX);
    uevent->listeners[uevent->count].fn = fn;
    uevent->listeners[uevent->count].arg = arg;
    uevent->count++;
}
