/* SPDX-License-Identifier: Apache-2.0 */
#include "route.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "files.h"

#define ROUTES_MAX (256u << 10)
#define FLAG_UP    1u

struct route_watch {
    int fd;
    struct loop_watch *watch;
    loop_fn *changed;
    void *arg;
};

bool route_text_has_default(const char *text)
{
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        unsigned long destination, mask;
        unsigned flags;

        if (sscanf(line, "%*31s %lx %*x %x %*d %*d %*d %lx", &destination, &flags, &mask) == 3 &&
            destination == 0 && mask == 0 && (flags & FLAG_UP)) {
            return true;
        }
    }
    return false;
}

bool route_has_default(void)
{
    scoped(free) char *text = files_read("/proc/net/route", ROUTES_MAX, NULL);

    return text && route_text_has_default(text);
}

static void on_route_readable(int fd, short revents, void *arg)
{
    struct route_watch *watch = arg;
    char message[4096];

    while (recv(fd, message, sizeof(message), 0) > 0) {
    }
    watch->changed(watch->arg);
}

int route_watch_open(struct loop *loop, loop_fn *changed, void *arg, struct route_watch **ret,
                     struct error *err)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_ROUTE};
    scoped(fd_close) int fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    struct route_watch *watch;

    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return error_errno(err, errno, "watching routes");
    }
    watch = xnew(struct route_watch);
    *watch = (struct route_watch){.changed = changed, .arg = arg};
    watch->watch = loop_watch_new(loop, fd, POLLIN, on_route_readable, watch);
    watch->fd = steal_fd(&fd);
    *ret = watch;
    return 0;
}

void route_watch_close(struct route_watch *watch)
{
    if (!watch) {
        return;
    }
    loop_watch_free(watch->watch);
    fd_close(watch->fd);
    free(watch);
}
