/* SPDX-License-Identifier: Apache-2.0 */
#include "keep.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define INHERITED    "LIMA_KEPT_FDS" /* "NAME=FD:NAME=FD" */
#define LISTEN_BEGIN 3               /* SD_LISTEN_FDS_START */

/* One datagram to the service manager, with a descriptor (-1: none). */
static int notify(const char *text, int fd)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct iovec part = {.iov_base = (char *)text, .iov_len = strlen(text)};
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_name = &address, .msg_iov = &part, .msg_iovlen = 1};
    scoped(fd_close) int to = -1;
    size_t len = path ? strlen(path) : 0;

    if (!len || len >= sizeof(address.sun_path)) {
        return -ENOENT;
    }
    memcpy(address.sun_path, path, len);
    if (*path == '@') {
        address.sun_path[0] = '\0';
    }
    message.msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (fd >= 0) {
        struct cmsghdr *head = &control.align;

        message.msg_control = &control;
        message.msg_controllen = sizeof(control.space);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(head), &fd, sizeof(fd));
    }
    to = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return to < 0 || sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

bool keep_is_kept(void)
{
    return getenv("NOTIFY_SOCKET") || getenv(INHERITED);
}

void keep_put(const char *name, int fd)
{
    scoped(free) char *text = xasprintf("FDSTORE=1\nFDNAME=%s", name);

    if (notify(text, fd) < 0) {
        log_debug("nobody keeps '%s' for the next process", name);
    }
}

void keep_remove(const char *name)
{
    scoped(free) char *text = xasprintf("FDSTOREREMOVE=1\nFDNAME=%s", name);

    (void)notify(text, -1); /* nobody has kept it then */
}

/* The next word of @list that ends with ':', cut off. NULL: none. */
static char *next_word(char **list)
{
    char *word = *list;
    char *end;

    if (!word || !*word) {
        return NULL;
    }
    end = strchr(word, ':');
    *list = end ? end + 1 : NULL;
    if (end) {
        *end = '\0';
    }
    return word;
}

static void take_one(const char *name, int fd, void (*take)(const char *, int, void *), void *arg)
{
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) {
        take(name, fd, arg);
    }
}

/* sd_listen_fds(3). */
static void take_stored(void (*take)(const char *, int, void *), void *arg)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    scoped(free) char *list = xstrdup(names ? names : "");
    char *rest = list, *name;
    int fd = LISTEN_BEGIN;

    if (!pid || !count || strtol(pid, NULL, 10) != getpid()) {
        return;
    }
    while (fd < LISTEN_BEGIN + atoi(count) && (name = next_word(&rest))) {
        take_one(name, fd++, take, arg);
    }
}

static void take_inherited(void (*take)(const char *, int, void *), void *arg)
{
    const char *value = getenv(INHERITED);
    scoped(free) char *list = xstrdup(value ? value : "");
    char *rest = list, *word;

    while ((word = next_word(&rest))) {
        char *equals = strchr(word, '=');

        if (equals) {
            *equals = '\0';
            take_one(word, atoi(equals + 1), take, arg);
        }
    }
}

void keep_take_all(void (*take)(const char *name, int take_fd, void *arg), void *arg)
{
    take_stored(take, arg);
    take_inherited(take, arg);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    unsetenv(INHERITED);
}

void keep_for_exec(const char *name, int fd)
{
    const char *old = getenv(INHERITED);
    int copy = fcntl(fd, F_DUPFD, LISTEN_BEGIN); /* stays open when the program is executed */
    scoped(free) char *value = xasprintf("%s%s%s=%d", old ? old : "", old ? ":" : "", name, copy);

    setenv(INHERITED, value, 1);
}
