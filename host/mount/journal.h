/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a file server must know again after it was killed: which nodes the guest's kernel holds, and
 * which requests that must not be done twice were begun and done. A log of records, written before
 * anything that relies on it leaves the process; written anew when most of it is old. It survives
 * the process, not the machine, and so is never synced.
 *
 * File: struct journal_header, then records in the order of their events: 8 bytes (u32 kind, u32
 * length of what follows), then that. In the byte order of the host, which alone reads it; a record
 * that is not whole at the end was not acknowledged, and is cut off.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/macros.h"

#define JOURNAL_ID_LEN    16
#define JOURNAL_REPLY_MAX 256  /* bytes of an answer that is kept */
#define JOURNAL_RECENT    1024 /* requests that are remembered */
#define JOURNAL_NAME_MAX  255

struct journal;

/* Of FUSE_INIT. A guest that begins anew does with another one. */
struct journal_session {
    uint32_t minor;
    uint32_t reserved;
    uint64_t flags;
};

struct journal_node {
    uint64_t id, generation;
    uint64_t parent; /* 0: has no name any more */
    uint64_t dev, ino, born_ns;
    uint64_t lookups;
    const char *name;
};

enum journal_seen {
    JOURNAL_NEW,   /* never heard of */
    JOURNAL_BEGUN, /* perhaps done, perhaps not */
    JOURNAL_DONE,  /* its answer is known */
};

/* What the file held, handed over while it is opened. */
struct journal_events {
    void (*session)(const struct journal_session *session, void *arg);
    /* In the order of their making; a known id: its parent and name have changed. */
    void (*node)(const struct journal_node *node, void *arg);
    void (*lookups)(uint64_t id, int64_t change, void *arg);
};

/*
 * Opens or begins the file @path for the mount @id. One of another mount is begun anew. Errors:
 * EBADMSG (not ours, or broken: remove it).
 */
int journal_open(const char *path, const uint8_t id[JOURNAL_ID_LEN],
                 const struct journal_events *events, void *arg, struct journal **ret,
                 struct error *err);
void journal_free(struct journal *journal);
SCOPED_PTR(struct journal, journal_free)
/* Of the file @path, without opening it for good. -ENOENT, -EBADMSG. */
int journal_read_id(const char *path, uint8_t ret[JOURNAL_ID_LEN]);

/* These gather; journal_flush() writes. */
void journal_put_session(struct journal *journal, const struct journal_session *session);
void journal_put_node(struct journal *journal, const struct journal_node *node);
/* The guest's kernel has @change more (or less) references; with none left the node is gone. */
void journal_put_lookups(struct journal *journal, uint64_t id, int64_t change);
void journal_put_begun(struct journal *journal, uint64_t unique);
/* @reply: the whole answer; a longer one than JOURNAL_REPLY_MAX must not come. */
void journal_put_done(struct journal *journal, uint64_t unique, const void *reply, size_t len);
/*
 * -errno: the file cannot be written; nothing more will be, and a later process will know
 * nothing. Said once.
 */
int journal_flush(struct journal *journal);

/* What became of a request; *@ret_reply is borrowed until the next call. */
enum journal_seen journal_look(const struct journal *journal, uint64_t unique,
                               const void **ret_reply, size_t *ret_len);

/* The file has grown to much more than @nodes need: write all of them anew. */
bool journal_is_long(const struct journal *journal, size_t nodes);
/* A guest begins anew: nothing of before is of any use, and its requests count from the start. */
int journal_restart(struct journal *journal, const struct journal_session *session);
/*
 * Begins the file anew: session, then all nodes with put_node and put_lookups, then end, which
 * fails as journal_flush() does.
 */
void journal_rewrite_begin(struct journal *journal);
int journal_rewrite_end(struct journal *journal);
