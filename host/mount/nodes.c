/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/nodes_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/alloc.h"

#define FD_MAX_DEFAULT 512
#define DEVICE_SHIFT   48 /* st_ino of other devices than the root's: their number goes on top */

/* --- identity --- */

static size_t hash_of(const struct nodes *nodes, uint64_t dev, uint64_t ino)
{
    uint64_t h = (ino ^ (dev << 32)) * UINT64_C(0x9e3779b97f4a7c15);

    return (h >> 20) & (nodes->hash_len - 1);
}

static struct node *find_identity(const struct nodes *nodes, uint64_t dev, uint64_t ino,
                                  uint64_t born_ns)
{
    struct node *node = nodes->hash[hash_of(nodes, dev, ino)];

    while (node && (node->ino != ino || node->dev != dev || node->born_ns != born_ns)) {
        node = node->next;
    }
    return node;
}

static void hash_put(struct nodes *nodes, struct node *node)
{
    struct node **slot = &nodes->hash[hash_of(nodes, node->dev, node->ino)];

    node->next = *slot;
    *slot = node;
}

static void hash_remove(struct nodes *nodes, struct node *node)
{
    struct node **slot = &nodes->hash[hash_of(nodes, node->dev, node->ino)];

    while (*slot != node) {
        slot = &(*slot)->next;
    }
    *slot = node->next;
}

static void hash_grow(struct nodes *nodes)
{
    if (nodes->count + 1 < nodes->hash_len) {
        return;
    }
    free(nodes->hash);
    nodes->hash_len *= 2;
    nodes->hash = xnew_n(struct node *, nodes->hash_len);
    for (size_t i = 0; i < nodes->by_id_len; i++) {
        if (nodes->by_id[i]) {
            hash_put(nodes, nodes->by_id[i]);
        }
    }
}

/* 0 for the root's own device. Beyond the table numbers may be shared, as they are by stat(2). */
static uint64_t device_index(struct nodes *nodes, uint64_t dev)
{
    for (size_t i = 0; i < nodes->device_count; i++) {
        if (nodes->devices[i] == dev) {
            return i;
        }
    }
    if (nodes->device_count == DEVICES_MAX) {
        return DEVICES_MAX - 1;
    }
    nodes->devices[nodes->device_count] = dev;
    return nodes->device_count++;
}

static void from_statx(struct nodes *nodes, const struct statx *stx, struct node_stat *ret)
{
    uint64_t dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);
    bool born = stx->stx_mask & STATX_BTIME;

    *ret = (struct node_stat){
        .dev = dev,
        .ino = stx->stx_ino,
        .born_ns = born ? (uint64_t)stx->stx_btime.tv_sec * 1000000000 + stx->stx_btime.tv_nsec : 0,
        .st = {.st_ino = stx->stx_ino ^ (device_index(nodes, dev) << DEVICE_SHIFT),
               .st_mode = stx->stx_mode,
               .st_nlink = stx->stx_nlink,
               .st_uid = stx->stx_uid,
               .st_gid = stx->stx_gid,
               .st_rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor),
               .st_size = (off_t)stx->stx_size,
               .st_blocks = (blkcnt_t)stx->stx_blocks,
               .st_blksize = (blksize_t)stx->stx_blksize,
               .st_atim = {stx->stx_atime.tv_sec, stx->stx_atime.tv_nsec},
               .st_mtim = {stx->stx_mtime.tv_sec, stx->stx_mtime.tv_nsec},
               .st_ctim = {stx->stx_ctime.tv_sec, stx->stx_ctime.tv_nsec}},
    };
}

int nodes_stat_at(struct nodes *nodes, int dir_fd, const char *name, struct node_stat *ret)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
    struct statx stx;

    if (*name && !tree_is_name(name)) {
        return -EINVAL;
    }
    if (statx(dir_fd, name, flags, STATX_BASIC_STATS | STATX_BTIME, &stx) < 0) {
        return -errno;
    }
    from_statx(nodes, &stx, ret);
    ret->owned = owners_get(nodes->owners, dir_fd, name, stx.stx_mode, &ret->owner);
    if (ret->owned && ret->owner.type) {
        ret->st.st_mode = ret->owner.type | (ret->st.st_mode & 07777);
        ret->st.st_rdev = ret->owner.rdev;
    }
    return 0;
}

/* --- the table --- */

static struct node *add(struct nodes *nodes, uint64_t id, uint64_t generation, uint64_t dev,
                        uint64_t ino, uint64_t born_ns)
{
    struct node *node = xnew(struct node);

    *node = (struct node){.id = id,
                          .generation = generation,
                          .dev = dev,
                          .ino = ino,
                          .born_ns = born_ns,
                          .path_fd = -1,
                          .io_fd = -1,
                          .wd = -1};
    if (id >= nodes->by_id_len) {
        array_reserve(nodes->by_id, nodes->by_id_cap, id + 1);
        memset(nodes->by_id + nodes->by_id_len, 0,
               (id + 1 - nodes->by_id_len) * sizeof(nodes->by_id[0]));
        nodes->by_id_len = id + 1;
    }
    hash_grow(nodes);
    nodes->by_id[id] = node;
    nodes->count++;
    hash_put(nodes, node);
    return node;
}

static void set_name(struct node *node, struct node *parent, const char *name)
{
    char *copy = xstrdup(name);

    if (parent) {
        parent->children++;
    }
    if (node->parent) {
        node->parent->children--;
    }
    node->parent = parent;
    free(node->name);
    node->name = copy;
}

static void unpin(struct nodes *nodes, struct node *node)
{
    nodes->pins -= node->pinned && node != nodes->root;
    node->pinned = false;
}

static void remove_node(struct nodes *nodes, struct node *node)
{
    if (nodes->gone) {
        nodes->gone(node, nodes->gone_arg);
    }
    unpin(nodes, node);
    nodes_drop_fds(nodes, node);
    nodes_unlist(nodes, node);
    hash_remove(nodes, node);
    nodes->by_id[node->id] = NULL;
    nodes->count--;
    free(node->name);
    free(node);
}

/* Up the tree: a folder that was forgotten stays for what is in it. */
static void collect(struct nodes *nodes, struct node *node)
{
    while (node && node != nodes->root && !node->lookups && !node->children && !node->holds) {
        struct node *parent = node->parent;

        if (parent) {
            parent->children--;
        }
        array_reserve(nodes->free_ids, nodes->free_cap, nodes->free_count + 1);
        nodes->free_ids[nodes->free_count++] = node->id;
        remove_node(nodes, node);
        node = parent;
    }
}

static void open_root(struct nodes *nodes)
{
    struct node_stat st = {0};

    nodes_stat_at(nodes, tree_root(nodes->tree), "", &st);
    nodes->root = add(nodes, NODES_ROOT, 0, st.dev, st.ino, st.born_ns);
    nodes->root->lookups = 1;
    nodes->root->mode = S_IFDIR;
    nodes->root->pinned = true;
    nodes->root->path_fd = fcntl(tree_root(nodes->tree), F_DUPFD_CLOEXEC, 0);
    nodes->fd_count++;
}

struct nodes *nodes_new(const struct tree *tree)
{
    struct nodes *nodes = xnew(struct nodes);

    nodes->tree = tree;
    nodes->owners = owners_new(tree_root(tree));
    nodes->fd_max = FD_MAX_DEFAULT;
    nodes->hash_len = 1024;
    nodes->hash = xnew_n(struct node *, nodes->hash_len);
    open_root(nodes);
    return nodes;
}

static void remove_all(struct nodes *nodes)
{
    for (size_t i = 0; i < nodes->by_id_len; i++) { /* whoever hears of it asks for the parent */
        if (nodes->by_id[i]) {
            nodes_drop_fds(nodes, nodes->by_id[i]);
        }
    }
    for (size_t i = 0; i < nodes->by_id_len; i++) {
        if (nodes->by_id[i]) {
            remove_node(nodes, nodes->by_id[i]);
        }
    }
    nodes->by_id_len = 0;
    nodes->free_count = 0;
}

void nodes_free(struct nodes *nodes)
{
    if (nodes) {
        remove_all(nodes);
        owners_free(nodes->owners);
        free(nodes->by_id);
        free(nodes->free_ids);
        free(nodes->hash);
        free(nodes);
    }
}

void nodes_set_journal(struct nodes *nodes, struct journal *journal)
{
    nodes->journal = journal;
}

void nodes_set_gone(struct nodes *nodes, void (*fn)(struct node *node, void *arg), void *arg)
{
    nodes->gone = fn;
    nodes->gone_arg = arg;
}

void nodes_set_closing(struct nodes *nodes, void (*fn)(struct node *node, void *arg), void *arg)
{
    nodes->closing = fn;
    nodes->closing_arg = arg;
}

struct owners *nodes_owners(const struct nodes *nodes)
{
    return nodes->owners;
}

uint64_t nodes_last(const struct nodes *nodes)
{
    return nodes->by_id_len ? nodes->by_id_len - 1 : 0;
}

void nodes_set_fd_max(struct nodes *nodes, size_t max)
{
    nodes->fd_max = max;
}

void nodes_reset(struct nodes *nodes)
{
    remove_all(nodes);
    open_root(nodes);
}

size_t nodes_count(const struct nodes *nodes)
{
    return nodes->count;
}

struct node *nodes_find(const struct nodes *nodes, uint64_t id)
{
    return id < nodes->by_id_len ? nodes->by_id[id] : NULL;
}

struct node *nodes_find_file(const struct nodes *nodes, const struct node_stat *st)
{
    return find_identity(nodes, st->dev, st->ino, st->born_ns);
}

static void to_journal(const struct node *node, struct journal *journal, uint64_t lookups)
{
    const struct journal_node record = {.id = node->id,
                                        .generation = node->generation,
                                        .parent = node->parent ? node->parent->id : 0,
                                        .dev = node->dev,
                                        .ino = node->ino,
                                        .born_ns = node->born_ns,
                                        .lookups = lookups,
                                        .name = node->name ? node->name : ""};

    journal_put_node(journal, &record);
}

/* A folder before what is in it. The guest decides how deep that is. */
void nodes_save(const struct nodes *nodes, struct journal *journal)
{
    scoped(free) bool *saved = xnew_n(bool, nodes->by_id_len);
    scoped(free) const struct node **chain = NULL;
    size_t cap = 0;

    for (size_t i = 0; i < nodes->by_id_len; i++) {
        const struct node *node = nodes->by_id[i];
        size_t count = 0;

        for (; node && node != nodes->root && !saved[node->id]; node = node->parent) {
            saved[node->id] = true;
            array_reserve(chain, cap, count + 1);
            chain[count++] = node;
        }
        while (count > 0) {
            node = chain[--count];
            to_journal(node, journal, node->lookups);
        }
    }
}

static uint64_t draw_id(struct nodes *nodes)
{
    return nodes->free_count ? nodes->free_ids[--nodes->free_count]
                             : MAX(nodes->by_id_len, (size_t)NODES_ROOT + 1);
}

int nodes_enter(struct nodes *nodes, struct node *parent, const char *name,
                const struct node_stat *st, struct node **ret)
{
    struct node *node = nodes_find_file(nodes, st);

    if (!node) {
        if (nodes->count >= NODES_MAX) {
            return -ENFILE;
        }
        node = add(nodes, draw_id(nodes), ++nodes->generation, st->dev, st->ino, st->born_ns);
        set_name(node, parent, name);
        if (nodes->journal) {
            to_journal(node, nodes->journal, 1);
        }
    } else {
        if (node != nodes->root &&
            (node->parent != parent || !node->name || strcmp(node->name, name) != 0)) {
            nodes_renamed(nodes, node, parent, name);
        }
        if (nodes->journal && node != nodes->root) {
            journal_put_lookups(nodes->journal, node->id, 1);
        }
    }
    node->mode = st->st.st_mode & S_IFMT;
    node->lookups++;
    *ret = node;
    return 0;
}

void nodes_refer(struct nodes *nodes, struct node *node)
{
    node->lookups++;
    if (nodes->journal) {
        journal_put_lookups(nodes->journal, node->id, 1);
    }
}

void nodes_forget(struct nodes *nodes, struct node *node, uint64_t count)
{
    if (node == nodes->root) {
        return;
    }
    count = MIN(count, node->lookups);
    node->lookups -= count;
    if (nodes->journal) {
        journal_put_lookups(nodes->journal, node->id, -(int64_t)count);
    }
    collect(nodes, node);
}

void nodes_hold(struct nodes *nodes, struct node *node)
{
    if (node) {
        node->holds++;
    }
}

void nodes_release(struct nodes *nodes, struct node *node)
{
    if (node) {
        node->holds--;
        collect(nodes, node);
    }
}

void nodes_pin(struct nodes *nodes, struct node *node)
{
    if (node->pinned || nodes->pins >= nodes->fd_max / 2 || nodes_path_fd(nodes, node) < 0) {
        return;
    }
    node->pinned = true;
    nodes->pins++;
}

/* A folder below itself would be a ring: only a host that moves folders about gets there. */
static bool is_below(const struct node *node, const struct node *above)
{
    if (!above->children) {
        return node == above;
    }
    while (node && node != above) {
        node = node->parent;
    }
    return node != NULL;
}

void nodes_renamed(struct nodes *nodes, struct node *node, struct node *parent, const char *name)
{
    struct node *old = node->parent;

    if (is_below(parent, node)) {
        return;
    }
    set_name(node, parent, name);
    unpin(nodes, node);
    if (nodes->journal) {
        to_journal(node, nodes->journal, 0);
    }
    collect(nodes, old);
}

/* --- what an earlier process knew --- */

void nodes_restore_node(struct nodes *nodes, const struct journal_node *record)
{
    struct node *parent = nodes_find(nodes, record->parent);
    struct node *node = nodes_find(nodes, record->id);

    if (record->id <= NODES_ROOT || record->id > NODES_MAX) {
        return;
    }
    if (node && node->generation != record->generation) {
        if (node->parent) {
            node->parent->children--;
        }
        remove_node(nodes, node);
        node = NULL;
    }
    if (!node) {
        node =
            add(nodes, record->id, record->generation, record->dev, record->ino, record->born_ns);
    }
    nodes->generation = MAX(nodes->generation, record->generation);
    if (parent && !is_below(parent, node)) {
        set_name(node, parent, record->name);
    }
}

void nodes_restore_lookups(struct nodes *nodes, uint64_t id, int64_t change)
{
    struct node *node = nodes_find(nodes, id);

    if (!node || node == nodes->root) {
        return;
    }
    node->lookups =
        change < 0 && (uint64_t)-change > node->lookups ? 0 : node->lookups + (uint64_t)change;
    collect(nodes, node);
}

void nodes_restore_end(struct nodes *nodes)
{
    nodes->free_count = 0;
    for (size_t id = nodes->by_id_len; id-- > NODES_ROOT + 1;) {
        if (!nodes->by_id[id]) {
            array_reserve(nodes->free_ids, nodes->free_cap, nodes->free_count + 1);
            nodes->free_ids[nodes->free_count++] = id;
        }
    }
}
