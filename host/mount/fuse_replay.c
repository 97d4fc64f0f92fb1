/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that the guest agent has made, to do once more what the host has done (replay.h): they
 * are answered as if they had done it, and change nothing. A guest that marks its own requests so
 * gets answers that are worth nothing, and no more rights.
 */
#include "mount/fuse_internal.h"

#include <errno.h>
#include <string.h>
#include "mount/replay.h"

/*
 * What exists in the guest only, for the moment that something is done to it: it is gone on the
 * host. No node has its number, which says what it is.
 */
static struct fuse_attr phantom_attr(const struct fuse_server *server, uint64_t id)
{
    uint64_t type = (id - LIMA_REPLAY_ELSEWHERE_NODE) % 16;
    uint32_t mode = (uint32_t)type << 12 | (type == S_IFDIR >> 12 ? 0755 : 0644);

    return (struct fuse_attr){.ino = id,
                              .mode = id == LIMA_REPLAY_ELSEWHERE_NODE ? S_IFDIR | 0700 : mode,
                              .nlink = S_ISDIR(mode) ? 2 : 1,
                              .uid = server->uid,
                              .gid = server->gid,
                              .blksize = 4096};
}

static int answer_phantom(struct fuse_job *job, uint64_t id)
{
    struct fuse_entry_out body = {
        .nodeid = id, .generation = id, .attr = phantom_attr(job->server, id)};

    return fuse_answer(job, &body, sizeof(body));
}

static int answer_new_phantom(struct fuse_job *job, uint32_t mode)
{
    return answer_phantom(job, LIMA_REPLAY_ELSEWHERE_NODE + ++job->server->phantoms * 16 +
                                   (mode & S_IFMT) / (S_IFMT & -S_IFMT));
}

static int answer_phantom_attr(struct fuse_job *job)
{
    struct fuse_attr_out body = {.attr = phantom_attr(job->server, job->req->node)};

    return fuse_answer(job, &body, sizeof(body));
}

/* The real file at @name of the folder @dir, if it is of the type that the guest expects. */
static int answer_real(struct fuse_job *job, uint64_t dir, const char *name, uint32_t mode)
{
    struct fuse_server *server = job->server;
    struct node *parent = nodes_find(server->nodes, dir);
    struct fuse_entry_out body;
    struct node *node = NULL;

    if (!parent || fuse_enter(job, parent, name, &body, &node) < 0) {
        return answer_new_phantom(job, mode);
    }
    if ((body.attr.mode ^ mode) & S_IFMT) {
        nodes_forget(server->nodes, node, 1);
        return answer_new_phantom(job, mode);
    }
    if (S_ISDIR(body.attr.mode)) {
        coherence_look(server->coherence, node);
    }
    return fuse_answer(job, &body, sizeof(body));
}

static uint32_t mode_of(const struct replay_event *event)
{
    return event->is_dir ? S_IFDIR | 0755 : S_IFREG | 0644;
}

/* A folder is gone, but the guest's kernel has it, and may have somebody who watches it. */
static int look_up_gone(struct fuse_job *job, const struct replay_event *event)
{
    struct nodes *nodes = job->server->nodes;
    struct node *node = event->node ? nodes_find(nodes, event->node) : NULL;
    struct fuse_entry_out body = {0};

    if (!node || !job->node || node->parent != job->node || strcmp(node->name, event->name) != 0) {
        return answer_new_phantom(job, mode_of(event));
    }
    nodes_refer(nodes, node);
    body.nodeid = node->id;
    body.generation = node->generation;
    body.attr = phantom_attr(job->server, LIMA_REPLAY_ELSEWHERE_NODE);
    return fuse_answer(job, &body, sizeof(body));
}

static int answer_what_is_there(struct fuse_job *job, const struct replay_event *event)
{
    struct fuse_entry_out body;

    return job->node && fuse_enter(job, job->node, job->req->name, &body, NULL) == 0
               ? fuse_answer(job, &body, sizeof(body))
               : answer_new_phantom(job, mode_of(event));
}

static int look_up_moved(struct fuse_job *job, const struct replay_event *event)
{
    struct nodes *nodes = job->server->nodes;
    struct node *to = nodes_find(nodes, event->dir2);
    int fd = to ? nodes_path_fd(nodes, to) : -ESTALE;
    struct node_stat st;

    if (fd < 0 || nodes_stat_at(nodes, fd, event->name2, &st) < 0) {
        return answer_new_phantom(job, mode_of(event));
    }
    return answer_real(job, event->dir2, event->name2, st.st.st_mode);
}

static int replay_lookup(struct fuse_job *job, const struct replay *replay)
{
    const struct fuse_request *req = job->req;
    const struct replay_event *event;
    enum replay_role role = replay_find(replay, req->node, req->name, &event);

    if (req->node == NODES_ROOT && strcmp(req->name, LIMA_REPLAY_ELSEWHERE) == 0) {
        return answer_phantom(job, LIMA_REPLAY_ELSEWHERE_NODE);
    }
    if (role == REPLAY_ROLE_NONE && job->node && !event) {
        return fuse_serve_lookup(job);
    }
    if (role == REPLAY_ROLE_NONE && event) {
        return answer_what_is_there(job, event);
    }
    return role == REPLAY_ROLE_GONE    ? look_up_gone(job, event)
           : role == REPLAY_ROLE_MOVED ? look_up_moved(job, event)
                                       : -ENOENT;
}

static int replay_make(struct fuse_job *job, struct replay *replay, uint32_t mode)
{
    const struct fuse_request *req = job->req;
    const struct replay_event *event;

    if (replay_find(replay, req->node, req->name, &event) != REPLAY_ROLE_ABSENT) {
        return -ENOENT;
    }
    replay_done(replay, req->node, req->name);
    return answer_real(job, req->node, req->name, mode);
}

/* The table follows the host's move. */
static int replay_rename(struct fuse_job *job, struct replay *replay, uint64_t new_dir)
{
    struct nodes *nodes = job->server->nodes;
    struct node *to = nodes_find(nodes, new_dir);
    int fd = to ? nodes_path_fd(nodes, to) : -ESTALE;
    struct node_stat st;
    struct node *node;

    replay_done(replay, job->req->node, job->req->name);
    if (fd >= 0 && nodes_stat_at(nodes, fd, job->req->name2, &st) == 0) {
        node = nodes_find_file(nodes, &st);
        if (node) {
            nodes_renamed(nodes, node, to, job->req->name2);
        }
    }
    return fuse_answer(job, NULL, 0);
}

bool fuse_serve_replayed(struct fuse_job *job, const struct fuse_op *op, int *ret)
{
    struct replay *replay = coherence_replay(job->server->coherence);
    const void *arg = job->req->arg;
    bool phantom = job->req->node >= LIMA_REPLAY_ELSEWHERE_NODE;
    bool asks = op->opcode == FUSE_LOOKUP || (op->opcode == FUSE_GETATTR && phantom);

    if (!(asks || op->changes)) {
        return false;
    }
    if (!replay) { /* not any more, or never */
        *ret = -EROFS;
        return op->changes;
    }
    switch (op->opcode) {
    case FUSE_LOOKUP:
        *ret = replay_lookup(job, replay);
        break;
    case FUSE_MKNOD:
        *ret = replay_make(job, replay, ((const struct fuse_mknod_in *)arg)->mode);
        break;
    case FUSE_MKDIR:
        *ret = replay_make(job, replay, S_IFDIR);
        break;
    case FUSE_SYMLINK:
        *ret = replay_make(job, replay, S_IFLNK);
        break;
    case FUSE_UNLINK:
    case FUSE_RMDIR:
        replay_done(replay, job->req->node, job->req->name);
        *ret = fuse_answer(job, NULL, 0);
        break;
    case FUSE_RENAME:
        *ret = replay_rename(job, replay, ((const struct fuse_rename_in *)arg)->newdir);
        break;
    case FUSE_RENAME2:
        *ret = replay_rename(job, replay, ((const struct fuse_rename2_in *)arg)->newdir);
        break;
    case FUSE_GETATTR:
    case FUSE_SETATTR:
        *ret = phantom ? answer_phantom_attr(job) : job->node ? fuse_serve_getattr(job) : -ESTALE;
        break;
    default:
        *ret = -EROFS;
        break;
    }
    return true;
}
