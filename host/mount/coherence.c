/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/coherence_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <time.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mount/watch.h"

#define SHARE_PERCENT 25 /* of the watches that the user may have */
#define LONG_MS       3600000u
#define FILE_MS       60000u /* attributes of files: see above */
#define WAITING_MAX   (256u << 10)

/* --- watches and nodes --- */

static struct node **slot_of(struct coherence *c, int wd)
{
    struct node **slot = &c->by_wd[(unsigned)wd % COHERENCE_HASH];

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
    struct coherence *c = arg;

    ahead_void(c->ahead, node);
    unwatch(c, node, false);
}

static uint32_t hash_name(const char *name) /* FNV-1a */
{
    uint32_t hash = 2166136261u;

    for (; *name; name++) {
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    }
    return hash;
}

/* The host's watch tells us, as if somebody else had closed it. */
static void on_node_closing(struct node *node, void *arg)
{
    struct coherence *c = arg;

    if (c->replay && node->parent && node->parent->wd >= 0) {
        array_reserve(c->closed, c->closed_cap, c->closed_count + 1);
        c->closed[c->closed_count++] =
            (struct coherence_closed){node->parent->wd, hash_name(node->name)};
    }
}

struct coherence *coherence_new(struct nodes *nodes, struct ahead *ahead, uint32_t short_ms)
{
    struct coherence *c = xnew(struct coherence);

    c->nodes = nodes;
    c->ahead = ahead;
    c->short_ms = short_ms;
    c->watch = watch_new(SHARE_PERCENT);
    c->waiting = BUF_INIT_CAP(WAITING_MAX);
    nodes_set_gone(nodes, on_node_gone, c);
    nodes_set_closing(nodes, on_node_closing, c);
    return c;
}

void coherence_free(struct coherence *c)
{
    if (c) {
        nodes_set_gone(c->nodes, NULL, NULL);
        nodes_set_closing(c->nodes, NULL, NULL);
        replay_free(c->replay);
        free(c->closed);
        watch_free(c->watch);
        buf_done(&c->waiting);
        free(c);
    }
}

int coherence_fd(const struct coherence *c)
{
    return c->watch ? watch_fd(c->watch) : -1;
}

void coherence_set_events(struct coherence *c, bool events)
{
    if (!events || !c->watch) {
        replay_free(steal(c->replay));
    } else if (!c->replay) {
        c->replay = replay_new(c->nodes);
    }
    if (c->watch) {
        watch_ask_closed(c->watch, c->replay != NULL);
    }
}

struct replay *coherence_replay(const struct coherence *c)
{
    return c->replay;
}

bool coherence_waits(const struct coherence *c)
{
    return c->replay && replay_waits(c->replay);
}

void coherence_set_told(struct coherence *c, int64_t ns)
{
    c->told_ns = ns;
    c->looks = true;
}

static void forget_sent(struct coherence *c)
{
    c->sent = c->acked = 0;
    buf_drop(&c->waiting, c->waiting.len);
    c->resync = c->finds = false;
}

void coherence_reset(struct coherence *c)
{
    forget_sent(c);
    c->looks = false;
    if (c->replay) {
        replay_clear(c->replay);
    }
}

void coherence_restart(struct coherence *c)
{
    bool found_all = !c->finds;

    forget_sent(c);
    if (c->replay) {
        replay_restart(c->replay);
    }
    coherence_resync(c, c->looks || !found_all);
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
        ahead_void(c->ahead, *slot);
        (*slot)->wd = -1;
        *slot = (*slot)->wd_next;
        slot = slot_of(c, dir->wd);
    }
    dir->wd_next = NULL;
    *slot = dir;
}

bool coherence_hears(const struct coherence *c, const struct node *dir)
{
    return c->short_ms && dir->wd >= 0 && (!dir->parent || dir->parent->wd >= 0);
}

struct coherence_validity coherence_validity(const struct coherence *c, const struct node *dir,
                                             const struct node *node, uint64_t nlink)
{
    bool dir_watched = dir ? dir->wd >= 0 : node->parent && node->parent->wd >= 0;
    bool is_dir = S_ISDIR(node->mode);
    bool sure =
        is_dir ? node->wd >= 0 && (dir_watched || !node->parent) : dir_watched && nlink == 1;

    if (!c->short_ms) {
        return (struct coherence_validity){0};
    }
    return (struct coherence_validity){
        .entry = dir_watched ? LONG_MS : c->short_ms,
        .attributes = !sure    ? c->short_ms
                      : is_dir ? LONG_MS
                               : FILE_MS,
    };
}

/* --- notifications --- */

bool coherence_has_credit(const struct coherence *c, unsigned count)
{
    return c->sent - c->acked + count <= COHERENCE_CREDIT;
}

/* Goes out now, or waits. */
static void put(struct coherence *c, const void *data, size_t len)
{
    if (coherence_has_credit(c, 1) && !c->waiting.len) {
        c->sent++;
        buf_put(c->out, data, len);
    } else if (buf_put(&c->waiting, data, len) < 0) {
        buf_drop(&c->waiting, c->waiting.len);
        coherence_resync(c, false);
    }
}

void coherence_tell_inode(struct coherence *c, struct node *node, bool content)
{
    struct {
        struct fuse_out_header head;
        struct fuse_notify_inval_inode_out body;
    } message = {.head = {.len = sizeof(message), .error = FUSE_NOTIFY_INVAL_INODE},
                 .body = {.ino = node->id, .off = content ? 0 : -1}};

    ahead_void(c->ahead, node);
    put(c, &message, sizeof(message));
}

void coherence_tell_entry(struct coherence *c, const struct node *dir, const char *name)
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
    while (coherence_has_credit(c, 1) && c->waiting.len) {
        uint32_t len;

        memcpy(&len, c->waiting.data, sizeof(len));
        buf_put(c->out, c->waiting.data, len);
        buf_drop(&c->waiting, len);
        c->sent++;
    }
}

/* Too many for the guest: what it misses is found later, from the files' own times. */
static void check_put(struct coherence *c, bool put)
{
    if (!put) {
        coherence_resync(c, true);
    }
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int64_t real_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * COHERENCE_SECOND_NS + now.tv_nsec;
}

/* Behind what is told: that is what makes the guest look anew. */
static void put_replays(struct coherence *c)
{
    while (c->replay && !c->resync && !c->waiting.len && coherence_has_credit(c, 1) &&
           replay_next(c->replay, c->sent + 1, now_ms(), c->out)) {
        c->sent++;
    }
}

/* --- events --- */

static bool is_about_name(const struct watch_event *event)
{
    return event->kind == WATCH_MADE || event->kind == WATCH_REMOVED ||
           event->kind == WATCH_MOVED_FROM || event->kind == WATCH_MOVED_TO;
}

/*
 * What is made of a name more often is somebody else's doing, at the same time. Contents
 * and attributes are looked at anew in any case, as the guest's kernel has just changed them.
 */
static bool is_own(struct coherence *c, const struct watch_event *event)
{
    for (size_t i = 0; i < c->own_count; i++) {
        struct coherence_own *own = &c->own[i];

        if (own->wd == event->wd && strcmp(own->name, event->name) == 0 &&
            (own->times || !is_about_name(event))) {
            own->times -= is_about_name(event);
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
        coherence_tell_inode(c, node, content);
    }
}

static bool is_own_close(const struct coherence *c, const struct watch_event *event)
{
    uint32_t hash = hash_name(event->name);

    for (size_t i = 0; i < c->closed_count; i++) {
        if (c->closed[i].wd == event->wd && c->closed[i].name_hash == hash) {
            return true;
        }
    }
    return false;
}

/* The folder that had this name. Few folders are removed, so a walk through all will do. */
static const struct node *find_watched(const struct coherence *c, const struct node *dir,
                                       const char *name)
{
    for (size_t i = 0; i < COHERENCE_HASH; i++) {
        for (const struct node *node = c->by_wd[i]; node; node = node->wd_next) {
            if (node->parent == dir && node->name && strcmp(node->name, name) == 0) {
                return node;
            }
        }
    }
    return NULL;
}

/*
 * A replay of what makes a name lead elsewhere tells the guest by itself, and only while the kernel
 * has the name still does it tell those, too, who watch what is behind it.
 */
static void on_name_event(struct coherence *c, struct node *dir, const struct watch_event *event)
{
    struct replay *replay = c->replay;
    bool is_dir = event->is_dir;
    bool prompt = replay && replay_is_prompt(replay);

    ahead_void(c->ahead, dir);
    if (!prompt) {
        coherence_tell_entry(c, dir, event->name);
        coherence_tell_inode(c, dir, true);
    }
    if (!replay) {
        return;
    }
    switch (event->kind) {
    case WATCH_MADE:
        check_put(c, replay_put(replay, LIMA_REPLAY_MAKE, dir, event->name, is_dir));
        break;
    case WATCH_REMOVED:
        check_put(
            c, is_dir ? replay_removed(replay, dir, event->name, find_watched(c, dir, event->name))
                      : replay_put(replay, LIMA_REPLAY_REMOVE, dir, event->name, false));
        break;
    case WATCH_MOVED_FROM:
        check_put(c, replay_moved_from(replay, dir, event->name, is_dir, event->cookie, now_ms()));
        break;
    default:
        check_put(c, replay_moved_to(replay, dir, event->name, is_dir, event->cookie));
        break;
    }
}

/* Of a folder its parent tells, if it has one. */
static void on_file_event(struct coherence *c, struct node *dir, const struct watch_event *event)
{
    bool content = event->kind == WATCH_CONTENT;

    if (*event->name) {
        tell_child(c, dir, event->name, content);
    } else {
        coherence_tell_inode(c, dir, false);
    }
    if (c->replay && (*event->name || !dir->parent)) {
        check_put(c, replay_put(c->replay, content ? LIMA_REPLAY_MODIFY : LIMA_REPLAY_ATTRIBUTES,
                                dir, event->name, event->is_dir));
    }
}

static void on_event(const struct watch_event *event, void *arg)
{
    struct coherence *c = arg;
    struct node *dir;

    if (event->kind == WATCH_OVERFLOW) {
        coherence_resync(c, true);
        return;
    }
    dir = *slot_of(c, event->wd);
    if (!dir || is_own(c, event)) {
        return;
    }
    switch (event->kind) {
    case WATCH_MADE:
    case WATCH_REMOVED:
    case WATCH_MOVED_FROM:
    case WATCH_MOVED_TO:
        on_name_event(c, dir, event);
        break;
    case WATCH_CONTENT:
    case WATCH_ATTRIBUTES:
        on_file_event(c, dir, event);
        break;
    case WATCH_CLOSED:
        if (c->replay && !is_own_close(c, event)) {
            check_put(c, replay_put(c->replay, LIMA_REPLAY_CLOSE, dir, event->name, false));
        }
        break;
    case WATCH_GONE:
        coherence_tell_inode(c, dir, true);
        unwatch(c, dir, false);
        break;
    case WATCH_OVERFLOW:
        break;
    }
}

void coherence_run(struct coherence *c, struct buf *out)
{
    int64_t now;

    if (!c->watch) {
        return;
    }
    c->out = out;
    now = real_ns();
    put_waiting(c);
    watch_read(c->watch, on_event, c);
    c->told_ns = now;
    c->closed_count = 0;
    coherence_put_resync(c);
    put_replays(c);
    c->out = NULL;
}

/* Of names that the guest does not know it need not be told. */
void coherence_remounted(struct coherence *c, const char *path, struct buf *out)
{
    scoped(free) char *copy = xstrdup(path);
    struct node *dir = nodes_find(c->nodes, NODES_ROOT);
    char *rest = copy, *name;

    while (dir && (name = strsep(&rest, "/")) && rest) {
        struct node_stat st;
        int fd = nodes_path_fd(c->nodes, dir);

        dir = fd >= 0 && nodes_stat_at(c->nodes, fd, name, &st) == 0
                  ? nodes_find_file(c->nodes, &st)
                  : NULL;
    }
    if (dir && strlen(name) <= JOURNAL_NAME_MAX) {
        c->out = out;
        ahead_void(c->ahead, dir);
        coherence_tell_entry(c, dir, name);
        c->out = NULL;
    }
}

void coherence_begin_own(struct coherence *c, struct buf *out)
{
    c->own_count = 0;
    coherence_run(c, out);
}

static void add_own(struct coherence *c, const struct node *dir, const char *name, unsigned times)
{
    if (dir && name && dir->wd >= 0) {
        c->own[c->own_count++] =
            (struct coherence_own){.wd = dir->wd, .name = name, .times = times};
    }
}

void coherence_end_own(struct coherence *c, const struct node *dir, const char *name,
                       const struct node *dir2, const char *name2, unsigned times,
                       const struct node *node, struct buf *out)
{
    c->own_count = 0;
    add_own(c, dir, name, times);
    add_own(c, dir2, name2, times);
    if (node) {
        add_own(c, node->parent, node->name, 0);
        add_own(c, node, "", 0);
    }
    coherence_run(c, out);
    c->own_count = 0;
}

void coherence_acked(struct coherence *c, uint64_t count, struct buf *out)
{
    c->acked += MIN(count, c->sent - c->acked);
    if (c->replay) {
        replay_taken(c->replay, c->acked);
    }
    coherence_run(c, out);
}
