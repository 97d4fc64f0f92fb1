/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount of the host is one of:
 *
 *   MOUNTING    a child makes the mount point and mounts; the call waits for its answer
 *   MOUNTED     of FUSE: with a stream, or waiting for one; by sshfs: it runs; of others: known
 *               for Unmount
 *   UNMOUNTING  a child unmounts; the Unmount call, if any, waits for its answer
 *
 * A call for a mount that is on its way to another state is refused with EBUSY.
 */
#include "mounts_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "fuse.h"
#include "keep.h"
#include "login.h"
#include "mountpoint.h"
#include "sshfs.h"
#include "wire.h"

#define WORDS_MAX   256
#define WAIT_MS_MAX 60000

/* --- the list --- */

struct mount *mounts_find(const struct mounts *mounts, const char *tag)
{
    struct mount *mount = mounts->list;

    while (mount && strcmp(mount->tag, tag) != 0) {
        mount = mount->next;
    }
    return mount;
}

void mounts_free_one(struct mount *mount)
{
    struct mount **link = &mount->mounts->list;

    while (*link != mount) {
        link = &(*link)->next;
    }
    *link = mount->next;
    mount->mounts->count--;
    if (mount->child) {
        child_forget(mount->child);
    }
    fuse_free(mount->fuse);
    sshfs_free(mount->sshfs);
    buf_done(&mount->words);
    free(mount->tag);
    free(mount->path);
    free(mount->options);
    free(mount);
}

struct mount *mounts_new_one(struct mounts *mounts, const char *tag, const char *path)
{
    struct mount *mount = xnew(struct mount);

    *mount = (struct mount){.mounts = mounts,
                            .next = mounts->list,
                            .number = ++mounts->next_number,
                            .tag = xstrdup(tag),
                            .path = xstrdup(path),
                            .words = BUF_INIT_CAP(WORDS_MAX)};
    mounts->list = mount;
    mounts->count++;
    return mount;
}

/* --- a call that waits for a child --- */

static void on_waiting_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_consumed(stream, len);
}

static void on_waiting_event(struct mux_stream *stream, void *arg)
{
}

static void on_waiting_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct mount *mount = arg;

    mount->stream = NULL;
}

static const struct mux_stream_ops waiting_ops = {
    .data = on_waiting_data,
    .fin = on_waiting_event,
    .writable = on_waiting_event,
    .closed = on_waiting_closed,
};

static void wait_for_child(struct mount *mount, const struct rpc_call *call)
{
    mount->stream = call->stream;
    mux_stream_consumed(call->stream, call->rest_len);
    mux_stream_set_ops(call->stream, &waiting_ops, mount);
}

static void on_child_output(const void *data, size_t len, void *arg)
{
    struct mount *mount = arg;

    (void)buf_put(&mount->words, data, MIN(len, WORDS_MAX - mount->words.len));
}

static int start_child(struct mount *mount, int (*run)(void *), void (*exited)(int, void *),
                       struct error *err)
{
    /* run() gets the same @arg: the mount, whose first use is its point. */
    return child_start(mount->mounts->options.children,
                       &(struct child_options){.run = run,
                                               .keep_fd = mount->point.fuse_fd,
                                               .output = on_child_output,
                                               .quiet = true,
                                               .exited = exited,
                                               .arg = mount},
                       &mount->child, err);
}

static int run_mount(void *arg)
{
    struct mount *mount = arg;

    return mountpoint_mount(&mount->point);
}

static int run_unmount(void *arg)
{
    struct mount *mount = arg;

    return mountpoint_unmount(&mount->point);
}

/* --- answers --- */

/* False: no room; the stream is still the caller's. */
bool mounts_reply(const struct mount *mount, struct mux_stream *stream, bool resumed)
{
    lima_guest_v1_Mounted message = lima_guest_v1_Mounted_init_zero;
    uint8_t bytes[WIRE_MAX];
    size_t len;

    message.resumed = resumed;
    message.uid = mount->uid;
    message.gid = mount->gid;
    message.replays = mount->fuse != NULL;
    len = wire_encode(lima_guest_v1_Mounted_fields, &message, bytes);
    return rpc_reply(stream, 0, NULL) && mux_stream_write_all(stream, bytes, len);
}

/* The stream goes on as the mount's own, or ends. */
static void answer_mounted(struct mount *mount, struct mux_stream *stream, bool resumed)
{
    if (!mounts_reply(mount, stream, resumed)) {
        mux_stream_reset(stream, MUX_RESET_REFUSED);
    } else if (mount->fuse) {
        fuse_attach(mount->fuse, stream);
    } else {
        rpc_end(stream, NULL, NULL);
    }
}

static void refuse(struct mux_stream *stream, int status, const struct buf *words)
{
    if (stream) {
        rpc_refuse(stream, status, words->len ? words->data : NULL);
    }
}

/* --- mounting --- */

void mounts_on_fuse_ended(struct fuse *fuse, void *arg)
{
    struct mount *mount = arg;

    log_info("'%s' was unmounted", mount->path);
    mounts_keep(mount, mounts_remove_kept);
    if (mount->child) { /* it is our doing, and goes on below */
        fuse_free(mount->fuse);
        mount->fuse = NULL;
        return;
    }
    mounts_free_one(mount);
}

static void on_mount_done(int status, void *arg)
{
    struct mount *mount = arg;
    struct mux_stream *stream = mount->stream;

    mount->child = NULL;
    mount->stream = NULL;
    if (status) {
        log_warn("mounting '%s' failed: %s", mount->path, buf_str(&mount->words));
        refuse(stream, status, &mount->words);
        mounts_free_one(mount);
        return;
    }
    log_info("'%s' is mounted, from the host by %s", mount->path,
             mount->fuse ? "fuse" : mount->type);
    mount->state = MOUNTS_STATE_MOUNTED;
    if (mount->fuse) {
        mounts_keep(mount, keep_put);
    }
    if (stream) {
        answer_mounted(mount, stream, false);
    }
}

/* The instance's user; before it exists, or without one, root. */
void mounts_find_user(struct mount *mount, const char *asked)
{
    const struct mounts_options *options = &mount->mounts->options;
    const char *name = *asked ? asked : options->user ? options->user(options->arg) : "";
    scoped(system_user_done) struct system_user user = {0};

    if (name && *name && login_find(name, &user)) {
        mount->uid = user.uid;
        mount->gid = user.gid;
    }
}

static int read_request(const struct rpc_call *call, lima_guest_v1_MountRequest *ret,
                        char **ret_path, struct error *err)
{
    if (!wire_decode(call->request, call->request_len, lima_guest_v1_MountRequest_fields, ret)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    if (!*ret->tag || ret->mount_point.size < 2 || ret->mount_point.bytes[0] != '/' ||
        memchr(ret->mount_point.bytes, '\0', ret->mount_point.size)) {
        return error_set(err, EINVAL, "the request has no tag, or no absolute mount point");
    }
    if (ret->kind == lima_guest_v1_MountRequest_Kind_AGENT && ret->id.size != FUSELOG_ID_LEN) {
        return error_set(err, EINVAL, "the request has no id of %d bytes", FUSELOG_ID_LEN);
    }
    *ret_path = xstrndup((const char *)ret->mount_point.bytes, ret->mount_point.size);
    return 0;
}

static int open_fuse(struct mount *mount, const lima_guest_v1_MountRequest *request,
                     struct error *err)
{
    const struct fuse_options options = {.loop = mount->mounts->options.loop,
                                         .children = mount->mounts->options.children,
                                         .ended = mounts_on_fuse_ended,
                                         .arg = mount};
    scoped(free) struct fuselog_mount *about = xnew(struct fuselog_mount);

    memcpy(about->id, request->id.bytes, sizeof(about->id));
    snprintf(about->tag, sizeof(about->tag), "%s", mount->tag);
    snprintf(about->point, sizeof(about->point), "%s", mount->path);
    return fuse_new(&options, about, &mount->fuse, err);
}

static const char *type_of(const lima_guest_v1_MountRequest *request)
{
    return request->kind == lima_guest_v1_MountRequest_Kind_VIRTIOFS ? "virtiofs"
           : request->kind == lima_guest_v1_MountRequest_Kind_SSHFS  ? SSHFS_TYPE
           : request->kind == lima_guest_v1_MountRequest_Kind_AGENT  ? MOUNTPOINT_FUSE
                                                                     : "9p";
}

static int begin_mount(struct mounts *mounts, const struct rpc_call *call,
                       const lima_guest_v1_MountRequest *request, const char *path,
                       const struct mountpoint *how, struct error *err)
{
    struct mount *mount = mounts_new_one(mounts, request->tag, path);
    int r = 0;

    mount->options = xstrdup(request->options);
    mount->type = type_of(request);
    mounts_find_user(mount, request->user);
    if (request->kind == lima_guest_v1_MountRequest_Kind_AGENT) {
        r = open_fuse(mount, request, err);
    }
    mount->point = (struct mountpoint){.source = mount->tag,
                                       .path = mount->path,
                                       .type = mount->type,
                                       .options = mount->options,
                                       .fuse_fd = mount->fuse ? fuse_fd(mount->fuse) : -1,
                                       .read_only = !request->writable,
                                       .replays = request->replays,
                                       .wait_ms = MIN(request->wait_ms, WAIT_MS_MAX),
                                       .replaces = how->replaces,
                                       .covers = how->covers};
    r = r < 0 ? r : start_child(mount, run_mount, on_mount_done, err);
    if (r < 0) {
        mounts_free_one(mount);
        return r;
    }
    wait_for_child(mount, call);
    return 0;
}

static bool has_device(const lima_guest_v1_MountRequest *request)
{
    return request->kind == lima_guest_v1_MountRequest_Kind_VIRTIO_9P ||
           request->kind == lima_guest_v1_MountRequest_Kind_VIRTIOFS;
}

static bool is_same(const struct mount *mount, const lima_guest_v1_MountRequest *request,
                    const char *path)
{
    if (strcmp(mount->path, path) != 0 || mount->sshfs) {
        return false;
    }
    return !mount->fuse
               ? has_device(request)
               : request->kind == lima_guest_v1_MountRequest_Kind_AGENT &&
                     memcmp(fuse_mount(mount->fuse)->id, request->id.bytes, FUSELOG_ID_LEN) == 0;
}

static bool is_there(const struct mount *mount)
{
    dev_t device;

    return mount->fuse ? mountpoint_exists(mount->tag)
                       : mountpoint_find_type(mount->type, mount->tag, &device);
}

/* Its server is not there any more: the one that comes in its place unmounts it. */
static void drop_replaced(struct mount *mount)
{
    log_info("'%s' is mounted anew", mount->path);
    if (mount->fuse) {
        mounts_keep(mount, mounts_remove_kept);
    }
    mounts_free_one(mount);
}

/* --- all kinds --- */

/* With a device, one that an earlier process of ours has made, or the guest itself. */
static void take_up(struct mounts *mounts, const struct rpc_call *call,
                    const lima_guest_v1_MountRequest *request, const char *path)
{
    struct mount *mount = mounts_new_one(mounts, request->tag, path);

    mount->type = type_of(request);
    mount->state = MOUNTS_STATE_MOUNTED;
    mounts_find_user(mount, request->user);
    mux_stream_consumed(call->stream, call->rest_len);
    answer_mounted(mount, call->stream, true);
}

int mounts_serve_mount(const struct rpc_call *call, void *arg, struct error *err)
{
    struct mounts *mounts = arg;
    scoped(free) lima_guest_v1_MountRequest *request = xnew(lima_guest_v1_MountRequest);
    scoped(free) char *path = NULL;
    struct mount *mount;
    struct mountpoint point = {0};
    int r = read_request(call, request, &path, err);

    if (r < 0) {
        return r;
    }
    mount = mounts_find(mounts, request->tag);
    if (mount && mount->state != MOUNTS_STATE_MOUNTED) {
        return error_set(err, EBUSY, "'%s' is being %s", mount->path,
                         mount->state == MOUNTS_STATE_MOUNTING ? "mounted" : "unmounted");
    }
    if (mount && is_same(mount, request, path) && is_there(mount)) {
        mounts_find_user(mount, request->user);
        mux_stream_consumed(call->stream, call->rest_len);
        answer_mounted(mount, call->stream, true);
        return 0;
    }
    if (!mount && has_device(request) && mountpoint_is(type_of(request), request->tag, path)) {
        take_up(mounts, call, request, path);
        return 0;
    }
    if (!mount && request->kind == lima_guest_v1_MountRequest_Kind_AGENT) {
        point.replaces = mountpoint_is(MOUNTPOINT_FUSE, request->tag, path); /* nobody serves it */
    }
    if (mount && strcmp(mount->path, path) == 0) {
        point.replaces = mount->fuse || mount->sshfs;
        point.covers = !point.replaces && is_there(mount);
    }
    if (mount) {
        drop_replaced(mount);
    }
    if (mounts->count >= MOUNTS_MAX) {
        return error_set(err, EUSERS, "there are %d mounts already", MOUNTS_MAX);
    }
    return request->kind == lima_guest_v1_MountRequest_Kind_SSHFS
               ? mounts_begin_sshfs(mounts, call, request, path, point.replaces, err)
               : begin_mount(mounts, call, request, path, &point, err);
}

/* --- unmounting --- */

static void on_unmount_done(int status, void *arg)
{
    struct mount *mount = arg;
    struct mux_stream *stream = mount->stream;

    mount->child = NULL;
    mount->stream = NULL;
    if (status) {
        refuse(stream, status, &mount->words);
        mount->state = MOUNTS_STATE_MOUNTED;
        buf_drop(&mount->words, mount->words.len);
        if (!mount->fuse && !mount->sshfs && strcmp(mount->type, SSHFS_TYPE) == 0) {
            mounts_free_one(mount); /* it has ended meanwhile */
        }
        return;
    }
    if (stream) {
        rpc_answer(stream, NULL, NULL);
    }
    if (mount->fuse) {
        mounts_keep(mount, mounts_remove_kept);
    }
    log_info("'%s' is unmounted", mount->path);
    if (mount->sshfs) {
        sshfs_release(steal(mount->sshfs));
    }
    mounts_free_one(mount);
}

int mounts_serve_unmount(const struct rpc_call *call, void *arg, struct error *err)
{
    struct mounts *mounts = arg;
    lima_guest_v1_UnmountRequest request = lima_guest_v1_UnmountRequest_init_zero;
    struct mount *mount;
    int r;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_UnmountRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    mount = mounts_find(mounts, request.tag);
    if (!mount || !*request.tag) {
        return error_set(err, ENOENT, "no such mount");
    }
    if (mount->state != MOUNTS_STATE_MOUNTED) {
        return error_set(err, EBUSY, "'%s' is being %s", mount->path,
                         mount->state == MOUNTS_STATE_MOUNTING ? "mounted" : "unmounted");
    }
    mount->point.source = mount->tag;
    mount->point.path = mount->path;
    mount->point.type = mount->type;
    mount->point.lazy = request.lazy;
    mount->point.fuse_fd = -1;
    r = start_child(mount, run_unmount, on_unmount_done, err);
    if (r < 0) {
        return r;
    }
    mount->state = MOUNTS_STATE_UNMOUNTING;
    wait_for_child(mount, call);
    return 0;
}

bool mounts_find_device(const struct mounts *mounts, const char *tag, struct mounts_device *ret)
{
    const struct mount *mount = mounts_find(mounts, tag);

    if (!mount || mount->fuse || mount->state != MOUNTS_STATE_MOUNTED) {
        return false;
    }
    *ret = (struct mounts_device){mount->tag, mount->path, mount->type};
    return true;
}

int mounts_serve_settled(const struct rpc_call *call, void *arg, struct error *err)
{
    struct mounts *mounts = arg;

    mux_stream_consumed(call->stream, call->rest_len);
    rpc_answer(call->stream, NULL, NULL);
    if (mounts->options.settled) {
        mounts->options.settled(mounts->options.arg);
    }
    return 0;
}

/* --- life --- */

static void on_table_changed(int fd, short revents, void *arg)
{
    struct mounts *mounts = arg;

    for (struct mount *mount = mounts->list; mount; mount = mount->next) {
        if (mount->fuse && mount->state == MOUNTS_STATE_MOUNTED && fuse_is_held(mount->fuse) &&
            !mountpoint_exists(mount->tag)) {
            fuse_let_go(mount->fuse);
        }
    }
}

static void watch_table(struct mounts *mounts)
{
    mounts->table_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (mounts->table_fd >= 0) {
        mounts->table = loop_watch_new(mounts->options.loop, mounts->table_fd, POLLPRI,
                                       on_table_changed, mounts);
    }
}

struct mounts *mounts_new(const struct mounts_options *options)
{
    struct mounts *mounts = xnew(struct mounts);

    mounts->options = *options;
    watch_table(mounts);
    mounts_resume_kept(mounts);
    return mounts;
}

void mounts_free(struct mounts *mounts)
{
    if (!mounts) {
        return;
    }
    loop_watch_free(mounts->table);
    fd_close(mounts->table_fd);
    while (mounts->list) {
        struct mount *mount = mounts->list;

        if (mount->stream) {
            mux_stream_reset(mount->stream, MUX_RESET_CANCEL);
        }
        mounts_free_one(mount);
    }
    free(mounts);
}

void mounts_hand_over(struct mounts *mounts)
{
    for (struct mount *mount = mounts->list; mount; mount = mount->next) {
        if (mount->fuse && mount->state == MOUNTS_STATE_MOUNTED) {
            mounts_keep(mount, keep_for_exec);
        }
    }
}
