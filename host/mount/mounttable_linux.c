/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/mounttable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"

#define TABLE     "/proc/self/mountinfo"
#define TABLE_MAX (16u << 20)
#define READ_SIZE 65536

struct entry {
    int id;
    char *path; /* below the source */
};

struct entries {
    struct entry *items;
    size_t count, cap;
};

struct mounttable {
    char *source; /* as the kernel names it */
    int fd, epoll_fd;
    struct entries entries;
};

static void entries_done(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        free(entries->items[i].path);
    }
    free(entries->items);
    *entries = (struct entries){0};
}

SCOPED_VAL(struct entries, entries_done)

/* "\\040" is a space. */
static void unescape(char *text)
{
    char *to = text;

    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] && from[2] && from[3]) {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* Such as "36 35 98:0 /root /mount/point rw - ext4 /dev/root rw". */
static void take_line(const struct mounttable *table, char *line, struct entries *ret)
{
    size_t len = strcmp(table->source, "/") == 0 ? 0 : strlen(table->source);
    int id, begin = 0, end = 0;
    char *path;

    if (sscanf(line, "%d %*s %*s %*s %n%*s%n", &id, &begin, &end) != 1 || !end) {
        return;
    }
    line[end] = '\0';
    path = line + begin;
    unescape(path);
    if (strncmp(path, table->source, len) != 0 || path[len] != '/' || !path[len + 1]) {
        return;
    }
    array_reserve(ret->items, ret->cap, ret->count + 1);
    ret->items[ret->count++] = (struct entry){.id = id, .path = xstrdup(path + len + 1)};
}

/* False: it cannot be read; there is nothing in @ret. */
static bool read_table(const struct mounttable *table, struct entries *ret)
{
    scoped(buf_done) struct buf text = BUF_INIT_CAP(TABLE_MAX);
    char *rest;
    ssize_t n = -1;

    lseek(table->fd, 0, SEEK_SET);
    do {
        void *room = buf_reserve(&text, READ_SIZE);

        n = room ? read(table->fd, room, READ_SIZE) : -1;
        buf_commit(&text, n > 0 ? (size_t)n : 0);
    } while (n > 0);
    if (n < 0 || buf_put(&text, "", 1) < 0) {
        return false;
    }
    rest = (char *)text.data;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        take_line(table, line, ret);
    }
    return true;
}

struct mounttable *mounttable_open(const char *source)
{
    scoped(mounttable_close) struct mounttable *table = xnew(struct mounttable);
    struct epoll_event change = {.events = EPOLLPRI};

    table->source = realpath(source, NULL);
    table->fd = open(TABLE, O_RDONLY | O_CLOEXEC);
    table->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!table->source || table->fd < 0 || table->epoll_fd < 0 ||
        epoll_ctl(table->epoll_fd, EPOLL_CTL_ADD, table->fd, &change) < 0 ||
        !read_table(table, &table->entries)) {
        return NULL;
    }
    return steal(table);
}

void mounttable_close(struct mounttable *table)
{
    if (table) {
        entries_done(&table->entries);
        fd_close(table->epoll_fd);
        fd_close(table->fd);
        free(table->source);
        free(table);
    }
}

int mounttable_fd(const struct mounttable *table)
{
    return table->epoll_fd;
}

static bool has(const struct entries *entries, const struct entry *entry)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (entries->items[i].id == entry->id && strcmp(entries->items[i].path, entry->path) == 0) {
            return true;
        }
    }
    return false;
}

static void tell_missing(const struct entries *from, const struct entries *in,
                         void (*fn)(const char *path, void *arg), void *arg)
{
    for (size_t i = 0; i < from->count; i++) {
        if (!has(in, &from->items[i])) {
            fn(from->items[i].path, arg);
        }
    }
}

void mounttable_read(struct mounttable *table, void (*fn)(const char *path, void *arg), void *arg)
{
    scoped(entries_done) struct entries old = {0};
    struct entries now = {0};
    struct epoll_event change;

    (void)!epoll_wait(table->epoll_fd, &change, 1, 0); /* it has been heard */
    if (!read_table(table, &now)) {
        return;
    }
    old = table->entries;
    table->entries = now;
    tell_missing(&old, &now, fn, arg);
    tell_missing(&now, &old, fn, arg);
}
