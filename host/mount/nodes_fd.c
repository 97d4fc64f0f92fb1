/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptors of nodes: opened when they are needed, the oldest closed when there are too many.
 */
#include "mount/nodes_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "base/alloc.h"
#include "mount/contents.h"

void nodes_unlist(struct nodes *nodes, struct node *node)
{
    if (!node->listed) {
        return;
    }
    *(node->older ? &node->older->newer : &nodes->oldest) = node->newer;
    *(node->newer ? &node->newer->older : &nodes->newest) = node->older;
    node->older = node->newer = NULL;
    node->listed = false;
}

static void list_newest(struct nodes *nodes, struct node *node)
{
    if (nodes->newest == node) {
        return;
    }
    nodes_unlist(nodes, node);
    node->older = nodes->newest;
    *(nodes->newest ? &nodes->newest->newer : &nodes->oldest) = node;
    nodes->newest = node;
    node->listed = true;
}

static void drop_fd(struct nodes *nodes, int *fd)
{
    if (*fd >= 0) {
        close(steal_fd(fd));
        nodes->fd_count--;
    }
}

static void drop_io(struct nodes *nodes, struct node *node)
{
    if (node->io_fd >= 0 && node->io_writes) {
        nodes->writers--;
        if (nodes->closing) {
            nodes->closing(node, nodes->closing_arg);
        }
    }
    node->io_writes = false;
    drop_fd(nodes, &node->io_fd);
}

void nodes_drop_fds(struct nodes *nodes, struct node *node)
{
    drop_io(nodes, node);
    if (!node->pinned) {
        drop_fd(nodes, &node->path_fd);
    }
    if (node->path_fd < 0) {
        nodes_unlist(nodes, node);
    }
}

/* Not those of @keep, which is in use, nor the root's. */
static void make_room(struct nodes *nodes, const struct node *keep)
{
    struct node *node = nodes->oldest;

    while (node && nodes->fd_count >= nodes->fd_max) {
        struct node *newer = node->newer;

        if (node != keep) {
            nodes_drop_fds(nodes, node);
            if (node->listed) { /* pinned: not to be looked at each time */
                nodes_unlist(nodes, node);
            }
        }
        node = newer;
    }
}

static void hold(struct nodes *nodes, struct node *node, int *slot, int fd)
{
    make_room(nodes, node);
    *slot = fd;
    nodes->fd_count++;
    list_newest(nodes, node);
}

static int check_same(struct nodes *nodes, const struct node *node, int fd)
{
    struct node_stat st;
    int r = nodes_stat_at(nodes, fd, "", &st);

    if (r < 0) {
        return r;
    }
    return st.ino == node->ino && st.dev == node->dev && st.born_ns == node->born_ns ? 0 : -ESTALE;
}

#define DEPTH_MAX 4096

/* Folders on the way are opened from the first that is open, downwards. */
int nodes_path_fd(struct nodes *nodes, struct node *node)
{
    struct node *chain[DEPTH_MAX];
    size_t depth = 0;
    int fd, r;

    for (; node->path_fd < 0; node = node->parent) {
        if (!node->parent || depth == DEPTH_MAX) {
            return -ESTALE;
        }
        chain[depth++] = node;
    }
    list_newest(nodes, node);
    while (depth > 0) {
        int dir_fd = node->path_fd;

        node = chain[--depth];
        fd = tree_open_at(nodes->tree, dir_fd, node->name, O_PATH, 0);
        if (fd < 0) {
            return fd == -ENOENT || fd == -ENOTDIR ? -ESTALE : fd;
        }
        r = check_same(nodes, node, fd);
        if (r < 0) {
            close(fd);
            return r;
        }
        hold(nodes, node, &node->path_fd, fd);
    }
    return node->path_fd;
}

static int open_io(struct nodes *nodes, struct node *node, bool writing)
{
    int flags = writing ? O_RDWR : O_RDONLY;
    int path_fd = nodes_path_fd(nodes, node);

    return path_fd < 0 ? path_fd : contents_open(path_fd, flags, tree_writable(nodes->tree));
}

int nodes_io_fd(struct nodes *nodes, struct node *node, bool writing)
{
    struct node_stat st;
    int fd;

    if (!node->mode && nodes_stat(nodes, node, &st) == 0) {
        node->mode = st.st.st_mode & S_IFMT;
    }
    if (!S_ISREG(node->mode)) {
        return S_ISDIR(node->mode) ? -EISDIR : -EINVAL;
    }
    if (node->io_fd >= 0 && (node->io_writes || !writing)) {
        list_newest(nodes, node);
        return node->io_fd;
    }
    fd = open_io(nodes, node, writing);
    if (fd < 0) {
        return fd;
    }
    nodes_give_io_fd(nodes, node, fd, writing);
    return fd;
}

void nodes_give_io_fd(struct nodes *nodes, struct node *node, int take_fd, bool writes)
{
    drop_io(nodes, node);
    hold(nodes, node, &node->io_fd, take_fd);
    node->io_writes = writes;
    nodes->writers += writes;
}

bool nodes_end_writing(struct nodes *nodes)
{
    bool any = nodes->writers > 0;

    for (struct node *node = nodes->newest; node && nodes->writers > 0; node = node->older) {
        if (!node->io_writes) {
            continue;
        }
        if (node->path_fd < 0) {
            int fd = tree_reopen(node->io_fd, O_PATH);

            if (fd >= 0) {
                node->path_fd = fd;
                nodes->fd_count++;
            }
        }
        drop_io(nodes, node);
    }
    return any;
}

void nodes_close_late(struct nodes *nodes, struct node *node)
{
    if (nodes->closing && !node->io_writes) {
        nodes->closing(node, nodes->closing_arg);
    }
}

int nodes_stat(struct nodes *nodes, struct node *node, struct node_stat *ret)
{
    int fd = node->io_fd >= 0 ? node->io_fd : node->path_fd;
    int dir_fd, r;

    if (fd >= 0) {
        return nodes_stat_at(nodes, fd, "", ret);
    }
    if (!node->parent) {
        return -ESTALE;
    }
    dir_fd = nodes_path_fd(nodes, node->parent);
    if (dir_fd < 0) {
        return dir_fd;
    }
    r = nodes_stat_at(nodes, dir_fd, node->name, ret);
    if (r < 0) {
        return r == -ENOENT ? -ESTALE : r;
    }
    return ret->ino == node->ino && ret->dev == node->dev && ret->born_ns == node->born_ns
               ? 0
               : -ESTALE;
}
