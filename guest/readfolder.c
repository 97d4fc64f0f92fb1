/* SPDX-License-Identifier: Apache-2.0 */
#include "readfolder.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "replay.h"

#define CALLS_MAX 64 /* of getdents64(2), each of which the kernel makes one request or more */
#define ROOM      4096

static void read_folder(int tree_fd, const struct lima_read *folder)
{
    scoped(fd_close) int path_fd =
        replay_open_folder(tree_fd, folder->node, (uint32_t)folder->generation);
    scoped(fd_close) int fd =
        path_fd < 0 ? -1 : openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint8_t entries[ROOM] __attribute__((aligned(8)));

    for (int i = 0; fd >= 0 && i < CALLS_MAX; i++) {
        if (syscall(SYS_getdents64, fd, entries, sizeof(entries)) <= 0) {
            break;
        }
    }
}

/* Waits for one, with the lock held. */
static struct lima_read next(struct folder_reader *reader)
{
    struct lima_read folder;

    while (!reader->count) {
        pthread_cond_wait(&reader->some, &reader->lock);
    }
    folder = reader->waiting[0];
    reader->count--;
    memmove(reader->waiting, reader->waiting + 1, reader->count * sizeof(folder));
    return folder;
}

/* The mount is held open only while there is something to read. */
static void *run(void *arg)
{
    struct folder_reader *reader = arg;
    struct replay mount = {.tree_fd = -1, .folder_fd = -1};

    pthread_mutex_lock(&reader->lock);
    for (;;) {
        struct lima_read folder = next(reader);

        pthread_mutex_unlock(&reader->lock);
        if (mount.tree_fd >= 0 || replay_open(&mount, reader->source, reader->path) >= 0) {
            read_folder(mount.tree_fd, &folder);
        }
        pthread_mutex_lock(&reader->lock);
        if (!reader->count && mount.tree_fd >= 0) {
            close(mount.tree_fd);
            mount.tree_fd = -1;
        }
    }
    return NULL;
}

static bool start(struct folder_reader *reader)
{
    pthread_t thread;

    if (reader->started || reader->failed) {
        return reader->started;
    }
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->some, NULL);
    reader->started = pthread_create(&thread, NULL, run, reader) == 0;
    if (!reader->started) {
        reader->failed = true;
        log_warn("no thread can be made: names in '%s' are looked up one by one, ignoring",
                 reader->path);
    }
    return reader->started;
}

void folder_reader_take(struct folder_reader *reader, const void *message, size_t len)
{
    struct lima_read folder;

    if (len < sizeof(struct fuse_out_header) + sizeof(folder) || !start(reader)) {
        return;
    }
    memcpy(&folder, (const char *)message + sizeof(struct fuse_out_header), sizeof(folder));
    pthread_mutex_lock(&reader->lock);
    if (reader->count < FOLDER_READER_MAX) {
        reader->waiting[reader->count++] = folder;
        pthread_cond_signal(&reader->some);
    }
    pthread_mutex_unlock(&reader->lock);
}
