/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What coherence.c (what is told as it happens) and coherence_resync.c (all at once, when some of
 * it was lost) share. Nobody else includes it.
 */
#pragma once

#include "mount/coherence.h"
#include "mount/watch.h"

#define COHERENCE_HASH      4096
#define COHERENCE_SECOND_NS 1000000000LL

struct coherence_own {
    int wd;
    const char *name;
    unsigned times; /* that something was made of the name, and has not been seen yet */
};

/* A file that we have closed: the name says no more than needs be. */
struct coherence_closed {
    int wd;
    uint32_t name_hash;
};

struct coherence {
    struct nodes *nodes;
    struct ahead *ahead;
    struct watch *watch; /* NULL: none */
    uint32_t short_ms;
    struct node *by_wd[COHERENCE_HASH];
    bool said_full;
    uint64_t sent, acked; /* notifications that are on their way, and that the guest has taken */
    struct buf waiting;   /* for credit, whole ones */
    bool resync;          /* too many waited: all is told anew */
    uint64_t resync_at;   /* number of the node that is next */
    struct buf *out;      /* during a call */
    struct coherence_own own[4];
    size_t own_count;
    struct replay *replay;           /* NULL: the guest does not */
    struct coherence_closed *closed; /* since changes were last looked for */
    size_t closed_count, closed_cap;
    int64_t told_ns;   /* CLOCK_REALTIME: changes until then were looked for; 0: not known */
    int64_t lost_ns;   /* changes since then may be lost: the resync has to find them */
    bool finds, looks; /* the resync does, and watches what was watched by an earlier process */
};

/* ---- coherence.c ---- */

/* So many more may be told now. */
bool coherence_has_credit(const struct coherence *coherence, unsigned count);
void coherence_tell_inode(struct coherence *coherence, struct node *node, bool content);
void coherence_tell_entry(struct coherence *coherence, const struct node *dir, const char *name);

/* ---- coherence_resync.c ---- */

/* @lost: changes were, since they were last looked for. */
void coherence_resync(struct coherence *coherence, bool lost);
/* Everything that the guest knows, as far as the credit goes. */
void coherence_put_resync(struct coherence *coherence);
