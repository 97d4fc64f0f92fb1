/* SPDX-License-Identifier: Apache-2.0 */
#include "config/expand.h"

#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "config/schema.h"
#include "util/path.h"
#include "util/strv.h"
#include "util/sys.h"
#include "util/tmpl.h"

#define NO_VALUE "<no value>"

/* Where a text came from, for messages: a list item's own place, or none. */
static char *place_of(jv item)
{
    scoped(value_done) jv place = jv_object_get(jv_copy(item), jv_string(SCHEMA_PLACE));

    return jv_get_kind(place) == JV_KIND_STRING ? xstrdup(jv_string_value(place)) : NULL;
}

static jv object_get(jv object, const char *key)
{
    return jv_object_get(jv_copy(object), jv_string(key));
}

/* What texts for the guest may name. @user is borrowed. */
static jv guest_variables(jv user, jv params, const struct config_context *context)
{
    scoped(free) char *hostname = config_hostname(context->instance);
    jv vars = jv_object();

    vars = jv_object_set(vars, jv_string("Name"), jv_string(context->instance));
    vars = jv_object_set(vars, jv_string("Hostname"), jv_string(hostname));
    vars = jv_object_set(vars, jv_string("UID"), object_get(user, "uid"));
    vars = jv_object_set(vars, jv_string("User"), object_get(user, "name"));
    vars = jv_object_set(vars, jv_string("Home"), object_get(user, "home"));
    return jv_object_set(vars, jv_string("Param"), params);
}

/* What texts for the host may name. */
static jv host_variables(jv params, const struct config_context *context)
{
    const char *temp = getenv("TMPDIR");
    jv vars = jv_object();

    vars = jv_object_set(vars, jv_string("Name"), jv_string(context->instance));
    vars = jv_object_set(vars, jv_string("Instance"), jv_string(context->instance));
    vars = jv_object_set(vars, jv_string("UID"), jv_number(sys_uid()));
    vars = jv_object_set(vars, jv_string("User"), jv_string(sys_user()));
    vars = jv_object_set(vars, jv_string("Home"), jv_string(str_or_empty(path_home())));
    vars = jv_object_set(vars, jv_string("Dir"), jv_string(context->dir));
    vars = jv_object_set(vars, jv_string("LimaHome"), jv_string(context->lima_home));
    vars = jv_object_set(vars, jv_string("GlobalTempDir"), jv_string("/tmp"));
    vars = jv_object_set(vars, jv_string("TempDir"), jv_string(temp && *temp ? temp : "/tmp"));
    return jv_object_set(vars, jv_string("Param"), params);
}

struct expansion {
    const struct config_context *context;
    const char *path;  /* of the field */
    const char *place; /* may be NULL */
    bool script;       /* keeps its text when the template is wrong */
};

/* The expanded text; @text as it is when that failed. Both are consumed. */
static jv expand_text(const struct expansion *e, jv text, jv vars)
{
    struct config_report *report = e->context->report;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *out = NULL;
    const char *in = jv_string_value(text);

    if (!strstr(in, "{{")) {
        jv_free(vars);
        return text;
    }
    if (tmpl_expand(in, vars, false, &out, &err) < 0) {
        if (e->script) {
            config_report_warning(report, e->place, "'%s' is no template (%s), ignoring", e->path,
                                  error_text(&err));
        } else {
            config_report_error(report, e->place, "'%s': %s", e->path, error_text(&err));
        }
        return text;
    }
    if (strstr(out, NO_VALUE) && !strstr(in, NO_VALUE)) {
        config_report_warning(report, e->place,
                              "'%s' names a variable that does not exist, ignoring", e->path);
    }
    jv_free(text);
    return jv_string(out);
}

static const struct {
    const char *list;
    const char *key;
    bool host; /* set of variables */
    bool script;
} fields[] = {
    {"provision", "script", .script = true}, {"probes", "script", .script = true},
    {"portForwards", "guestSocket"},         {"portForwards", "hostSocket", .host = true},
    {"mounts", "location", .host = true},    {"mounts", "mountPoint"},
};

static jv expand_item(jv item, const char *path, const char *key, bool script, jv vars,
                      const struct config_context *context)
{
    scoped(free) char *place = place_of(item);
    const struct expansion e = {.context = context, .path = path, .place = place, .script = script};
    jv text = object_get(item, key);

    if (jv_get_kind(text) != JV_KIND_STRING) {
        jv_free(text);
        return item;
    }
    return jv_object_set(item, jv_string(key), expand_text(&e, text, jv_copy(vars)));
}

static jv expand_user_home(jv tree, jv params, const struct config_context *context)
{
    scoped(free) char *place = config_context_place(context, "user.home");
    const struct expansion e = {.context = context, .path = "user.home", .place = place};
    jv user = object_get(tree, "user");
    jv home = expand_text(&e, object_get(user, "home"), guest_variables(user, params, context));

    user = jv_object_set(user, jv_string("home"), home);
    return jv_object_set(tree, jv_string("user"), user);
}

/* A relative socket of the host belongs to the instance. */
static jv place_host_sockets(jv tree, const struct config_context *context)
{
    jv rules = object_get(tree, "portForwards");

    if (jv_get_kind(rules) != JV_KIND_ARRAY) {
        jv_free(rules);
        return tree;
    }
    jv_array_foreach(rules, i, rule)
    {
        scoped(value_done) jv socket = object_get(rule, "hostSocket");
        const char *text = jv_string_value(socket);

        if (*text && *text != '/') {
            scoped(free) char *path = path_join(context->dir, "sock", text);

            rule = jv_object_set(rule, jv_string("hostSocket"), jv_string(path));
        }
        rules = jv_array_set(rules, i, rule);
    }
    return jv_object_set(tree, jv_string("portForwards"), rules);
}

jv config_expand(jv tree, const struct config_context *context)
{
    scoped(value_done) jv params = object_get(tree, "param");
    scoped(value_done) jv user = jv_invalid();
    scoped(value_done) jv host_vars = jv_invalid();
    scoped(value_done) jv guest_vars = jv_invalid();

    if (!jv_is_valid(params)) {
        jv_free(params);
        params = jv_object();
    }
    tree = expand_user_home(tree, jv_copy(params), context);
    user = object_get(tree, "user");
    host_vars = host_variables(jv_copy(params), context);
    guest_vars = guest_variables(user, jv_copy(params), context);

    for (size_t f = 0; f < ARRAY_LEN(fields); f++) {
        jv list = object_get(tree, fields[f].list);

        if (jv_get_kind(list) != JV_KIND_ARRAY) {
            jv_free(list);
            continue;
        }
        jv_array_foreach(list, i, item)
        {
            scoped(free) char *path = xasprintf("%s[%d].%s", fields[f].list, i, fields[f].key);

            item = expand_item(item, path, fields[f].key, fields[f].script,
                               fields[f].host ? host_vars : guest_vars, context);
            list = jv_array_set(list, i, item);
        }
        tree = jv_object_set(tree, jv_string(fields[f].list), list);
    }
    return place_host_sockets(tree, context);
}
