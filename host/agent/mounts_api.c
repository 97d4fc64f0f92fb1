/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked about mounts at ha.sock. */
#include "agent/mounts_internal.h"

#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "config/mounts.h"
#include "mount/mount.h"
#include "util/strv.h"

#define ALIVE_MS 2000 /* so long a guest may take for a sign of life, under emulation too */

/* --- telling --- */

/* @silent: the guest does not answer, so nothing that it serves does. */
static jv describe(const struct mount *mount, bool silent)
{
    bool stuck = silent && mount->state == MOUNTS_STATE_MOUNTED;
    const char *reason = stuck ? "the guest does not answer" : str_or_empty(mount->reason);
    enum mounts_state state = stuck ? MOUNTS_STATE_WAITING : mount->state;

    return JV_OBJECT(jv_string("location"), jv_string(mount->config.location),
                     jv_string("mountPoint"), jv_string(mount->config.mount_point),
                     jv_string("type"), jv_string(mount_type_name(mount->type)),
                     jv_string("writable"), jv_bool(mount->config.writable), jv_string("state"),
                     jv_string(mounts_state_names[state]), jv_string("reason"), jv_string(reason),
                     jv_string("tag"), jv_string(mount->tag), jv_string("temporary"),
                     jv_bool(mount->temporary));
}

static jv describe_all(const struct mounts *mounts, bool silent)
{
    jv list = jv_array();

    for (const struct mount *mount = mounts->list; mount; mount = mount->next) {
        list = jv_array_append(list, describe(mount, silent));
    }
    return JV_OBJECT(jv_string("mounts"), list);
}

jv mounts_failed(const struct mounts *mounts)
{
    jv list = jv_array();

    for (const struct mount *mount = mounts->list; mount; mount = mount->next) {
        if (mount->state == MOUNTS_STATE_FAILED) {
            list = jv_array_append(list, describe(mount, false));
        }
    }
    return list;
}

void mounts_answer(const struct mounts *mounts, struct api_exchange *take_exchange)
{
    api_answer(take_exchange, describe_all(mounts, false));
}

/* Somebody who wants to know, while the guest is asked whether it is there. */
struct mounts_query {
    struct mounts *mounts;
    struct mounts_query *next;
    struct api_exchange *exchange;
    struct peer_ping *ping;
};

static struct api_exchange *query_end(struct mounts_query *query)
{
    struct api_exchange *exchange = query->exchange;
    struct mounts_query **link = &query->mounts->queries;

    while (*link != query) {
        link = &(*link)->next;
    }
    *link = query->next;
    free(query);
    return exchange;
}

static void on_guest_alive(bool answered, void *arg)
{
    struct mounts_query *query = arg;
    const struct mounts *mounts = query->mounts;

    api_answer(query_end(query), describe_all(mounts, !answered));
}

void mounts_get(struct mounts *mounts, struct api_exchange *take_exchange)
{
    struct mounts_query *query;

    if (!mounts->guest_ready || !mounts->list) {
        mounts_answer(mounts, take_exchange);
        return;
    }
    query = xnew(struct mounts_query);
    *query =
        (struct mounts_query){.mounts = mounts, .next = mounts->queries, .exchange = take_exchange};
    mounts->queries = query;
    query->ping = peer_ping(mounts->options.peer, ALIVE_MS, on_guest_alive, query);
}

void mounts_drop_queries(struct mounts *mounts)
{
    while (mounts->queries) {
        peer_ping_cancel(mounts->queries->ping);
        mounts_answer(mounts, query_end(mounts->queries));
    }
}

void mounts_failures(const struct mounts *mounts, struct strv *ret)
{
    for (const struct mount *mount = mounts->list; mount; mount = mount->next) {
        if (mount->state == MOUNTS_STATE_FAILED) {
            strv_addf(ret, "'%s' is not mounted at '%s': %s", mount->config.location,
                      mount->config.mount_point, mount->reason);
        }
    }
}

void mounts_refuse(struct api_exchange *take_exchange, int code, const char *why)
{
    scoped(error_done) struct error err = ERROR_INIT;

    error_set(&err, code, "%s", why);
    api_refuse(take_exchange, &err);
}

/* --- changes --- */

static struct mount *find(const struct mounts *mounts, const char *mount_point)
{
    struct mount *mount = mounts->list;

    while (mount && strcmp(mount->config.mount_point, mount_point) != 0) {
        mount = mount->next;
    }
    return mount;
}

static bool is_flag(jv object, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    return jv_get_kind(value) == JV_KIND_TRUE;
}

static int read_post(const struct mounts *mounts, jv body, struct config_mount *ret,
                     struct error *err)
{
    jv mount = jv_object_get(jv_copy(body), jv_string("mount"));

    if (jv_get_kind(mount) != JV_KIND_OBJECT) {
        jv_free(mount);
        return error_set(err, EINVAL, "the request's 'mount' must be a map");
    }
    if (!mounts->guest_ready) {
        jv_free(mount);
        return error_set(err, EAGAIN, "the guest agent does not speak yet");
    }
    if (mounts->count >= MOUNTS_MAX) {
        jv_free(mount);
        return error_set(err, EUSERS, "there are %d mounts already", MOUNTS_MAX);
    }
    return config_mount_parse(mount, mounts->options.lima_home, mounts->options.config, ret, err);
}

void mounts_post(struct mounts *mounts, struct api_exchange *take_exchange, jv take_body)
{
    scoped(value_done) jv body = take_body;
    scoped(config_mount_done) struct config_mount config = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    struct mount *mount;
    int r = read_post(mounts, body, &config, &err);

    if (r == 0 && find(mounts, config.mount_point)) {
        r = error_set(&err, EEXIST, "there is a mount at '%s' already", config.mount_point);
    }
    if (r < 0) {
        api_refuse(take_exchange, &err);
        return;
    }
    mount = mounts_add(mounts, &config, is_flag(body, "temporary"));
    if (mount->type == CONFIG_MOUNT_9P) {
        mounts_fall_back(mount, "QEMU cannot be given one while it runs");
    }
    mount->exchange = take_exchange;
    mounts_step(mounts);
}

void mounts_end_removal(struct mount *mount)
{
    struct mounts *mounts = mount->mounts;
    struct api_exchange *exchange;

    if (mount->server) {
        mount_server_stop(mount->server); /* and then it is over */
        return;
    }
    exchange = steal(mount->exchange);
    mounts_free_one(mount);
    if (exchange) {
        mounts_answer(mounts, exchange);
    }
}

/* The guest has unmounted it. */
static void end_removal(struct mount *mount)
{
    if (!mounts_take_device_out(mount)) {
        mounts_end_removal(mount);
    }
}

static void on_unmount_answer(int r, const char *text, const struct peer_mounted *about,
                              struct mux_stream *stream, void *arg)
{
    struct mount *mount = arg;
    struct api_exchange *exchange;

    mount->call = NULL;
    if (r < 0 && r != -ENOENT && r != -ENOTCONN) {
        exchange = steal(mount->exchange);
        mount->state = MOUNTS_STATE_MOUNTED;
        if (mount->watch) {
            mount_watch_start(mount->watch);
        }
        mounts_check_carriers(mount);
        mounts_refuse(exchange, -r, text ? text : strerror(-r));
        return;
    }
    end_removal(mount);
}

void mounts_delete(struct mounts *mounts, struct api_exchange *take_exchange, jv take_body)
{
    scoped(value_done) jv body = take_body;
    scoped(value_done) jv point = jv_object_get(jv_copy(body), jv_string("mountPoint"));
    bool is_text = jv_get_kind(point) == JV_KIND_STRING;
    struct mount *mount = is_text ? find(mounts, jv_string_value(point)) : NULL;

    if (!mount) {
        mounts_refuse(take_exchange, is_text ? ENOENT : EINVAL,
                      is_text ? "there is no mount at this mount point"
                              : "'mountPoint' must be a text");
        return;
    }
    if (mount->exchange || mount->state == MOUNTS_STATE_MOUNTING ||
        mount->state == MOUNTS_STATE_SERVING) {
        mounts_refuse(take_exchange, EBUSY, "the mount is being changed already");
        return;
    }
    mount->exchange = take_exchange;
    mount_watch_stop(mount->watch);
    if (mount->state == MOUNTS_STATE_MOUNTED) {
        mount->call = peer_mount_remove(mounts->options.peer, mount->tag, is_flag(body, "force"),
                                        on_unmount_answer, mount);
    }
    mount->state = MOUNTS_STATE_REMOVING;
    if (!mount->call) {
        end_removal(mount);
    }
}
