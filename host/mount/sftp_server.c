/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/sftp_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"

/* --- what is open --- */

static void close_handle(struct sftp_server *server, struct sftp_handle *handle)
{
    if (handle->dir) {
        closedir(handle->dir);
    }
    fd_close(handle->fd);
    *handle = (struct sftp_handle){.fd = -1, .generation = handle->generation + 1};
    server->open--;
}

static bool is_open(const struct sftp_handle *handle)
{
    return handle->fd >= 0 || handle->dir;
}

static struct sftp_handle *free_place(struct sftp_server *server)
{
    for (size_t i = 0; i < server->used; i++) {
        if (!is_open(&server->handles[i])) {
            return &server->handles[i];
        }
    }
    if (server->used == SFTP_HANDLES_MAX) {
        return NULL;
    }
    server->handles[server->used].fd = -1;
    return &server->handles[server->used++];
}

bool sftp_is_full(const struct sftp_server *server)
{
    return server->open == SFTP_HANDLES_MAX;
}

int sftp_open_handle(struct sftp_job *job, int take_fd, DIR *take_dir)
{
    struct sftp_server *server = job->server;
    struct sftp_handle *handle = free_place(server);
    uint32_t words[2];
    size_t begin;

    if (!handle) {
        fd_close(take_fd);
        if (take_dir) {
            closedir(take_dir);
        }
        return -EMFILE;
    }
    handle->fd = take_fd;
    handle->dir = take_dir;
    server->open++;
    words[0] = (uint32_t)(handle - server->handles);
    words[1] = handle->generation;
    begin = sftp_reply_begin(job->out, SFTP_HANDLE, job->req->id);
    static_assert(sizeof(words) == SFTP_HANDLE_LEN, "a place and its generation");
    sftp_put_string(job->out, words, sizeof(words));
    sftp_reply_end(job->out, begin);
    return 1;
}

struct sftp_handle *sftp_find_handle(struct sftp_job *job)
{
    struct sftp_server *server = job->server;
    struct sftp_handle *handle;
    uint32_t words[2];

    memcpy(words, job->req->handle, sizeof(words));
    if (words[0] >= server->used) {
        return NULL;
    }
    handle = &server->handles[words[0]];
    return is_open(handle) && handle->generation == words[1] ? handle : NULL;
}

int sftp_handle_fd(struct sftp_job *job)
{
    const struct sftp_handle *handle = sftp_find_handle(job);

    return !handle ? -EBADF : handle->dir ? dirfd(handle->dir) : handle->fd;
}

static int serve_close(struct sftp_job *job)
{
    struct sftp_handle *handle = sftp_find_handle(job);

    if (!handle) {
        return -EBADF;
    }
    close_handle(job->server, handle);
    return 0;
}

/* --- what the server is --- */

static int serve_init(struct sftp_job *job)
{
    size_t begin = sftp_reply_begin(job->out, SFTP_VERSION_IS, SFTP_VERSION);
    const struct sftp_op *op;

    for (size_t i = 0; (op = sftp_op_at(i)); i++) {
        if (op->version) {
            sftp_put_string(job->out, op->name, strlen(op->name));
            sftp_put_string(job->out, op->version, strlen(op->version));
        }
    }
    sftp_reply_end(job->out, begin);
    sftp_server_restart(job->server);
    job->server->begun = true;
    return 1;
}

static int serve_limits(struct sftp_job *job)
{
    size_t begin = sftp_reply_begin(job->out, SFTP_EXTENDED_REPLY, job->req->id);

    sftp_put_u64(job->out, SFTP_MESSAGE_MAX);
    sftp_put_u64(job->out, SFTP_DATA_MAX); /* of READ */
    sftp_put_u64(job->out, SFTP_DATA_MAX); /* of WRITE */
    sftp_put_u64(job->out, SFTP_HANDLES_MAX);
    sftp_reply_end(job->out, begin);
    return 1;
}

/* --- requests --- */

static const struct {
    const char *name; /* of the row in sftp_wire.c */
    sftp_serve_fn *serve;
} table[] = {
    {"INIT", serve_init},
    {"OPEN", sftp_serve_open},
    {"CLOSE", serve_close},
    {"READ", sftp_serve_read},
    {"WRITE", sftp_serve_write},
    {"LSTAT", sftp_serve_lstat},
    {"FSTAT", sftp_serve_fstat},
    {"SETSTAT", sftp_serve_setstat},
    {"FSETSTAT", sftp_serve_fsetstat},
    {"OPENDIR", sftp_serve_opendir},
    {"READDIR", sftp_serve_readdir},
    {"REMOVE", sftp_serve_remove},
    {"MKDIR", sftp_serve_mkdir},
    {"RMDIR", sftp_serve_rmdir},
    {"REALPATH", sftp_serve_realpath},
    {"STAT", sftp_serve_stat},
    {"RENAME", sftp_serve_rename},
    {"READLINK", sftp_serve_readlink},
    {"SYMLINK", sftp_serve_symlink},
    {"posix-rename@openssh.com", sftp_serve_posix_rename},
    {"statvfs@openssh.com", sftp_serve_statvfs},
    {"fstatvfs@openssh.com", sftp_serve_fstatvfs},
    {"hardlink@openssh.com", sftp_serve_hardlink},
    {"fsync@openssh.com", sftp_serve_fsync},
    {"lsetstat@openssh.com", sftp_serve_lsetstat},
    {"limits@openssh.com", serve_limits},
};

static sftp_serve_fn *find(const struct sftp_op *op)
{
    for (size_t i = 0; op && i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].name, op->name) == 0) {
            return table[i].serve;
        }
    }
    return NULL;
}

static int serve(struct sftp_job *job)
{
    sftp_serve_fn *fn = find(job->req->op);

    if (!fn) {
        return -EOPNOTSUPP;
    }
    return job->req->op->changes && !tree_writable(job->server->tree) ? -EROFS : fn(job);
}

int sftp_server_message(struct sftp_server *server, const void *data, size_t len, struct buf *out)
{
    struct sftp_job job = {.server = server, .req = &server->request, .out = out};
    size_t begin = out->len;
    int r = sftp_request_parse(data, len, &server->request);

    if (!server->begun && server->request.type != SFTP_INIT) {
        return -EBADMSG;
    }
    r = r < 0 ? r : serve(&job);
    if (r <= 0) {
        buf_truncate(out, begin); /* what was begun of another answer */
        sftp_reply_error(out, server->request.id, r);
    }
    return 0;
}

/* --- life --- */

struct sftp_server *sftp_server_new(const struct tree *tree, bool follow)
{
    struct sftp_server *server = xnew(struct sftp_server);

    server->tree = tree;
    server->owners = owners_new(tree_root(tree));
    server->follow = follow;
    return server;
}

void sftp_server_restart(struct sftp_server *server)
{
    for (size_t i = 0; i < server->used; i++) {
        if (is_open(&server->handles[i])) {
            close_handle(server, &server->handles[i]);
        }
    }
    server->begun = false;
}

void sftp_server_free(struct sftp_server *server)
{
    if (server) {
        sftp_server_restart(server);
        owners_free(server->owners);
        free(server);
    }
}

void sftp_server_set_owner(struct sftp_server *server, uid_t uid, gid_t gid)
{
    server->uid = uid;
    server->gid = gid;
}

size_t sftp_server_open_count(const struct sftp_server *server)
{
    return server->open;
}
