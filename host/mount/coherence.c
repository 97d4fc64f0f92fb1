/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/coherence.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mount/watch.h"

#define SHARE_PERCENT 25 /* of the watches that the user may have */
#define LONG_MS       3600000u
#define FILE_MS       60000u /* attributes of files: see above */
#define WAITING_MAX   (256u << 10)
#define HASH          4096

struct own {
    int wd;
    const char *name;
};

struct coherence {
    struct nodes *nodes;
    struct watch *watch; /* NULL: none */
    uint32_t short_ms;
    struct node *by_wd[HASH];
    bool said_full;
    unsigned on_way;    /* notifications that the guest has yet to take */
    struct buf waiting; /* for credit, whole ones */
    bool resync;        /* too many waited: all is told anew */
    uint64_t resync_at; /* number of the node that is next */
    struct buf *out;    /* during a call */
    struct own own[4];
    size_t own_count;
};

/* --- watches and nodes --- */

static struct node **slot_of(struct coherence *c, int wd)
{
    struct node **slot = &c->by_wd[(unsigned)wd % HASH];

    while (*slot && (*slot)->wd != wd) {
        slot = &(*slot)->wd_next;
    }
    return slot;
}

static void unwatch(struct coherence *c, struct node *node, bool gone)
{
    struct node **slot;

    if (node->wd < 0) {
        return;
    }
    slot = slot_of(c, node->wd);
    if (*slot) {
        *slot = node->wd_next;
    }
    if (!gone) {
        watch_remove(c->watch, node->wd);
    }
    node->wd = -1;
}

static void on_node_gone(struct node *node, void *arg)
{
    unwatch(arg, node, false);
}

struct coherence *coherence_new(struct nodes *nodes, uint32_t short_ms)
{
    struct coherence *c = xnew(struct coherence);

    c->nodes = nodes;
    c->short_ms = short_ms;
    c->watch = short_ms ? watch_new(SHARE_PERCENT) : NULL;
    c->waiting = BUF_INIT_CAP(WAITING_MAX);
    nodes_set_gone(nodes, on_node_gone, c);
    return c;
}

void coherence_free(struct coherence *c)
{
    if (c) {
        nodes_set_gone(c->nodes, NULL, NULL);
        watch_free(c->watch);
        buf_done(&c->waiting);
        free(c);
    }
}

int coherence_fd(const struct coherence *c)
{
    return c->watch ? watch_fd(c->watch) : -1;
}

void coherence_reset(struct coherence *c)
{
    c->on_way = 0;
    buf_drop(&c->waiting, c->waiting.len);
    c->resync = false;
}

void coherence_restart(struct coherence *c)
{
    coherence_reset(c);
    c->resync = true;
    c->resync_at = NODES_ROOT;
}

static void say_full(struct coherence *c, int r)
{
    if (r == -ENOSPC && !c->said_full) {
        c->said_full = true;
        log_warn("no more folders can be watched for changes (fs.inotify.max_user_watches): in the "
                 "others the guest sees what the host does after up to %u ms, ignoring",
                 c->short_ms);
    }
}

void coherence_look(struct coherence *c, struct node *dir)
{
    struct node **slot;
    int fd;

    if (!c->watch || dir->wd >= 0 || dir->unwatched) {
        return;
    }
    fd = nodes_path_fd(c->nodes, dir);
    dir->wd = fd < 0 ? -1 : watch_add(c->watch, fd);
    if (dir->wd < 0) {
        say_full(c, dir->wd);
        dir->unwatched = dir->wd == -ENOSPC || dir->wd == -EOPNOTSUPP;
        dir->wd = -1;
        return;
    }
    slot = slot_of(c, dir->wd);
    if (*slot) { /* the same folder, known by another node: the younger one is the right one */
        (*slot)->wd = -1;
        *slot = (*slot)->wd_next;
        slot = slot_of(c, dir->wd);
    }
    dir->wd_next = NULL;
    *slot = dir;
}

struct coherence_validity coherence_validity(const struct coherence *c, const struct node *dir,
                                             const struct node *node, uint64_t nlink)
{
    bool dir_watched = dir ? dir->wd >= 0 : node->parent && node->parent->wd >= 0;
    bool is_dir = S_ISDIR(node->mode);
    bool sure =
        is_dir ? node->wd >= 0 && (dir_watched || !node->parent) : dir_watched && nlink == 1;

    return (struct coherence_validity){
        .entry = dir_watched ? LONG_MS : c->short_ms,
        .attributes = !sure    ? c->short_ms
                      : is_dir ? LONG_MS
                               : FILE_MS,
    };
}

/* --- notifications --- */

/* Goes out now, or waits. */
static void put(struct coherence *c, const void *data, size_t len)
{
    if (c->on_way < COHERENCE_CREDIT && !c->waiting.len) {
        c->on_way++;
        buf_put(c->out, data, len);
    } else if (buf_put(&c->waiting, data, len) < 0) {
        buf_drop(&c->waiting, c->waiting.len);
        c->resync = true;
        c->resync_at = NODES_ROOT;
    }
}

static void tell_inode(struct coherence *c, const struct node *node, bool content)
{
    struct {
        struct fuse_out_header head;
        struct fuse_notify_inval_inode_out body;
    } message = {.head = {.len = sizeof(message), .error = FUSE_NOTIFY_INVAL_INODE},
                 .body = {.ino = node->id, .off = content ? 0 : -1}};

    put(c, &message, sizeof(message));
}

static void tell_entry(struct coherence *c, const struct node *dir, const char *name)
{
    size_t name_len = strlen(name);
    struct fuse_out_header head = {
        .len = (uint32_t)(sizeof(head) + sizeof(struct fuse_notify_inval_entry_out) + name_len + 1),
        .error = FUSE_NOTIFY_INVAL_ENTRY};
    struct fuse_notify_inval_entry_out body = {.parent = dir->id, .namelen = (uint32_t)name_len};
    uint8_t message[sizeof(head) + sizeof(body) + JOURNAL_NAME_MAX + 1];

    memcpy(message, &head, sizeof(head));
    memcpy(message + sizeof(head), &body, sizeof(body));
    memcpy(message + sizeof(head) + sizeof(body), name, name_len + 1);
    put(c, message, head.len);
}

/* What has waited, as far as the credit goes. */
static void put_waiting(struct coherence *c)
{
    while (c->on_way < COHERENCE_CREDIT && c->waiting.len) {
        uint32_t len;

        memcpy(&len, c->waiting.data, sizeof(len));
        buf_put(c->out, c->waiting.data, len);
        buf_drop(&c->waiting, len);
        c->on_way++;
    }
}

/*
 * Only names that lead elsewhere by now: the kernel unmounts what is mounted on a name that it is
 * told of.
 */
static void resync_one(struct coherence *c, struct node *node)
{
    struct node_stat st;

    if (node->parent && node->name && nodes_stat(c->nodes, node, &st) < 0) {
        tell_entry(c, node->parent, node->name);
    }
    tell_inode(c, node, true);
}

/* Everything that the guest knows, as far as the credit goes. */
static void put_resync(struct coherence *c)
{
    uint64_t last = nodes_last(c->nodes);

    while (c->resync && c->on_way + 2 <= COHERENCE_CREDIT && !c->waiting.len) {
        struct node *node = nodes_find(c->nodes, c->resync_at);

        if (node) {
            resync_one(c, node);
        }
        c->resync = ++c->resync_at <= last;
    }
}

/* --- events --- */

static bool is_own(const struct coherence *c, const struct watch_event *event)
{
    for (size_t i = 0; i < c->own_count; i++) {
        if (c->own[i].wd == event->wd && strcmp(c->own[i].name, event->name) == 0) {
            return true;
        }
    }
    return false;
}

static void tell_child(struct coherence *c, struct node *dir, const char *name, bool content)
{
    int fd = nodes_path_fd(c->nodes, dir);
    struct node_stat st;
    struct node *node;

    if (fd < 0 || nodes_stat_at(c->nodes, fd, name, &st) < 0) {
        return; /* gone again, which is told too */
    }
    node = nodes_find_file(c->nodes, &st);
    if (node) {
        tell_inode(c, node, content);
    }
}

static void on_event(const struct watch_event *event, void *arg)
{
    struct coherence *c = arg;
    struct node *dir;

    if (event->kind == WATCH_OVERFLOW) {
        c->resync = true;
        c->resync_at = NODES_ROOT;
        return;
    }
    dir = *slot_of(c, event->wd);
    if (!dir || is_own(c, event)) {
        return;
    }
    switch (event->kind) {
    case WATCH_NAME:
        tell_entry(c, dir, event->name);
        tell_inode(c, dir, true);
        break;
    case WATCH_CONTENT:
    case WATCH_ATTRIBUTES:
        if (*event->name) {
            tell_child(c, dir, event->name, event->kind == WATCH_CONTENT);
        } else {
            tell_inode(c, dir, false);
        }
        break;
    case WATCH_GONE:
        tell_inode(c, dir, true);
        unwatch(c, dir, false);
        break;
    case WATCH_OVERFLOW:
        break;
    }
}

void coherence_run(struct coherence *c, struct buf *out)
{
    if (!c->watch) {
        return;
    }
    c->out = out;
    put_waiting(c);
    watch_read(c->watch, on_event, c);
    put_resync(c);
    c->out = NULL;
}

void coherence_begin_own(struct coherence *c, struct buf *out)
{
    c->own_count = 0;
    coherence_run(c, out);
}

static void add_own(struct coherence *c, const struct node *dir, const char *name)
{
    if (dir && name && dir->wd >= 0) {
        c->own[c->own_count++] = (struct own){dir->wd, name};
    }
}

void coherence_end_own(struct coherence *c, const struct node *dir, const char *name,
                       const struct node *dir2, const char *name2, const struct node *node,
                       struct buf *out)
{
    c->own_count = 0;
    add_own(c, dir, name);
    add_own(c, dir2, name2);
    if (node) {
        add_own(c, node->parent, node->name);
        add_own(c, node, "");
    }
    coherence_run(c, out);
    c->own_count = 0;
}

void coherence_acked(struct coherence *c, uint64_t count, struct buf *out)
{
    c->on_way -= (unsigned)MIN(count, (uint64_t)c->on_way);
    coherence_run(c, out);
}
