/* SPDX-License-Identifier: Apache-2.0 */
#include "deadmount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "files.h"
#include "mountpoint.h"
#include "uevent.h"

#define TYPE        "virtiofs"
#define DEVICES     "/sys/bus/virtio/drivers/virtiofs"
#define DETACH_MS   2000
#define DEVICES_MAX 64
#define STAT_MAX    4096
#define ARG_FIELD   48 /* of proc_pid_stat(5): where the arguments begin */
#define MESSAGE_MAX 8192

/* --- the process that holds it --- */

/*
 * systemd leaves a process of root alone whose first argument begins so, until the machine is off
 * (systemd.io/ROOT_STORAGE_DAEMONS).
 */
static void be_spared(void)
{
    scoped(free) char *text = files_read("/proc/self/stat", STAT_MAX, NULL);
    char *at = text ? strrchr(text, ')') : NULL;
    unsigned long long address = 0;

    for (int field = 2; at && field < ARG_FIELD; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at && sscanf(at, " %llu", &address) == 1 && address) {
        *(char *)(uintptr_t)address = '@';
    }
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

struct devices {
    char names[DEVICES_MAX][32];
    size_t count;
};

static void list_devices(struct devices *ret)
{
    DIR *dir = opendir(DEVICES);
    const struct dirent *entry;

    ret->count = 0;
    while (dir && (entry = readdir(dir)) && ret->count < DEVICES_MAX) {
        if (strncmp(entry->d_name, "virtio", strlen("virtio")) == 0) {
            snprintf(ret->names[ret->count++], sizeof(ret->names[0]), "%.31s", entry->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static bool is_one_gone(const struct devices *devices)
{
    for (size_t i = 0; i < devices->count; i++) {
        scoped(free) char *path = xasprintf(DEVICES "/%s", devices->names[i]);

        if (access(path, F_OK) < 0 && errno == ENOENT) {
            return true;
        }
    }
    return false;
}

/* Which of the devices it is cannot be known; few are ever taken away. */
static void wait_for_device_to_go(int events)
{
    struct devices devices;
    char message[MESSAGE_MAX];

    list_devices(&devices);
    do {
        if (recv(events, message, sizeof(message), 0) < 0 && errno != EINTR && errno != ENOBUFS) {
            pause();
        }
    } while (!is_one_gone(&devices));
}

static void hold(const char *source, const char *path)
{
    int events = uevent_socket(0);
    int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    for (int i = 0; i < 3; i++) {
        close(i); /* our parent's output ends without this one */
    }
    be_spared();
    (void)mountpoint_detach(TYPE, source, path, MNT_DETACH);
    if (fd >= 0) {
        wait_for_device_to_go(events);
    }
    _exit(0);
}

/* --- its parent --- */

void deadmount_end(const char *source, const char *path)
{
    scoped(fd_close) int table = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    struct pollfd changed = {.fd = table, .events = POLLPRI};
    pid_t pid;

    if (table < 0 || !mountpoint_is(TYPE, source, path)) {
        return;
    }
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        hold(source, path);
    }
    while (pid > 0 && mountpoint_is(TYPE, source, path) && poll(&changed, 1, DETACH_MS) > 0) {
    }
}
