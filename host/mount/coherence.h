/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's kernel may rely on, and for how long. Folders that the guest has looked into are
 * watched; what they hold may be relied on for long, since a change is told: as one of the kernel's
 * notifications (FUSE_NOTIFY_INVAL_INODE, FUSE_NOTIFY_INVAL_ENTRY; linux/fuse.h) among the answers.
 * What is not watched (too many folders, file systems that other machines change) is relied on
 * for a short time only. Changes that the guest itself has asked for are not told back.
 *
 * A guest that replays (replay.h) is told of names by having it do the same once more.
 *
 * The guest says how many notifications it has taken; no more than COHERENCE_CREDIT are on their
 * way. What does not fit waits; what is too much becomes one notification for each file that is
 * known.
 *
 * Not seen: what a host's program changes through a shared memory map, and through another name of
 * a file whose folder is not watched. So the attributes of files are asked for again after a
 * minute, and of those with several names soon.
 */
#pragma once

#include <stdint.h>
#include "base/buf.h"
#include "mount/ahead.h"
#include "mount/nodes.h"
#include "mount/replay.h"

#define COHERENCE_CREDIT 128

struct coherence;

struct coherence_validity { /* milliseconds */
    uint32_t entry, attributes;
};

/*
 * @nodes is borrowed, and tells here what is gone; so is @ahead, in which is voided what changes.
 * @short_ms: for what is not watched; 0: nothing is ever to be relied on.
 */
struct coherence *coherence_new(struct nodes *nodes, struct ahead *ahead, uint32_t short_ms);
void coherence_free(struct coherence *coherence);
SCOPED_PTR(struct coherence, coherence_free)
/* Readable: coherence_run() is due. -1: never. */
int coherence_fd(const struct coherence *coherence);

/*
 * The guest replays what the host does, or not, for those who watch there: what is told of a name
 * is then done once more in the guest, as coherence_replay() says.
 */
void coherence_set_events(struct coherence *coherence, bool events);
/* NULL: it does not. */
struct replay *coherence_replay(const struct coherence *coherence);

/*
 * An earlier process of this mount has told the guest of all changes until @ns (CLOCK_REALTIME):
 * those since are to be found once the guest is connected.
 */
void coherence_set_told(struct coherence *coherence, int64_t ns);
/* Half of a move waits for its other half: coherence_run() is due again after REPLAY_PAIR_MS. */
bool coherence_waits(const struct coherence *coherence);

/* The guest begins anew, and knows nothing. */
void coherence_reset(struct coherence *coherence);
/*
 * It has another connection: what was on its way is told again, and so is what was not watched
 * meanwhile. coherence_run() is due.
 */
void coherence_restart(struct coherence *coherence);
/* The guest looks into the folder @dir: it is watched from now on, if that can be. */
void coherence_look(struct coherence *coherence, struct node *dir);
/* How long @node with @nlink names, found in @dir (NULL: by itself), may be relied on. */
struct coherence_validity coherence_validity(const struct coherence *coherence,
                                             const struct node *dir, const struct node *node,
                                             uint64_t nlink);
/* All that happens in the folder @dir, and to it, is heard of: it may be relied on for long. */
bool coherence_hears(const struct coherence *coherence, const struct node *dir);
/* Tells what has happened, by notifications appended to @out. */
void coherence_run(struct coherence *coherence, struct buf *out);
/* What is at the end of @path, from the shared folder, leads elsewhere. */
void coherence_remounted(struct coherence *coherence, const char *path, struct buf *out);
/*
 * Around what the guest has asked for: what is in between made of @name of @dir and of @name2 of
 * @dir2, so many @times each (2: both were exchanged, 0: it failed), and all that happens to what
 * is in @node, is its own doing. Each may be NULL.
 */
void coherence_begin_own(struct coherence *coherence, struct buf *out);
void coherence_end_own(struct coherence *coherence, const struct node *dir, const char *name,
                       const struct node *dir2, const char *name2, unsigned times,
                       const struct node *node, struct buf *out);
/* The guest has taken @count more. */
void coherence_acked(struct coherence *coherence, uint64_t count, struct buf *out);
