/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "base/alloc.h"
#include "mount/coherence_internal.h"

#define SLACK_NS 20000000 /* by which times of files lag: they are those of the last tick */

void coherence_resync(struct coherence *c, bool lost)
{
    if (lost && c->told_ns) {
        c->lost_ns = c->finds ? c->lost_ns : c->told_ns;
        c->finds = true;
        if (c->replay) {
            replay_clear(c->replay);
        }
    }
    c->resync = true;
    c->resync_at = NODES_ROOT;
    ahead_void_all(c->ahead);
}

static bool is_late(const struct coherence *c, const struct node_stat *st)
{
    return (int64_t)st->st.st_ctim.tv_sec * COHERENCE_SECOND_NS + st->st.st_ctim.tv_nsec >=
           c->lost_ns - SLACK_NS;
}

static void find_name(struct coherence *c, struct node *dir, int fd, const char *name)
{
    struct node_stat st;
    struct node *node;

    if (!tree_is_name(name) || nodes_stat_at(c->nodes, fd, name, &st) < 0 || !is_late(c, &st)) {
        return;
    }
    node = nodes_find_file(c->nodes, &st);
    if (!node || node->parent != dir || strcmp(node->name, name) != 0) {
        (void)replay_put(c->replay, LIMA_REPLAY_MAKE, dir, name, S_ISDIR(st.st.st_mode));
    }
}

static void find_names(struct coherence *c, struct node *dir)
{
    int path_fd = nodes_path_fd(c->nodes, dir);
    int fd = path_fd < 0 ? -1 : tree_reopen(path_fd, O_RDONLY | O_DIRECTORY);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    if (!stream) {
        fd_close(fd);
        return;
    }
    while ((entry = readdir(stream))) {
        find_name(c, dir, fd, entry->d_name);
    }
    closedir(stream);
}

/* What became of @node that the guest was not told of. @st NULL: its name leads elsewhere by now.
 */
static void find_lost(struct coherence *c, struct node *node, const struct node_stat *st)
{
    bool is_dir = st ? S_ISDIR(st->st.st_mode) : S_ISDIR(node->mode);

    if (!st) {
        if (node->parent && node->name && node->parent->wd >= 0) {
            (void)replay_put(c->replay, LIMA_REPLAY_REMOVE, node->parent, node->name, is_dir);
        }
        return;
    }
    if (is_dir && c->looks) {
        node->mode = S_IFDIR;
        coherence_look(c, node);
    }
    if (is_dir && node->wd >= 0) {
        find_names(c, node);
    } else if (!is_dir && node->parent && node->parent->wd >= 0 && is_late(c, st)) {
        (void)replay_put(c->replay, LIMA_REPLAY_MODIFY, node->parent, node->name, false);
    }
}

/*
 * Only names that lead elsewhere by now: the kernel unmounts what is mounted on a name that it is
 * told of.
 */
static void resync_one(struct coherence *c, struct node *node)
{
    struct node_stat st;
    int r = nodes_stat(c->nodes, node, &st);

    if (node->parent && node->name && r < 0) {
        coherence_tell_entry(c, node->parent, node->name);
    }
    coherence_tell_inode(c, node, true);
    if (c->finds && c->replay) {
        find_lost(c, node, r < 0 ? NULL : &st);
    }
}

void coherence_put_resync(struct coherence *c)
{
    uint64_t last = nodes_last(c->nodes);

    while (c->resync && coherence_has_credit(c, 2) && !c->waiting.len) {
        struct node *node = nodes_find(c->nodes, c->resync_at);

        if (node) {
            resync_one(c, node);
        }
        c->resync = ++c->resync_at <= last;
    }
    if (!c->resync) {
        c->finds = c->looks = false;
    }
}
