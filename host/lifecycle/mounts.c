/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/mounts.h"

#include "api/client.h"
#include "base/alloc.h"
#include "base/log.h"
#include "config/mounts.h"
#include "instance/instance.h"
#include "instance/layout.h"
#include "instance/store.h"
#include "lifecycle/edit.h"
#include "lifecycle/lock.h"
#include "mount/mount.h"

#define RESOURCE   "/v1/mounts"
#define TIMEOUT_MS 60000 /* a guest may have much to do */

struct change {
    const struct lifecycle_mounts_options *options;
    struct instance *inst;
    int lock;
};

static void change_done(struct change *c)
{
    instance_free(c->inst);
    fd_close(c->lock);
}
SCOPED_VAL(struct change, change_done)

static bool runs(const struct instance *inst)
{
    return inst->status == INSTANCE_STATUS_RUNNING;
}

/* *@ret_mounts: all, as they are then. */
static int ask(const struct instance *inst, const char *method, jv body, jv *ret_mounts,
               struct error *err)
{
    scoped(free) char *path = instance_path(inst, LAYOUT_HA_SOCK);
    jv answer;
    int r = api_call(path, method, RESOURCE, body, TIMEOUT_MS, &answer, err);

    if (r == 0) {
        *ret_mounts = jv_object_get(answer, jv_string("mounts"));
    }
    return r;
}

static int need_config(const struct instance *inst, struct error *err)
{
    scoped(free) char *text = NULL;

    if (inst->config) {
        return 0;
    }
    text = strv_join(&inst->errors, "\n");
    return error_set(err, EINVAL, "instance `%s`: %s", inst->name, text);
}

/* --- list --- */

static jv of_config(const struct config *config)
{
    jv list = jv_array();

    for (size_t i = 0; i < config->mount_count; i++) {
        const struct config_mount *mount = &config->mounts[i];
        const char *type = mount_type_name(mount_choose(mount, config->mount_type).type);

        list = jv_array_append(list,
                               JV_OBJECT(jv_string("location"), jv_string(mount->location),
                                         jv_string("mountPoint"), jv_string(mount->mount_point),
                                         jv_string("type"), jv_string(type), jv_string("writable"),
                                         jv_bool(mount->writable), jv_string("state"),
                                         jv_string("stopped"), jv_string("reason"), jv_string("")));
    }
    return list;
}

int lifecycle_mounts_list(const char *lima_home, const char *name, jv *ret, struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    scoped(free) char *path = NULL;
    jv answer;
    int r = instance_open(lima_home, name, &inst, err);

    r = r < 0 ? r : need_config(inst, err);
    if (r < 0) {
        return r;
    }
    if (!runs(inst)) {
        *ret = of_config(inst->config);
        return 0;
    }
    path = instance_path(inst, LAYOUT_HA_SOCK);
    r = api_get(path, RESOURCE, TIMEOUT_MS, &answer, err);
    if (r == 0) {
        *ret = jv_object_get(answer, jv_string("mounts"));
    }
    return r;
}

/* --- changes --- */

static int begin(struct change *c, struct error *err)
{
    const struct lifecycle_mounts_options *options = c->options;
    scoped(free) char *dir = instance_dir(options->lima_home, options->name);
    int r = lifecycle_lock(dir, options->name, &c->lock, err);

    r = r < 0 ? r : instance_open(options->lima_home, options->name, &c->inst, err);
    r = r < 0 ? r : need_config(c->inst, err);
    if (r == 0 && options->temporary && !runs(c->inst)) {
        error_set(err, ESRCH, "instance `%s` is not running, it is `%s`", c->inst->name,
                  instance_status_name(c->inst->status));
        return error_hint(err, "run `limactl start %s`", c->inst->name);
    }
    return r;
}

/* The file's text after @expression; checked as a whole. */
static int edited(const struct change *c, const char *expression, char **ret, struct error *err)
{
    scoped(strv_done) struct strv expressions = STRV_INIT;

    strv_add(&expressions, expression);
    return lifecycle_edit_check(c->options->lima_home, c->options->name, &expressions, ret, err);
}

static int save(const struct change *c, const char *text, struct error *err)
{
    return text ? lifecycle_edit_save(c->options->lima_home, c->options->name, text, err) : 0;
}

static const struct config_mount *find(const struct config *config, const char *mount_point)
{
    for (size_t i = 0; i < config->mount_count; i++) {
        if (str_eq(config->mounts[i].mount_point, mount_point)) {
            return &config->mounts[i];
        }
    }
    return NULL;
}

static bool has_text(jv object, const char *key, const char *text)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    return jv_get_kind(value) == JV_KIND_STRING && str_eq(jv_string_value(value), text);
}

/* The host agent's log has the cause. */
static void say_other_type(const struct change *c, const struct config_mount *mount, jv mounts)
{
    enum config_mount_type type = mount_choose(mount, c->inst->config->mount_type).type;

    if (jv_get_kind(mounts) != JV_KIND_ARRAY) {
        return;
    }
    jv_array_foreach(mounts, i, item)
    {
        if (has_text(item, "mountPoint", mount->mount_point) &&
            !has_text(item, "type", mount_type_name(type))) {
            log_warn(
                "'%s' cannot be mounted by %s while the instance runs (see ha.stderr.log): the "
                "guest agent mounts it, ignoring the type",
                mount->mount_point, mount_type_name(type));
        }
        jv_free(item);
    }
}

int lifecycle_mounts_add(const struct lifecycle_mounts_options *options, jv take_mount,
                         struct error *err)
{
    scoped(value_done) jv mount = take_mount;
    scoped(change_done) struct change c = {.options = options, .lock = -1};
    scoped(config_mount_done) struct config_mount parsed = {0};
    scoped(value_done) jv mounts = jv_invalid();
    scoped(free) char *json = NULL;
    scoped(free) char *expression = NULL;
    scoped(free) char *text = NULL;
    int r = begin(&c, err);

    r = r < 0
            ? r
            : config_mount_parse(jv_copy(mount), options->lima_home, c.inst->config, &parsed, err);
    if (r < 0) {
        return r;
    }
    if (find(c.inst->config, parsed.mount_point) && !options->temporary) {
        return error_set(err, EEXIST, "there is a mount at '%s' already", parsed.mount_point);
    }
    json = value_to_json(jv_copy(mount), false);
    expression = xasprintf(".mounts += [%s]", json);
    if (!options->temporary) {
        r = edited(&c, expression, &text, err);
    }
    if (r == 0 && runs(c.inst)) {
        r = ask(c.inst, "POST",
                JV_OBJECT(jv_string("mount"), jv_copy(mount), jv_string("temporary"),
                          jv_bool(options->temporary)),
                &mounts, err);
        if (r == 0) {
            say_other_type(&c, &parsed, mounts);
        }
    }
    return r < 0 ? r : save(&c, text, err);
}

/* Of the file; what stands in the layers around it comes back with the next start. */
static int text_without(const struct change *c, const char *mount_point, char **ret,
                        struct error *err)
{
    scoped(free) char *quoted = value_to_json(jv_string(mount_point), false);
    scoped(free) char *expression = xasprintf(
        "if any(.mounts // [] | .[]; (.mountPoint // .location) == %s) then .mounts |= "
        "map(select((.mountPoint // .location) != %s)) | if .mounts == [] then del(.mounts) else . "
        "end else . end",
        quoted, quoted);

    return edited(c, expression, ret, err);
}

int lifecycle_mounts_remove(const struct lifecycle_mounts_options *options, const char *mount_point,
                            struct error *err)
{
    scoped(change_done) struct change c = {.options = options, .lock = -1};
    scoped(value_done) jv mounts = jv_invalid();
    scoped(free) char *text = NULL;
    bool known;
    int r = begin(&c, err);

    if (r < 0) {
        return r;
    }
    known = find(c.inst->config, mount_point);
    if (known && !options->temporary) {
        r = text_without(&c, mount_point, &text, err);
    }
    if (r == 0 && runs(c.inst)) {
        r = ask(c.inst, "DELETE",
                JV_OBJECT(jv_string("mountPoint"), jv_string(mount_point), jv_string("force"),
                          jv_bool(options->force)),
                &mounts, err);
        r = r == -ENOENT && known ? (error_done(err), 0) : r;
    } else if (r == 0 && !known) {
        r = error_set(err, ENOENT, "instance `%s` has no mount at '%s'", options->name,
                      mount_point);
    }
    return r < 0 ? r : save(&c, text, err);
}
