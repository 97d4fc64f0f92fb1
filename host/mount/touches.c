/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A path is in one of these lists:
 *
 *   WAITING  in the order in which things happened
 *   FLIGHT   a record of it is on its way to the guest; the order of the answers
 *   RESTING  it has happened again meanwhile: WAITING after a while
 *   DONE     for a while, to know what comes of the touch
 *
 * A touch changes nothing of the host's file but the time of its last change, which is told as a
 * change of attributes: to us, and to whoever else watches the file for a guest. Two of them would
 * go on for ever. So such a change of a file that is as it was when its record was made is nobody's
 * news.
 */
#include "mount/touches.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"

#define HASH     4096
#define DONE_MS  10000
#define DONE_MAX 8192

enum list_id { LIST_WAITING, LIST_FLIGHT, LIST_RESTING, LIST_DONE, LIST_COUNT };

struct item {
    struct item *hash_next, *prev, *next;
    enum list_id list;
    unsigned what;
    unsigned again; /* in flight: what has happened since */
    int64_t at_ns;  /* the first of it */
    int64_t due_ms; /* of one that rests, or is done */
    struct stat st; /* in flight or done: as it was */
    char path[];
};

struct list {
    struct item *first, *last;
    size_t count;
};

struct touches {
    touches_look_fn *look;
    void *arg;
    struct list lists[LIST_COUNT];
    struct item *by_path[HASH];
    bool reset;         /* the guest is to be told so, first of all */
    size_t resets_sent; /* answers to come before those to records; at most one */
};

/* --- lists --- */

static void list_add(struct touches *t, struct item *item, enum list_id id)
{
    struct list *list = &t->lists[id];

    item->list = id;
    item->next = NULL;
    item->prev = list->last;
    *(list->last ? &list->last->next : &list->first) = item;
    list->last = item;
    list->count++;
}

static void list_drop(struct touches *t, struct item *item)
{
    struct list *list = &t->lists[item->list];

    *(item->prev ? &item->prev->next : &list->first) = item->next;
    *(item->next ? &item->next->prev : &list->last) = item->prev;
    list->count--;
}

static void list_move(struct touches *t, struct item *item, enum list_id id)
{
    list_drop(t, item);
    list_add(t, item, id);
}

static struct item **slot_of(struct touches *t, const char *path)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    struct item **slot;

    for (const char *p = path; *p; p++) {
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    }
    slot = &t->by_path[hash % HASH];
    while (*slot && strcmp((*slot)->path, path) != 0) {
        slot = &(*slot)->hash_next;
    }
    return slot;
}

static void item_free(struct touches *t, struct item *item)
{
    struct item **slot = slot_of(t, item->path);

    list_drop(t, item);
    *slot = item->hash_next;
    free(item);
}

struct touches *touches_new(touches_look_fn *look, void *arg)
{
    struct touches *t = xnew(struct touches);

    t->look = look;
    t->arg = arg;
    return t;
}

void touches_free(struct touches *t)
{
    if (t) {
        for (size_t i = 0; i < LIST_COUNT; i++) {
            while (t->lists[i].first) {
                item_free(t, t->lists[i].first);
            }
        }
        free(t);
    }
}

/* --- in --- */

size_t touches_room(const struct touches *t)
{
    size_t count = t->lists[LIST_WAITING].count + t->lists[LIST_RESTING].count;

    return count < TOUCHES_MAX ? TOUCHES_MAX - count : 0;
}

bool touches_put(struct touches *t, const char *path, unsigned what, int64_t now_ns)
{
    struct item **slot = slot_of(t, path);
    struct item *item = *slot;
    size_t size = strlen(path) + 1;

    if (size > LIMA_TOUCH_PATH_MAX + 1) {
        return true; /* nobody can name it in one piece, in the guest either */
    }
    if (item && item->list == LIST_DONE) {
        if (!touches_room(t)) {
            return false;
        }
        item->what = what;
        item->at_ns = now_ns;
        list_move(t, item, LIST_WAITING);
        return true;
    }
    if (item) {
        item->at_ns = item->list == LIST_FLIGHT && !item->again ? now_ns : item->at_ns;
        *(item->list == LIST_FLIGHT ? &item->again : &item->what) |= what;
        return true;
    }
    if (!touches_room(t)) {
        return false;
    }
    item = xmalloc(sizeof(*item) + size);
    *item = (struct item){.what = what, .at_ns = now_ns};
    memcpy(item->path, path, size);
    *slot = item;
    list_add(t, item, LIST_WAITING);
    return true;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_mode == b->st_mode &&
           a->st_nlink == b->st_nlink && a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
           a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

bool touches_put_attributes(struct touches *t, const char *path, int64_t now_ns)
{
    struct item *item = *slot_of(t, path);
    struct stat st;

    if (item && (item->list == LIST_FLIGHT || item->list == LIST_DONE) &&
        t->look(path, &st, t->arg) == 0 && is_same(&st, &item->st)) {
        return true;
    }
    return touches_put(t, path, LIMA_TOUCH_TOUCH, now_ns);
}

int64_t touches_reset(struct touches *t, int64_t now_ns)
{
    int64_t since_ns = now_ns;

    for (enum list_id id = LIST_WAITING; id < LIST_DONE; id++) {
        for (struct item *item = t->lists[id].first, *next; item; item = next) {
            next = item->next;
            if (id == LIST_FLIGHT && !item->again) {
                continue;
            }
            since_ns = item->at_ns < since_ns ? item->at_ns : since_ns;
            item->again = 0;
            if (id != LIST_FLIGHT) {
                item_free(t, item);
            }
        }
    }
    t->reset = true;
    return since_ns;
}

/* --- out --- */

static void put_record(unsigned what, const char *path, struct buf *out)
{
    struct lima_touch touch = {.what = what, .path_len = strlen(path)};
    uint8_t head[LIMA_TOUCH_HEAD];

    lima_touch_encode(&touch, head);
    buf_put(out, head, sizeof(head));
    buf_put(out, path, touch.path_len);
}

/* What there is to tell of it, now that it is looked at; 0: nothing. */
static unsigned consider(struct touches *t, struct item *item)
{
    unsigned what = item->what;

    if (t->look(item->path, &item->st, t->arg) < 0) {
        return what & LIMA_TOUCH_REMOVED;
    }
    if (!S_ISDIR(item->st.st_mode)) {
        what &= ~(unsigned)LIMA_TOUCH_FOLDER;
    }
    return what;
}

static void take_one(struct touches *t, struct item *item, struct buf *out)
{
    unsigned what = consider(t, item);

    if (!what) {
        item_free(t, item);
        return;
    }
    item->again = 0;
    list_move(t, item, LIST_FLIGHT);
    put_record(what, item->path, out);
}

static void wake(struct touches *t, int64_t now_ms)
{
    const struct list *done = &t->lists[LIST_DONE];
    struct item *item;

    while ((item = done->first) && (item->due_ms <= now_ms || done->count > DONE_MAX)) {
        item_free(t, item);
    }
    while ((item = t->lists[LIST_RESTING].first) && item->due_ms <= now_ms) {
        list_move(t, item, LIST_WAITING);
    }
}

int touches_take(struct touches *t, int64_t now_ms, struct buf *out)
{
    const struct item *resting;

    wake(t, now_ms);
    if (t->reset && !t->lists[LIST_FLIGHT].count && !t->resets_sent) {
        put_record(LIMA_TOUCH_RESET, "", out);
        t->reset = false;
        t->resets_sent = 1;
    }
    while (!t->reset && t->lists[LIST_WAITING].first &&
           t->lists[LIST_FLIGHT].count + t->resets_sent < LIMA_TOUCH_WINDOW) {
        take_one(t, t->lists[LIST_WAITING].first, out);
    }
    resting = t->lists[LIST_RESTING].first;
    return resting ? (int)(resting->due_ms - now_ms) : -1;
}

int touches_done(struct touches *t, size_t count, int64_t now_ms)
{
    size_t resets = count < t->resets_sent ? count : t->resets_sent;

    t->resets_sent -= resets;
    for (count -= resets; count; count--) {
        struct item *item = t->lists[LIST_FLIGHT].first;

        if (!item) {
            return -EBADMSG;
        }
        if (item->again) {
            item->what = item->again;
            item->due_ms = now_ms + TOUCHES_AGAIN_MS;
            list_move(t, item, LIST_RESTING);
        } else {
            item->due_ms = now_ms + DONE_MS;
            list_move(t, item, LIST_DONE);
        }
    }
    return 0;
}
