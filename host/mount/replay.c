/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/replay.h"

#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"

#define WAITING_MAX 65536
#define PROMPT_MAX  8
#define ON_WAY_MAX  8
#define MERGE_LOOK  64 /* events that are searched for one that says the same, or the other half */

struct queue {
    struct replay_event *first, **end;
    size_t count;
};

struct replay {
    struct nodes *nodes;
    struct queue waiting, on_way;
    struct replay_event *recent[MERGE_LOOK]; /* that wait, a ring; NULL: none */
    size_t recent_at;
    uint64_t serial; /* names what is elsewhere */
};

/* --- queues --- */

static void queue_init(struct queue *queue)
{
    *queue = (struct queue){.end = &queue->first};
}

static void queue_put(struct queue *queue, struct replay_event *event)
{
    event->next = NULL;
    *queue->end = event;
    queue->end = &event->next;
    queue->count++;
}

static struct replay_event *queue_take(struct queue *queue)
{
    struct replay_event *event = queue->first;

    queue->first = event->next;
    if (!queue->first) {
        queue->end = &queue->first;
    }
    queue->count--;
    return event;
}

static void event_free(struct replay_event *event)
{
    free(event->name);
    free(event->name2);
    free(event);
}

static void queue_clear(struct queue *queue)
{
    while (queue->first) {
        event_free(queue_take(queue));
    }
}

struct replay *replay_new(struct nodes *nodes)
{
    struct replay *replay = xnew(struct replay);

    replay->nodes = nodes;
    queue_init(&replay->waiting);
    queue_init(&replay->on_way);
    return replay;
}

void replay_clear(struct replay *replay)
{
    queue_clear(&replay->waiting);
    queue_clear(&replay->on_way);
    memset(replay->recent, 0, sizeof(replay->recent));
}

void replay_free(struct replay *replay)
{
    if (replay) {
        replay_clear(replay);
        free(replay);
    }
}

void replay_restart(struct replay *replay)
{
    if (replay->on_way.first) {
        *replay->on_way.end = replay->waiting.first;
        replay->waiting.end = replay->waiting.first ? replay->waiting.end : replay->on_way.end;
        replay->waiting.first = replay->on_way.first;
        replay->waiting.count += replay->on_way.count;
        queue_init(&replay->on_way);
    }
}

bool replay_is_prompt(const struct replay *replay)
{
    return replay->waiting.count < PROMPT_MAX;
}

bool replay_waits(const struct replay *replay)
{
    return replay->waiting.first && replay->waiting.first->cookie;
}

/* --- what has happened --- */

static bool is_about(const struct replay_event *event, uint64_t dir, const char *name)
{
    return (event->dir == dir && strcmp(event->name, name) == 0) ||
           (event->op == LIMA_REPLAY_MOVE && event->dir2 == dir && strcmp(event->name2, name) == 0);
}

/* The last one about a name that waits says the same already. */
static bool is_said(const struct replay *replay, enum lima_replay_op op, const struct node *dir,
                    const char *name)
{
    for (size_t i = 0; i < MERGE_LOOK; i++) {
        size_t at = (replay->recent_at + MERGE_LOOK - 1 - i) % MERGE_LOOK;
        const struct replay_event *event = replay->recent[at];

        if (event && is_about(event, dir->id, name)) {
            return event->op == op && op != LIMA_REPLAY_MAKE && op != LIMA_REPLAY_REMOVE &&
                   op != LIMA_REPLAY_MOVE;
        }
    }
    return false;
}

static struct replay_event *wait_new(struct replay *replay, enum lima_replay_op op, bool is_dir)
{
    struct replay_event *event;

    if (replay->waiting.count >= WAITING_MAX) {
        return NULL;
    }
    event = xnew(struct replay_event);
    event->op = op;
    event->is_dir = is_dir;
    queue_put(&replay->waiting, event);
    replay->recent[replay->recent_at] = event;
    replay->recent_at = (replay->recent_at + 1) % MERGE_LOOK;
    return event;
}

static void set_from(struct replay_event *event, const struct node *dir, const char *name)
{
    event->dir = dir->id;
    event->generation = dir->generation;
    event->name = xstrdup(name);
}

static void set_to(struct replay_event *event, const struct node *dir, const char *name)
{
    event->dir2 = dir->id;
    event->generation2 = dir->generation;
    free(event->name2);
    event->name2 = xstrdup(name);
}

bool replay_put(struct replay *replay, enum lima_replay_op op, const struct node *dir,
                const char *name, bool is_dir)
{
    struct replay_event *event;

    if (is_said(replay, op, dir, name)) {
        return true;
    }
    event = wait_new(replay, op, is_dir);
    if (!event) {
        return false;
    }
    set_from(event, dir, name);
    return true;
}

bool replay_removed(struct replay *replay, const struct node *dir, const char *name,
                    const struct node *folder)
{
    struct replay_event *event = wait_new(replay, LIMA_REPLAY_REMOVE, true);

    if (!event) {
        return false;
    }
    set_from(event, dir, name);
    event->node = folder ? folder->id : 0;
    return true;
}

static char *name_elsewhere(struct replay *replay)
{
    return xasprintf("%llu", (unsigned long long)++replay->serial);
}

bool replay_moved_from(struct replay *replay, const struct node *dir, const char *name, bool is_dir,
                       uint32_t cookie, uint64_t now_ms)
{
    struct replay_event *event = wait_new(replay, LIMA_REPLAY_MOVE, is_dir);

    if (!event) {
        return false;
    }
    set_from(event, dir, name);
    event->dir2 = LIMA_REPLAY_ELSEWHERE_NODE;
    event->name2 = name_elsewhere(replay);
    event->cookie = cookie;
    event->since_ms = now_ms;
    return true;
}

/* The kernel reports both next to each other, but for what happens at the same moment. */
static struct replay_event *find_half(const struct replay *replay, uint32_t cookie)
{
    for (size_t i = 0; cookie && i < MERGE_LOOK; i++) {
        if (replay->recent[i] && replay->recent[i]->cookie == cookie) {
            return replay->recent[i];
        }
    }
    return NULL;
}

bool replay_moved_to(struct replay *replay, const struct node *dir, const char *name, bool is_dir,
                     uint32_t cookie)
{
    struct replay_event *event = find_half(replay, cookie);

    if (event) {
        set_to(event, dir, name);
        event->cookie = 0;
        return true;
    }
    event = wait_new(replay, LIMA_REPLAY_MOVE, is_dir);
    if (!event) {
        return false;
    }
    event->dir = LIMA_REPLAY_ELSEWHERE_NODE;
    event->name = name_elsewhere(replay);
    set_to(event, dir, name);
    return true;
}

/* --- to the guest --- */

static struct node *folder_of(const struct replay *replay, uint64_t dir, uint64_t generation)
{
    struct node *node = nodes_find(replay->nodes, dir);

    return node && node->generation == generation ? node : NULL;
}

/* What is at a name now. */
static bool look(const struct replay *replay, uint64_t dir, uint64_t generation, const char *name,
                 struct node_stat *ret)
{
    struct node *node = folder_of(replay, dir, generation);
    int fd = node ? nodes_path_fd(replay->nodes, node) : -1;

    return fd >= 0 && nodes_stat_at(replay->nodes, fd, name, ret) == 0;
}

/* False: nobody in the guest can care. */
static bool fill(const struct replay *replay, const struct replay_event *event,
                 struct lima_replay *ret)
{
    bool moves = event->op == LIMA_REPLAY_MOVE;
    struct node_stat st = {0};
    bool there = moves ? look(replay, event->dir2, event->generation2, event->name2, &st)
                       : look(replay, event->dir, event->generation, event->name, &st);

    *ret = (struct lima_replay){.op = event->op,
                                .mode = event->is_dir ? S_IFDIR | 0755 : S_IFREG | 0644,
                                .dir = event->dir,
                                .dir2 = event->dir2,
                                .generation = (uint32_t)event->generation,
                                .generation2 = (uint32_t)event->generation2,
                                .ino = there ? st.st.st_ino : 0,
                                .name_len = (uint32_t)strlen(event->name),
                                .name2_len = event->name2 ? (uint32_t)strlen(event->name2) : 0};
    switch (event->op) {
    case LIMA_REPLAY_MAKE:
        if (there && S_ISDIR(st.st.st_mode) == event->is_dir) {
            ret->mode = st.st.st_mode;
        }
        break;
    case LIMA_REPLAY_CLOSE:
        if (there && !S_ISREG(st.st.st_mode)) {
            return false;
        }
        break;
    case LIMA_REPLAY_MOVE:
        return event->dir == LIMA_REPLAY_ELSEWHERE_NODE ||
               folder_of(replay, event->dir, event->generation);
    default:
        break;
    }
    return folder_of(replay, event->dir, event->generation) != NULL;
}

static void put_message(const struct replay_event *event, const struct lima_replay *body,
                        struct buf *out)
{
    struct fuse_out_header head = {
        .len = (uint32_t)(sizeof(head) + sizeof(*body) + body->name_len + 1 + body->name2_len + 1),
        .error = LIMA_MOUNT_REPLAY};

    buf_put(out, &head, sizeof(head));
    buf_put(out, body, sizeof(*body));
    buf_put(out, event->name, body->name_len + 1);
    buf_put(out, event->name2 ? event->name2 : "", body->name2_len + 1);
}

/* Its requests name what it is about, and so show when it has been done. */
static bool is_seen_done(const struct replay_event *event)
{
    return event->op == LIMA_REPLAY_MAKE || event->op == LIMA_REPLAY_REMOVE ||
           event->op == LIMA_REPLAY_MOVE;
}

/* Requests for a name must tell which of two events they are for, unless both take it as it is. */
static bool conflicts(const struct replay *replay, const struct replay_event *event)
{
    if (!is_seen_done(event)) {
        return false;
    }
    for (const struct replay_event *other = replay->on_way.first; other; other = other->next) {
        if (!is_seen_done(other) &&
            (is_about(other, event->dir, event->name) ||
             (event->name2 && is_about(other, event->dir2, event->name2)))) {
            return true;
        }
    }
    return false;
}

static void forget_recent(struct replay *replay, const struct replay_event *event)
{
    for (size_t i = 0; i < MERGE_LOOK; i++) {
        if (replay->recent[i] == event) {
            replay->recent[i] = NULL;
        }
    }
}

bool replay_next(struct replay *replay, uint64_t sequence, uint64_t now_ms, struct buf *out)
{
    while (replay->waiting.first && replay->on_way.count < ON_WAY_MAX) {
        struct replay_event *event = replay->waiting.first;
        struct lima_replay body;

        if ((event->cookie && now_ms - event->since_ms < REPLAY_PAIR_MS) ||
            conflicts(replay, event)) {
            return false;
        }
        queue_take(&replay->waiting);
        forget_recent(replay, event);
        if (!fill(replay, event, &body)) {
            event_free(event);
            continue;
        }
        put_message(event, &body, out);
        event->cookie = 0;
        event->sequence = sequence;
        event->done = false;
        queue_put(&replay->on_way, event);
        return true;
    }
    return false;
}

void replay_taken(struct replay *replay, uint64_t sequence)
{
    while (replay->on_way.first && replay->on_way.first->sequence <= sequence) {
        event_free(queue_take(&replay->on_way));
    }
}

void replay_done(struct replay *replay, uint64_t dir, const char *name)
{
    struct replay_event *event = replay->on_way.first;

    while (event && (event->done || !is_seen_done(event) || !is_about(event, dir, name))) {
        event = event->next;
    }
    if (event) {
        event->done = true;
    }
}

enum replay_role replay_find(const struct replay *replay, uint64_t dir, const char *name,
                             const struct replay_event **ret)
{
    const struct replay_event *event = replay->on_way.first;

    while (event && (event->done || !is_about(event, dir, name))) {
        event = event->next;
    }
    *ret = event;
    if (!event) {
        return REPLAY_ROLE_NONE;
    }
    switch (event->op) {
    case LIMA_REPLAY_MAKE:
        return REPLAY_ROLE_ABSENT;
    case LIMA_REPLAY_REMOVE:
        return REPLAY_ROLE_GONE;
    case LIMA_REPLAY_MOVE:
        return event->dir == dir && strcmp(event->name, name) == 0 ? REPLAY_ROLE_MOVED
                                                                   : REPLAY_ROLE_ABSENT;
    default:
        return REPLAY_ROLE_NONE;
    }
}
