/* SPDX-License-Identifier: Apache-2.0 */
/* What files look like to the guest. */
#include "mount/fuse_internal.h"

#include <errno.h>
#include <sys/sysmacros.h>

static void fill_attr(const struct fuse_server *server, const struct node_stat *st,
                      struct fuse_attr *attr)
{
    *attr = (struct fuse_attr){
        .ino = st->st.st_ino,
        .size = (uint64_t)st->st.st_size,
        .blocks = (uint64_t)st->st.st_blocks,
        .atime = (uint64_t)st->st.st_atim.tv_sec,
        .mtime = (uint64_t)st->st.st_mtim.tv_sec,
        .ctime = (uint64_t)st->st.st_ctim.tv_sec,
        .atimensec = (uint32_t)st->st.st_atim.tv_nsec,
        .mtimensec = (uint32_t)st->st.st_mtim.tv_nsec,
        .ctimensec = (uint32_t)st->st.st_ctim.tv_nsec,
        .mode = st->st.st_mode,
        .nlink = (uint32_t)st->st.st_nlink,
        .uid = st->owned ? st->owner.uid : server->uid,
        .gid = st->owned ? st->owner.gid : server->gid,
        .rdev = st->owned && st->owner.type
                    ? st->owner.rdev
                    : (uint32_t)makedev(major(st->st.st_rdev), minor(st->st.st_rdev)),
        .blksize = (uint32_t)st->st.st_blksize,
    };
}

/* @dir: the folder it was found in. */
static void fill_entry(const struct fuse_server *server, const struct node *dir,
                       const struct node *node, const struct node_stat *st,
                       struct fuse_entry_out *entry)
{
    struct coherence_validity valid =
        coherence_validity(server->coherence, dir, node, st->st.st_nlink);

    *entry = (struct fuse_entry_out){.nodeid = node->id,
                                     .generation = node->generation,
                                     .entry_valid = valid.entry / 1000,
                                     .attr_valid = valid.attributes / 1000,
                                     .entry_valid_nsec = valid.entry % 1000 * 1000000,
                                     .attr_valid_nsec = valid.attributes % 1000 * 1000000};
    fill_attr(server, st, &entry->attr);
}

int fuse_answer(struct fuse_job *job, const void *body, size_t len)
{
    fuse_reply(job->out, job->req->unique, body, len);
    return 0;
}

static void fill_attr_out(const struct fuse_server *server, const struct node *node,
                          const struct node_stat *st, struct fuse_attr_out *ret)
{
    struct coherence_validity valid =
        coherence_validity(server->coherence, NULL, node, st->st.st_nlink);

    *ret = (struct fuse_attr_out){.attr_valid = valid.attributes / 1000,
                                  .attr_valid_nsec = valid.attributes % 1000 * 1000000};
    fill_attr(server, st, &ret->attr);
}

int fuse_answer_attr(struct fuse_job *job, const struct node_stat *st)
{
    struct fuse_attr_out body;

    fill_attr_out(job->server, job->node, st, &body);
    return fuse_answer(job, &body, sizeof(body));
}

void fuse_say_attr(struct fuse_server *server, struct node *node)
{
    struct fuse_attr_out body;
    struct node_stat st;

    if (!node || !server->ahead.on) {
        return;
    }
    if (!S_ISDIR(node->mode) || !coherence_hears(server->coherence, node) ||
        nodes_stat(server->nodes, node, &st) < 0) {
        ahead_void(&server->ahead, node);
        return;
    }
    fill_attr_out(server, node, &st, &body);
    ahead_say_attr(&server->ahead, node, &body);
}

int fuse_enter(struct fuse_job *job, struct node *dir, const char *name, struct fuse_entry_out *ret,
               struct node **ret_node)
{
    struct fuse_server *server = job->server;
    struct node_stat st;
    struct node *node;
    int dir_fd = nodes_path_fd(server->nodes, dir);
    int r = dir_fd < 0 ? dir_fd : nodes_stat_at(server->nodes, dir_fd, name, &st);

    r = r < 0 ? r : nodes_enter(server->nodes, dir, name, &st, &node);
    if (r < 0) {
        return r;
    }
    fill_entry(server, dir, node, &st, ret);
    if (ret_node) {
        *ret_node = node;
    }
    return 0;
}

int fuse_answer_entry(struct fuse_job *job, struct node *dir, const char *name)
{
    struct fuse_entry_out body;
    int r = fuse_enter(job, dir, name, &body, NULL);

    return r < 0 ? r : fuse_answer(job, &body, sizeof(body));
}

void fuse_own(struct fuse_job *job, const char *name)
{
    const struct fuse_server *server = job->server;
    struct owners *owners = nodes_owners(server->nodes);
    const struct fuse_request *req = job->req;
    struct node_stat dir, st;
    uint32_t gid = req->gid;
    int fd;

    if (req->uid == 0 && !owners_any(owners)) {
        return;
    }
    if (nodes_stat(server->nodes, job->node, &dir) == 0 && dir.st.st_mode & S_ISGID) {
        gid = dir.owned ? dir.owner.gid : server->gid;
    }
    if (req->uid == server->uid && gid == server->gid) {
        return;
    }
    fd = nodes_path_fd(server->nodes, job->node);
    if (fd >= 0 && nodes_stat_at(server->nodes, fd, name, &st) == 0) {
        (void)owners_set(owners, fd, name, st.st.st_mode,
                         &(struct owner){.uid = req->uid, .gid = gid}); /* else the user's */
    }
}

int fuse_made(const struct fuse_job *job, int r, int error)
{
    return r < 0 && errno == error && job->server->again ? 0 : r < 0 ? -errno : 0;
}
