/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/fuse_server.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "lima/mount.h"
#include "mount/fuse_internal.h"

#define MAX_BACKGROUND 64
#define OP_TMPFILE     51

/* --- life --- */

static void say_unkept(int r)
{
    if (r < 0) {
        log_warn("the state of the mount cannot be kept: %s; it will not survive the death of its "
                 "server, ignoring",
                 strerror(-r));
    }
}

#define WANTED                                                                                     \
    (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |              \
     FUSE_PARALLEL_DIROPS | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_CACHE_SYMLINKS | \
     FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2)

static int serve_init(struct fuse_job *job)
{
    const struct fuse_init_in *in = job->req->arg;
    struct fuse_server *server = job->server;
    struct fuse_init_out body = {
        .major = FUSE_KERNEL_VERSION,
        .minor = MIN(in->minor, (uint32_t)FUSE_KERNEL_MINOR_VERSION),
        .max_readahead = FUSE_WRITE_MAX, /* the guest agent says how much it shall be */
        .flags = in->flags & WANTED,
        .max_background = MAX_BACKGROUND,
        .congestion_threshold = MAX_BACKGROUND * 3 / 4,
        .max_write = FUSE_WRITE_MAX,
        .time_gran = 1,
        .max_pages = FUSE_WRITE_MAX / 4096,
    };

    if (in->major != FUSE_KERNEL_VERSION || in->minor < 31) {
        log_warn("the guest's kernel speaks FUSE %u.%u, which is too old", in->major, in->minor);
        return -EPROTO;
    }
    for (size_t i = 0; i < FUSE_STREAMS; i++) {
        server->streams[i].node = 0;
    }
    if (server->disk) {
        disk_abandon(server->disk);
    }
    ahead_void_all(&server->ahead);
    nodes_reset(server->nodes);
    coherence_reset(server->coherence);
    server->session = (struct journal_session){.minor = body.minor, .flags = body.flags};
    if (server->journal) {
        say_unkept(journal_restart(server->journal, &server->session));
    }
    return fuse_answer(job, &body, sizeof(body));
}

static int serve_forget(struct fuse_job *job)
{
    const struct fuse_forget_in *in = job->req->arg;

    if (job->node) {
        nodes_forget(job->server->nodes, job->node, in->nlookup);
    }
    return 0;
}

static int serve_batch_forget(struct fuse_job *job)
{
    const struct fuse_batch_forget_in *in = job->req->arg;
    struct fuse_forget_one one;

    for (uint32_t i = 0; i < in->count; i++) {
        struct node *node;

        memcpy(&one, job->req->data + i * sizeof(one), sizeof(one));
        node = nodes_find(job->server->nodes, one.nodeid);
        if (node) {
            nodes_forget(job->server->nodes, node, one.nlookup);
        }
    }
    return 0;
}

/*
 * The kernel goes on by itself from now on, and never asks again. Nor is anything interrupted: it
 * is being done, or was.
 */
static int serve_not_needed(struct fuse_job *job)
{
    return -ENOSYS;
}

static int serve_nothing(struct fuse_job *job)
{
    return fuse_answer(job, NULL, 0);
}

/* --- dispatch --- */

static const struct {
    uint32_t opcode;
    fuse_serve_fn *serve;
    bool no_node; /* the header's node means nothing, or may be unknown */
} table[] = {
    {FUSE_LOOKUP, fuse_serve_lookup},
    {FUSE_FORGET, serve_forget, .no_node = true},
    {FUSE_GETATTR, fuse_serve_getattr},
    {FUSE_SETATTR, fuse_serve_setattr},
    {FUSE_READLINK, fuse_serve_readlink},
    {FUSE_SYMLINK, fuse_serve_symlink},
    {FUSE_MKNOD, fuse_serve_mknod},
    {FUSE_MKDIR, fuse_serve_mkdir},
    {FUSE_UNLINK, fuse_serve_unlink},
    {FUSE_RMDIR, fuse_serve_rmdir},
    {FUSE_RENAME, fuse_serve_rename},
    {FUSE_LINK, fuse_serve_link},
    {FUSE_OPEN, serve_not_needed},
    {FUSE_READ, fuse_serve_read},
    {FUSE_WRITE, fuse_serve_write},
    {FUSE_STATFS, fuse_serve_statfs},
    {FUSE_RELEASE, serve_nothing, .no_node = true},
    {FUSE_FSYNC, fuse_serve_fsync},
    {FUSE_SETXATTR, fuse_serve_setxattr},
    {FUSE_GETXATTR, fuse_serve_getxattr},
    {FUSE_LISTXATTR, fuse_serve_listxattr},
    {FUSE_REMOVEXATTR, fuse_serve_removexattr},
    {FUSE_FLUSH, serve_not_needed},
    {FUSE_INIT, serve_init, .no_node = true},
    {FUSE_OPENDIR, serve_not_needed},
    {FUSE_READDIR, fuse_serve_readdir},
    {FUSE_RELEASEDIR, serve_nothing, .no_node = true},
    {FUSE_FSYNCDIR, fuse_serve_fsyncdir},
    {FUSE_ACCESS, serve_not_needed},
    {FUSE_CREATE, fuse_serve_create},
    {FUSE_INTERRUPT, serve_not_needed, .no_node = true},
    {FUSE_DESTROY, serve_nothing, .no_node = true},
    {FUSE_BATCH_FORGET, serve_batch_forget, .no_node = true},
    {FUSE_FALLOCATE, fuse_serve_fallocate},
    {FUSE_READDIRPLUS, fuse_serve_readdir},
    {FUSE_RENAME2, fuse_serve_rename2},
    {FUSE_LSEEK, fuse_serve_lseek},
    {FUSE_COPY_FILE_RANGE, fuse_serve_copy_file_range},
};

static bool names_are_fine(const struct fuse_request *req)
{
    bool is_attribute = req->opcode == FUSE_GETXATTR || req->opcode == FUSE_SETXATTR ||
                        req->opcode == FUSE_REMOVEXATTR;

    return !req->name || is_attribute || tree_is_name(req->name);
}

/* The second name of a request, with the folder it is in. */
static struct node *second_folder(const struct fuse_job *job)
{
    const struct nodes *nodes = job->server->nodes;

    switch (job->req->opcode) {
    case FUSE_RENAME:
        return nodes_find(nodes, ((const struct fuse_rename_in *)job->req->arg)->newdir);
    case FUSE_RENAME2:
        return nodes_find(nodes, ((const struct fuse_rename2_in *)job->req->arg)->newdir);
    default:
        return NULL;
    }
}

static bool exchanges(const struct fuse_request *req)
{
    return req->opcode == FUSE_RENAME2 &&
           ((const struct fuse_rename2_in *)req->arg)->flags & RENAME_EXCHANGE;
}

/* With what happens meanwhile told apart from what it does itself. The answer comes first. */
static int serve_change(struct fuse_job *job, fuse_serve_fn *fn)
{
    struct coherence *coherence = job->server->coherence;
    struct buf *news = &job->server->news;
    const struct fuse_request *req = job->req;
    bool attribute = req->opcode == FUSE_SETXATTR || req->opcode == FUSE_REMOVEXATTR;
    struct nodes *nodes = job->server->nodes;
    struct node *changed = req->name && !attribute ? NULL : job->node;
    struct node *second = second_folder(job);
    int r;

    if (req->opcode == FUSE_COPY_FILE_RANGE) {
        changed = nodes_find(nodes, ((const struct fuse_copy_file_range_in *)req->arg)->nodeid_out);
    }
    nodes_hold(nodes, job->node);
    nodes_hold(nodes, second);
    nodes_hold(nodes, changed);
    coherence_begin_own(coherence, news);
    r = fn(job);
    if (!changed) {
        fuse_say_attr(job->server, job->node);
    } else if (ahead_knows(&job->server->ahead, changed)) {
        fuse_say_attr(job->server, changed);
    }
    fuse_say_attr(job->server, second);
    coherence_end_own(coherence, changed ? NULL : job->node, req->name, second, req->name2,
                      r < 0            ? 0
                      : exchanges(req) ? 2
                                       : 1,
                      changed, news);
    nodes_release(nodes, changed);
    nodes_release(nodes, second);
    nodes_release(nodes, job->node);
    return r;
}

static int dispatch(struct fuse_job *job, const struct fuse_op *op)
{
    size_t i = 0;
    int r;

    while (i < ARRAY_LEN(table) && table[i].opcode != op->opcode) {
        i++;
    }
    if (i == ARRAY_LEN(table)) {
        return op->opcode == OP_TMPFILE ? -EOPNOTSUPP : -ENOSYS;
    }
    if (!names_are_fine(job->req)) {
        return -EINVAL;
    }
    if (job->req->replayed) {
        job->node = nodes_find(job->server->nodes, job->req->node);
        if (fuse_serve_replayed(job, op, &r)) {
            return r;
        }
    }
    if (op->changes && !tree_writable(job->server->tree)) {
        return -EROFS;
    }
    job->node = nodes_find(job->server->nodes, job->req->node);
    if (!job->node && !table[i].no_node) {
        return -ESTALE;
    }
    return op->changes ? serve_change(job, table[i].serve) : table[i].serve(job);
}

static int save_all(struct fuse_server *server)
{
    journal_rewrite_begin(server->journal);
    nodes_save(server->nodes, server->journal);
    return journal_rewrite_end(server->journal);
}

static void flush_journal(struct fuse_server *server)
{
    int r;

    if (!server->journal) {
        return;
    }
    r = journal_is_long(server->journal, nodes_count(server->nodes))
            ? save_all(server)
            : journal_flush(server->journal);
    say_unkept(r);
}

/* What has changed since then must not be hidden by what the guest learns late. */
static void answer_again(struct fuse_job *job, const void *known, size_t known_len)
{
    struct fuse_out_header head;
    int r;

    memcpy(&head, known, sizeof(head));
    if (job->req->opcode != FUSE_SETATTR || head.error) {
        buf_put(job->out, known, known_len);
        return;
    }
    job->node = nodes_find(job->server->nodes, job->req->node);
    r = job->node ? fuse_serve_getattr(job) : -ESTALE;
    if (r < 0) {
        fuse_reply_error(job->out, job->req->unique, r);
    }
}

/* What is said ahead comes before the answer that begins at @begin. */
static int put_ahead(struct fuse_server *server, struct buf *out, size_t begin)
{
    struct buf *said = &server->ahead.out;
    size_t len = out->len - begin;

    if (!said->len) {
        return 0;
    }
    if (!buf_reserve(out, said->len)) {
        return -ENOBUFS;
    }
    memmove(out->data + begin + said->len, out->data + begin, len);
    memcpy(out->data + begin, said->data, said->len);
    buf_commit(out, said->len);
    buf_drop(said, said->len);
    return 0;
}

/* What is said ahead, then what has happened. */
static int put_all(struct fuse_server *server, struct buf *out)
{
    int r = put_ahead(server, out, out->len);

    buf_put(out, server->news.data, server->news.len);
    buf_drop(&server->news, server->news.len);
    return r;
}

static bool syncs(const struct fuse_op *op)
{
    return op->opcode == FUSE_FSYNC || op->opcode == FUSE_FSYNCDIR;
}

/*
 * A change that comes again is not made again. Most of them do no harm unless the host has changed
 * the same since, so only of the others is it known, too, that they were begun: a process that is
 * killed between a write and the record of it has the next one write the same once more. Nor is a
 * sync done again, which would not fail a second time.
 */
static int serve(struct fuse_server *server, const struct fuse_request *req,
                 const struct fuse_op *op, struct buf *out)
{
    struct fuse_job job = {.server = server, .req = req, .out = out};
    bool known = (op->once || op->changes || syncs(op)) && server->journal && req->unique;
    bool begins = op->once && known;
    const void *reply;
    size_t begin = out->len, reply_len;
    enum journal_seen seen = JOURNAL_NEW;
    int r;

    if (known) {
        seen = journal_look(server->journal, req->unique, &reply, &reply_len);
        if (seen == JOURNAL_DONE) {
            answer_again(&job, reply, reply_len);
            return put_ahead(server, out, begin);
        }
    }
    if (begins) {
        journal_put_begun(server->journal, req->unique);
        if (!op->silent) {
            flush_journal(server);
        }
    }
    server->again = seen == JOURNAL_BEGUN;
    r = dispatch(&job, op);
    if (r == FUSE_LATER) {
        return put_all(server, out);
    }
    if (r < 0 || out->len == begin) {
        fuse_reply_error(out, req->unique, MIN(r, 0));
    }
    if (known) {
        journal_put_done(server->journal, req->unique, out->data + begin, out->len - begin);
    }
    flush_journal(server);
    r = put_ahead(server, out, begin);
    buf_put(out, server->news.data, server->news.len);
    buf_drop(&server->news, server->news.len);
    return r;
}

static int take_ack(struct fuse_server *server, const void *data, size_t len, struct buf *out)
{
    uint64_t count = 0, can;

    if (len >= sizeof(struct fuse_in_header) + sizeof(count)) {
        memcpy(&count, (const uint8_t *)data + sizeof(struct fuse_in_header), sizeof(count));
    }
    if (len >= sizeof(struct fuse_in_header) + sizeof(count) + sizeof(can)) {
        memcpy(&can, (const uint8_t *)data + sizeof(struct fuse_in_header) + sizeof(count),
               sizeof(can));
        ahead_restart(&server->ahead, can);
    }
    coherence_acked(server->coherence, count, &server->news);
    return put_all(server, out);
}

void fuse_server_restart(struct fuse_server *server)
{
    ahead_restart(&server->ahead, 0);
    coherence_restart(server->coherence);
}

void fuse_server_cut(struct fuse_server *server)
{
    if (server->disk) {
        disk_orphan(server->disk);
    }
}

/* The host's watch tells of it as if somebody else had closed the file, unless we are first. */
static void close_late(struct fuse_server *server, struct disk_job *job)
{
    struct node *node = nodes_find(server->nodes, job->node);

    if (node) {
        nodes_close_late(server->nodes, node);
    }
    fd_close(steal_fd(&job->fd));
}

bool fuse_server_finish(struct fuse_server *server, struct buf *out)
{
    scoped(disk_job_free) struct disk_job *job = server->disk ? disk_take(server->disk) : NULL;
    size_t begin = out->len;

    if (!job) {
        return false;
    }
    if (job->result < 0) {
        fuse_reply_error(out, job->id, job->result);
    } else {
        fuse_reply(out, job->id, job->data, (size_t)job->result);
    }
    if (job->kind != DISK_READ) {
        close_late(server, job);
        if (server->journal) {
            journal_put_done(server->journal, job->id, out->data + begin, out->len - begin);
            flush_journal(server);
        }
    }
    return true;
}

void fuse_server_set_events(struct fuse_server *server, bool events)
{
    coherence_set_events(server->coherence, events);
}

int fuse_server_watch_fd(const struct fuse_server *server)
{
    return coherence_fd(server->coherence);
}

int fuse_server_changed(struct fuse_server *server, struct buf *out)
{
    coherence_run(server->coherence, &server->news);
    return put_all(server, out);
}

int fuse_server_remounted(struct fuse_server *server, const char *path, struct buf *out)
{
    coherence_remounted(server->coherence, path, &server->news);
    return put_all(server, out);
}

int fuse_server_message(struct fuse_server *server, const void *data, size_t len, struct buf *out)
{
    const struct fuse_op *op;
    struct fuse_request req;
    int r = fuse_request_parse(data, len, &req);

    op = fuse_op_find(req.opcode);
    if (req.opcode == LIMA_MOUNT_ACK) {
        return take_ack(server, data, len, out);
    }
    if (!server->session.minor && req.opcode != FUSE_INIT) {
        return -ENOTCONN;
    }
    if (r < 0 || !op) {
        fuse_reply_error(out, req.unique, r == -EBADMSG ? -EIO : r < 0 ? r : -ENOSYS);
        return 0;
    }
    return serve(server, &req, op, out);
}

bool fuse_server_waits(const struct fuse_server *server)
{
    return coherence_waits(server->coherence);
}

void fuse_server_idle(struct fuse_server *server)
{
    nodes_end_writing(server->nodes);
}

void fuse_server_set_owner(struct fuse_server *server, uid_t uid, gid_t gid)
{
    server->uid = uid;
    server->gid = gid;
}

static void on_journal_session(const struct journal_session *session, void *arg)
{
    struct fuse_server *server = arg;

    server->session = *session;
    nodes_reset(server->nodes);
}

static void on_journal_node(const struct journal_node *node, void *arg)
{
    struct fuse_server *server = arg;

    nodes_restore_node(server->nodes, node);
}

static void on_journal_lookups(uint64_t id, int64_t change, void *arg)
{
    struct fuse_server *server = arg;

    nodes_restore_lookups(server->nodes, id, change);
}

/* A file that is broken is worth nothing: a guest that goes by it has to mount anew. */
static int open_journal(struct fuse_server *server, const struct fuse_server_options *options,
                        struct error *err)
{
    static const struct journal_events events = {
        .session = on_journal_session, .node = on_journal_node, .lookups = on_journal_lookups};
    scoped(error_done) struct error broken = ERROR_INIT;
    int r = journal_open(options->state, options->id, &events, server, &server->journal, &broken);

    if (r != -EBADMSG) {
        return r < 0 ? error_move(err, &broken) : 0;
    }
    log_error_of(LOG_LEVEL_WARN, &broken, "the state of a mount, ignoring it");
    unlink(options->state);
    nodes_reset(server->nodes);
    server->session = (struct journal_session){0};
    return journal_open(options->state, options->id, &events, server, &server->journal, err);
}

int fuse_server_new(const struct fuse_server_options *options, struct fuse_server **ret,
                    struct error *err)
{
    scoped(fuse_server_free) struct fuse_server *server = xnew(struct fuse_server);
    struct stat st;
    int r;

    server->tree = options->tree;
    server->disk = options->disk;
    server->io = xmalloc(MAX(XATTR_SIZE_MAX, XATTR_LIST_MAX));
    server->nodes = nodes_new(options->tree);
    server->coherence = coherence_new(server->nodes, &server->ahead, options->cache_ms);
    if (options->fd_max) {
        nodes_set_fd_max(server->nodes, options->fd_max);
    }
    if (options->state) {
        if (stat(options->state, &st) == 0) {
            coherence_set_told(server->coherence,
                               (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
        }
        r = open_journal(server, options, err);
        if (r < 0) {
            return r;
        }
        nodes_restore_end(server->nodes);
        nodes_set_journal(server->nodes, server->journal);
    }
    *ret = steal(server);
    return 0;
}

void fuse_server_free(struct fuse_server *server)
{
    if (!server) {
        return;
    }
    for (size_t i = 0; i < FUSE_STREAMS; i++) {
        fuse_stream_close(&server->streams[i]);
    }
    coherence_free(server->coherence);
    nodes_free(server->nodes);
    buf_done(&server->news);
    ahead_done(&server->ahead);
    journal_free(server->journal);
    free(server->io);
    free(server);
}
