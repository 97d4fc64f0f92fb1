/* SPDX-License-Identifier: Apache-2.0 */
#include "config/mounts.h"

#include <string.h>
#include "base/alloc.h"
#include "config/defaults.h"
#include "config/load.h"
#include "config/schema.h"
#include "util/path.h"

static const char *const option_maps[] = {"sshfs", "9p", "virtiofs"};

static const char *text_at(jv object, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    return jv_get_kind(value) == JV_KIND_STRING ? jv_string_value(value) : ""; /* the tree's own */
}

/* "~" and "a/../b" away; a relative path stays one, for validate to refuse. */
static jv clean_location(jv mount, const struct config_context *context)
{
    const char *location = text_at(mount, "location");
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = NULL;

    if (!*location) {
        return mount;
    }
    if (*location == '~' && path_expand(location, &path, &err) < 0) {
        config_report_error(context->report, text_at(mount, SCHEMA_PLACE), "'mounts.location': %s",
                            error_text(&err));
        return mount;
    }
    if (!path) {
        path = path_clean(location);
    }
    return jv_object_set(mount, jv_string("location"), jv_string(path));
}

static jv set_point(jv mount)
{
    if (*text_at(mount, "mountPoint")) {
        return mount;
    }
    return jv_object_set(mount, jv_string("mountPoint"), jv_string(text_at(mount, "location")));
}

/* What @high sets counts; options one by one. */
static jv override(jv low, jv high)
{
    static const char *const plain[] = {"writable", "type"};

    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        if (jv_object_has(jv_copy(high), jv_string(plain[i]))) {
            low = jv_object_set(low, jv_string(plain[i]),
                                jv_object_get(jv_copy(high), jv_string(plain[i])));
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(option_maps); i++) {
        jv options = jv_object_get(jv_copy(high), jv_string(option_maps[i]));
        jv older = jv_object_get(jv_copy(low), jv_string(option_maps[i]));

        if (jv_is_valid(options)) {
            low = jv_object_set(low, jv_string(option_maps[i]),
                                jv_is_valid(older) ? jv_object_merge(older, options) : options);
        } else {
            jv_free(older);
            jv_free(options);
        }
    }
    jv_free(high);
    return low;
}

static int find_point(jv list, const char *point)
{
    jv_array_foreach(list, i, mount)
    {
        bool same = strcmp(text_at(mount, "mountPoint"), point) == 0;

        jv_free(mount);
        if (same) {
            return i;
        }
    }
    return -1;
}

jv config_mounts_combine(jv list, const struct config_context *context)
{
    jv result = jv_array();

    jv_array_foreach(list, i, mount)
    {
        int at;

        mount = set_point(clean_location(mount, context));
        at = find_point(result, text_at(mount, "mountPoint"));
        if (at < 0) {
            result = jv_array_append(result, mount);
        } else {
            result = jv_array_set(result, at, override(jv_array_get(jv_copy(result), at), mount));
        }
    }
    jv_free(list);
    return config_fill_mounts(result, context);
}

/* A file of one mount, loaded as the instance's would be; what concerns other keys is not looked
 * at. */
int config_mount_parse(jv mount, const char *lima_home, const struct config *config,
                       struct config_mount *ret, struct error *err)
{
    scoped(free) char *uid = xasprintf("%u", config->user.uid);
    jv user =
        JV_OBJECT(jv_string("name"), jv_string(config->user.name), jv_string("uid"),
                  jv_number(config->user.uid), jv_string("home"), jv_string(config->user.home));
    jv image = JV_OBJECT(jv_string("location"), jv_string("/"), jv_string("arch"),
                         jv_string(config->arch));
    jv tree = JV_OBJECT(jv_string("arch"), jv_string(config->arch), jv_string("user"), user,
                        jv_string("images"), JV_ARRAY(image), jv_string("mounts"), JV_ARRAY(mount));
    scoped(config_free) struct config *alone = NULL;
    scoped(free) char *text = value_to_json(tree, false);
    const struct config_load_options options = {
        .instance = config->instance, .lima_home = lima_home, .alone = true};
    int r = config_load_text("the mount", text, &options, &alone, err);

    if (r < 0) {
        return r;
    }
    if (alone->mount_count != 1) {
        return error_set(err, EINVAL, "no mount of an instance in plain mode");
    }
    *ret = config_mount_copy(&alone->mounts[0]);
    return 0;
}

struct config_mount config_mount_copy(const struct config_mount *mount)
{
    struct config_mount copy = *mount;

    copy.location = xstrdup(mount->location);
    copy.mount_point = xstrdup(mount->mount_point);
    copy.sftp_driver = xstrdup(mount->sftp_driver);
    copy.security_model = xstrdup(mount->security_model);
    copy.protocol_version = xstrdup(mount->protocol_version);
    copy.cache = xstrdup(mount->cache);
    return copy;
}

void config_mount_done(struct config_mount *mount)
{
    free(mount->location);
    free(mount->mount_point);
    free(mount->sftp_driver);
    free(mount->security_model);
    free(mount->protocol_version);
    free(mount->cache);
    *mount = (struct config_mount){0};
}
