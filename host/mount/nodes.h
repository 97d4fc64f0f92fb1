/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files and folders of one tree that the guest's kernel knows, by the numbers that it has been
 * given: their identity, a name that leads to them, how many references the kernel holds, and the
 * descriptors that we keep for them, the oldest of which go when there are too many.
 *
 * A file is one node, however many names it has: device, inode and time of birth make it. Its name
 * is looked up again when no descriptor is kept, and what is found there must be the same file,
 * else it is stale (-ESTALE), whereupon the guest's kernel looks the path up anew. A node whose
 * name goes while the kernel knows it keeps a descriptor, and so the file, until the kernel forgets
 * it.
 *
 * Numbers are used again with another generation. What a guest makes up is -ESTALE.
 */
#pragma once

#include <stdint.h>
#include <sys/stat.h>
#include "base/macros.h"
#include "mount/journal.h"
#include "mount/owners.h"
#include "mount/tree.h"

#define NODES_MAX  (4u << 20)
#define NODES_ROOT 1 /* FUSE_ROOT_ID */

/* A file's state, from statx(2). */
struct node_stat {
    struct stat st; /* st_ino is that shown to the guest: unique over all devices below the tree */
    uint64_t dev, ino, born_ns;
    bool owned; /* by this one, not by the guest's user; st has its type and number */
    struct owner owner;
};

struct node {
    uint64_t id, generation;
    struct node *parent; /* NULL: the root, or a node whose name is gone */
    char *name;
    uint64_t dev, ino, born_ns;
    uint64_t lookups;
    size_t children, holds;
    int path_fd; /* O_PATH, or -1 */
    int io_fd;   /* regular files, or -1 */
    bool io_writes;
    bool pinned;                /* path_fd is the only way to it */
    uint32_t mode;              /* file type; 0: not seen yet by this process */
    int wd;                     /* of its watch, or -1; this and the next two are coherence.c's */
    bool unwatched;             /* cannot be watched */
    uint8_t looked_up;          /* names in it since it was read; this and the next are */
    uint8_t advised;            /* fuse_folders.c's: how often to read it */
    struct node *wd_next;       /* of the same hash */
    uint64_t ahead;             /* ahead.c's */
    struct node *next;          /* of the same hash */
    struct node *older, *newer; /* of those that hold descriptors */
    bool listed;
};

struct nodes;

/* Both borrowed; @journal may be set later, by nodes_set_journal(). */
struct nodes *nodes_new(const struct tree *tree);
void nodes_free(struct nodes *nodes);
SCOPED_PTR(struct nodes, nodes_free)
void nodes_set_journal(struct nodes *nodes, struct journal *journal);
/* @fn is told of nodes that go; they are still whole then. */
void nodes_set_gone(struct nodes *nodes, void (*fn)(struct node *node, void *arg), void *arg);
/* @fn is told of regular files that were open for writing, just before we close them. */
void nodes_set_closing(struct nodes *nodes, void (*fn)(struct node *node, void *arg), void *arg);
/* Borrowed. */
struct owners *nodes_owners(const struct nodes *nodes);
/* At most so many descriptors are kept. */
void nodes_set_fd_max(struct nodes *nodes, size_t max);
/* All but the root go: the guest begins anew. */
void nodes_reset(struct nodes *nodes);
size_t nodes_count(const struct nodes *nodes);

/* What journal_open() found. */
void nodes_restore_node(struct nodes *nodes, const struct journal_node *node);
void nodes_restore_lookups(struct nodes *nodes, uint64_t id, int64_t change);
void nodes_restore_end(struct nodes *nodes);
/* Puts all of them into the journal. */
void nodes_save(const struct nodes *nodes, struct journal *journal);

/* The largest number that a node has. */
uint64_t nodes_last(const struct nodes *nodes);
/* NULL: no such node. */
struct node *nodes_find(const struct nodes *nodes, uint64_t id);
/* Of the file that @st describes; NULL: not known. */
struct node *nodes_find_file(const struct nodes *nodes, const struct node_stat *st);

/*
 * The node of @name in @parent, which @st describes, with one reference more: the answer to a
 * lookup. -ENFILE: there are NODES_MAX.
 */
int nodes_enter(struct nodes *nodes, struct node *parent, const char *name,
                const struct node_stat *st, struct node **ret);
/* One reference more, of a file that it knows. */
void nodes_refer(struct nodes *nodes, struct node *node);
/* The kernel has @count references less; @node may be gone. */
void nodes_forget(struct nodes *nodes, struct node *node, uint64_t count);
/* It stays where it is meanwhile, forgotten or not. NULL is fine. */
void nodes_hold(struct nodes *nodes, struct node *node);
void nodes_release(struct nodes *nodes, struct node *node);
/*
 * The file behind @node loses its name: to be called before. Pinned are so many as half of the
 * descriptors allow; what loses its name beyond them is lost for those who have it open.
 */
void nodes_pin(struct nodes *nodes, struct node *node);
/* It has this name now. */
void nodes_renamed(struct nodes *nodes, struct node *node, struct node *parent, const char *name);

/* Borrowed descriptors, valid until the next call here; or -errno. */
int nodes_path_fd(struct nodes *nodes, struct node *node);
/* -EISDIR, -EINVAL (no regular file); @writing: fit for that too. */
int nodes_io_fd(struct nodes *nodes, struct node *node, bool writing);
/* @take_fd of a file that was just created is the node's. */
void nodes_give_io_fd(struct nodes *nodes, struct node *node, int take_fd, bool writes);
/*
 * Descriptors for writing are given up (others on the host may want to execute the file, or wait
 * for its close). Returns whether there were any.
 */
bool nodes_end_writing(struct nodes *nodes);
/*
 * A copy of the descriptor that the contents of @node were accessed by will be closed now; if it is
 * the last one, whoever nodes_set_closing() names is told.
 */
void nodes_close_late(struct nodes *nodes, struct node *node);

/* -errno. By descriptor ... */
int nodes_stat(struct nodes *nodes, struct node *node, struct node_stat *ret);
/* ... and by name in a folder. */
int nodes_stat_at(struct nodes *nodes, int dir_fd, const char *name, struct node_stat *ret);
