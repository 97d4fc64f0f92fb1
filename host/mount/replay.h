/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host has done to watched folders, on its way to be done once more in the guest, so that
 * the guest's kernel tells those who watch there (inotify). Events wait here in their order; a few
 * at a time are on their way, each as a notification of lima/mount.h, until the guest says that it
 * has taken it. The requests that the guest makes of one are found back by the names that it is
 * about, in the order of the events.
 *
 * What repeats itself while it waits is one event. The halves of a move come together here; one
 * that stays alone for REPLAY_PAIR_MS is a move out of, or into, what is watched.
 */
#pragma once

#include <stdint.h>
#include "base/buf.h"
#include "lima/mount.h"
#include "mount/nodes.h"

#define REPLAY_PAIR_MS 10

struct replay;

enum replay_role { /* of a name, while the event that is about it is done once more */
                   REPLAY_ROLE_NONE,   /* as it is on the host */
                   REPLAY_ROLE_ABSENT, /* is yet to be made, or moved to */
                   REPLAY_ROLE_GONE,  /* was removed on the host, and is about to be in the guest */
                   REPLAY_ROLE_MOVED, /* is elsewhere on the host */
};

struct replay_event {
    enum lima_replay_op op;
    bool is_dir;
    uint64_t dir, dir2; /* numbers of nodes, or LIMA_REPLAY_ELSEWHERE_NODE */
    uint64_t generation, generation2;
    char *name, *name2;
    uint64_t node;     /* REMOVE: of the folder that was there; 0: not known */
    uint32_t cookie;   /* not 0: half of a move */
    uint64_t since_ms; /* of a half */
    uint64_t sequence; /* of the notification, when it is on its way */
    bool done;         /* it was, on its way: what follows about the same name counts */
    struct replay_event *next;
};

/* @nodes is borrowed. */
struct replay *replay_new(struct nodes *nodes);
void replay_free(struct replay *replay);
SCOPED_PTR(struct replay, replay_free)

/* False, here and below: too many wait, it is lost. */
bool replay_put(struct replay *replay, enum lima_replay_op op, const struct node *dir,
                const char *name, bool is_dir);
/* A folder was removed; @folder is its node, if the guest has looked into it. */
bool replay_removed(struct replay *replay, const struct node *dir, const char *name,
                    const struct node *folder);
/* @now_ms: CLOCK_MONOTONIC. @cookie as inotify(7) has it. */
bool replay_moved_from(struct replay *replay, const struct node *dir, const char *name, bool is_dir,
                       uint32_t cookie, uint64_t now_ms);
bool replay_moved_to(struct replay *replay, const struct node *dir, const char *name, bool is_dir,
                     uint32_t cookie);
/* So few wait that the guest is as good as told. */
bool replay_is_prompt(const struct replay *replay);
/* Half of a move does, for its other half. */
bool replay_waits(const struct replay *replay);
/* All that waits, and all that is on its way, is given up. */
void replay_clear(struct replay *replay);
/* What was on its way is to be sent again. */
void replay_restart(struct replay *replay);
/*
 * Appends the next notification to @out, with the number @sequence, greater than all before. False:
 * none may go now.
 */
bool replay_next(struct replay *replay, uint64_t sequence, uint64_t now_ms, struct buf *out);
/* The guest has taken all up to @sequence. */
void replay_taken(struct replay *replay, uint64_t sequence);
/* The guest was answered that it has made, removed or moved @name. */
void replay_done(struct replay *replay, uint64_t dir, const char *name);
/* What @name of the folder with the number @dir is just now to requests that are replayed. */
enum replay_role replay_find(const struct replay *replay, uint64_t dir, const char *name,
                             const struct replay_event **ret);
