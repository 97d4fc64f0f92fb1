/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of the host that are watched for changes. Linux: inotify(7). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/macros.h"

struct watch;

enum watch_kind {
    WATCH_MADE,
    WATCH_REMOVED,
    WATCH_MOVED_FROM, /* both halves of a move have the same cookie, if both are watched */
    WATCH_MOVED_TO,
    WATCH_CONTENT, /* of a file */
    WATCH_CLOSED,  /* by somebody who might have written: if asked for */
    WATCH_ATTRIBUTES,
    WATCH_GONE,     /* the folder was removed: watch_remove() is due */
    WATCH_OVERFLOW, /* changes were lost, of any folder */
};

struct watch_event {
    enum watch_kind kind;
    int wd;           /* of the folder */
    const char *name; /* in it; "": the folder itself */
    bool is_dir;      /* what the name leads to */
    uint32_t cookie;
};

/* Watches at most @share of what the user may have, in percent. NULL: this system has none. */
struct watch *watch_new(unsigned share);
void watch_free(struct watch *watch);
SCOPED_PTR(struct watch, watch_free)
/* Folders that are watched from now on: WATCH_CLOSED too. */
void watch_ask_closed(struct watch *watch, bool closed);
/* Readable when there are events. */
int watch_fd(const struct watch *watch);
/*
 * Watches the folder that @fd (O_PATH will do) stands for: its number, or -errno: ENOSPC (no more
 * are left), EOPNOTSUPP (its file system does not tell what others do to it).
 */
int watch_add(struct watch *watch, int fd);
void watch_remove(struct watch *watch, int wd);
/* Takes what is there; @fn may add and remove watches. */
void watch_read(struct watch *watch, void (*fn)(const struct watch_event *event, void *arg),
                void *arg);
