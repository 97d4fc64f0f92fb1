/* SPDX-License-Identifier: Apache-2.0 */
#include "mountdevice.h"

#include <errno.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "uevent.h"

#define UEVENT_MESSAGE_MAX 8192

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* False: nothing has come. */
static bool wait_for_event(int fd, int64_t until_ms)
{
    struct pollfd event = {.fd = fd, .events = POLLIN};
    int64_t left_ms = until_ms - now_ms();
    char message[UEVENT_MESSAGE_MAX];

    if (left_ms <= 0 || poll(&event, 1, (int)left_ms) <= 0) {
        return false;
    }
    while (recv(fd, message, sizeof(message), 0) > 0) {
    }
    return true;
}

/* What both file systems say of a tag that no device has. */
static bool is_missing(int code)
{
    return code == EINVAL || code == ENOENT;
}

int mountdevice(const struct mountpoint *point, const char *path)
{
    int64_t until_ms = now_ms() + point->wait_ms;
    scoped(fd_close) int events = point->wait_ms ? uevent_socket(SOCK_NONBLOCK) : -1;
    unsigned long flags = point->read_only ? MS_RDONLY : 0;
    int r;

    do {
        r = mount(point->source, path, point->type, flags, point->options);
    } while (r < 0 && is_missing(errno) && events >= 0 && wait_for_event(events, until_ms));
    if (r < 0 && point->wait_ms && is_missing(errno)) {
        errno = ENODEV;
    }
    return r;
}
