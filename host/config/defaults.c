/* SPDX-License-Identifier: Apache-2.0 */
#include "config/defaults.h"

#include <ctype.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "config/schema.h"
#include "util/strv.h"
#include "util/sys.h"
#include "util/units.h"

#define CPUS_MAX      4
#define MEMORY_MAX    (INT64_C(4) << 30)
#define MIB           (INT64_C(1) << 20)
#define OLD_SSH_PORT  "60022" /* of the instance 'default' before 2.0.0 */
#define FALLBACK_USER "lima"
#define FALLBACK_UID  "1000"

/* Text of a default; caller frees. */
typedef char *(*host_fn)(const struct config_context *context);

static bool created_before(const struct config_context *context, const char *version)
{
    return context->created_by && version_compare(context->created_by, version) < 0;
}

static char *host_arch(const struct config_context *context)
{
    return xstrdup(sys_arch());
}

static char *host_cpus(const struct config_context *context)
{
    return xasprintf("%d", MAX(1, MIN(CPUS_MAX, sys_cpus())));
}

static char *host_memory(const struct config_context *context)
{
    int64_t bytes = MIN(MEMORY_MAX, sys_memory() / 2 / MIB * MIB);

    return bytes % (MIB << 10) == 0 ? size_format(bytes)
                                    : xasprintf("%lldMiB", (long long)(bytes / MIB));
}

static char *host_timezone(const struct config_context *context)
{
    return sys_timezone();
}

static char *host_ssh_port(const struct config_context *context)
{
    bool old = str_eq(context->instance, "default") && created_before(context, "2.0.0");

    return xstrdup(old ? OLD_SSH_PORT : "0");
}

/* ^[a-z_][a-z0-9_-]*$ */
static bool is_linux_user(const char *name)
{
    if (!islower((unsigned char)*name) && *name != '_') {
        return false;
    }
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(name);
}

/* The guest's user is named as the host's where that makes an ordinary user of the guest. */
static char *host_user(const struct config_context *context)
{
    const char *name = sys_user();

    if (sys_uid() == 0 || (str_eq(name, "admin") && !created_before(context, "1.0.0"))) {
        return xstrdup(FALLBACK_USER);
    }
    if (!is_linux_user(name)) {
        config_report_warning(context->report, NULL,
                              "user name '%s' will not do in the guest, using '%s'", name,
                              FALLBACK_USER);
        return xstrdup(FALLBACK_USER);
    }
    return xstrdup(name);
}

static char *host_user_comment(const struct config_context *context)
{
    const struct passwd *entry = sys_uid() == 0 ? NULL : getpwuid(sys_uid());
    const char *gecos = entry ? str_or_empty(entry->pw_gecos) : "";
    scoped(buf_done) struct buf out = BUF_INIT;

    for (const char *p = gecos; *p && *p != ','; p++) {
        if (!iscntrl((unsigned char)*p) && *p != ':') {
            buf_putc(&out, *p);
        }
    }
    return buf_steal(&out);
}

static char *host_user_home(const struct config_context *context)
{
    return xasprintf("/home/{{.User}}.%s", created_before(context, "2.1.0") ? "linux" : "guest");
}

static char *host_user_id(const struct config_context *context)
{
    return sys_uid() == 0 ? xstrdup(FALLBACK_UID) : xasprintf("%u", (unsigned)sys_uid());
}

static const host_fn host_values[SCHEMA_HOST_COUNT] = {
    [SCHEMA_HOST_ARCH] = host_arch,
    [SCHEMA_HOST_CPUS] = host_cpus,
    [SCHEMA_HOST_MEMORY] = host_memory,
    [SCHEMA_HOST_TIMEZONE] = host_timezone,
    [SCHEMA_HOST_SSH_PORT] = host_ssh_port,
    [SCHEMA_HOST_USER] = host_user,
    [SCHEMA_HOST_USER_COMMENT] = host_user_comment,
    [SCHEMA_HOST_USER_HOME] = host_user_home,
    [SCHEMA_HOST_USER_ID] = host_user_id,
};

/* A default's text as the normal tree wants it. */
static jv value_of(const struct schema_row *row, const char *text)
{
    switch (row->type) {
    case SCHEMA_BOOL:
        return jv_bool(str_eq(text, "true"));
    case SCHEMA_INT:
    case SCHEMA_UINT:
        return jv_number(strtod(text, NULL));
    default:
        return jv_string(text);
    }
}

static jv fill_object(const struct schema_object *object, jv tree,
                      const struct config_context *context);

static jv fill_items(const struct schema_row *row, jv list, const struct config_context *context)
{
    jv_array_foreach(list, i, item)
    {
        list = jv_array_set(list, i, fill_object(row->object, item, context));
    }
    return list;
}

/* The value of @row, which is @value or invalid. */
static jv fill_row(const struct schema_row *row, jv value, const struct config_context *context)
{
    bool unset = !jv_is_valid(value);

    if (row->type == SCHEMA_OBJECT && !(unset && (row->optional || row->use != SCHEMA_HONOURED))) {
        return fill_object(row->object, unset ? jv_object() : value, context);
    }
    if (row->type == SCHEMA_LIST && !unset) {
        return fill_items(row, value, context);
    }
    if (unset && row->fallback) {
        return value_of(row, row->fallback);
    }
    if (unset && row->host != SCHEMA_HOST_NONE) {
        scoped(free) char *text = host_values[row->host](context);

        return value_of(row, text);
    }
    return value;
}

static jv fill_object(const struct schema_object *object, jv tree,
                      const struct config_context *context)
{
    for (const struct schema_row *row = object->rows; row->key; row++) {
        jv value = jv_object_get(jv_copy(tree), jv_string(row->key));

        value = fill_row(row, value, context);
        if (jv_is_valid(value)) {
            tree = jv_object_set(tree, jv_string(row->key), value);
        } else {
            jv_free(value);
        }
    }
    return tree;
}

/* ---- defaults that look at their neighbours ---- */

static jv set_default(jv object, const char *key, jv value)
{
    if (jv_object_has(jv_copy(object), jv_string(key))) {
        jv_free(value);
        return object;
    }
    return jv_object_set(object, jv_string(key), value);
}

/* @object[@key] as a number; 0 when it is not there. */
static int number_of(jv object, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    return jv_get_kind(value) == JV_KIND_NUMBER ? (int)jv_number_value(value) : 0;
}

static bool text_is(jv object, const char *key, const char *text)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    return jv_get_kind(value) == JV_KIND_STRING && str_eq(jv_string_value(value), text);
}

static bool is_true(jv object, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    return jv_get_kind(value) == JV_KIND_TRUE;
}

static jv range(int first, int last)
{
    return JV_ARRAY(jv_number(first), jv_number(last));
}

static jv fill_image(jv image, jv tree)
{
    static const char *const parts[] = {"kernel", "initrd"};
    scoped(value_done) jv arch = jv_object_get(jv_copy(tree), jv_string("arch"));

    image = set_default(image, "arch", jv_copy(arch));
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        jv part = jv_object_get(jv_copy(image), jv_string(parts[i]));

        if (jv_get_kind(part) == JV_KIND_OBJECT) {
            part = set_default(part, "arch", jv_object_get(jv_copy(image), jv_string("arch")));
            image = jv_object_set(image, jv_string(parts[i]), part);
        } else {
            jv_free(part);
        }
    }
    return image;
}

static jv fill_port_forward(jv rule, jv tree)
{
    int guest = number_of(rule, "guestPort");
    int host = number_of(rule, "hostPort");
    bool guest_socket = !text_is(rule, "guestSocket", "");
    bool host_socket = !text_is(rule, "hostSocket", "");

    if (!guest_socket) {
        rule = set_default(rule, "guestPortRange", guest ? range(guest, guest) : range(1, 65535));
    }
    if (host) {
        rule = set_default(rule, "hostPortRange", range(host, host));
    } else if (!host_socket && !guest_socket) {
        rule = set_default(rule, "hostPortRange",
                           jv_object_get(jv_copy(rule), jv_string("guestPortRange")));
    }
    rule = set_default(rule, "guestIP",
                       jv_string(is_true(rule, "guestIPMustBeZero") ? "0.0.0.0" : "127.0.0.1"));
    return set_default(rule, "guestIPMustBeZero", jv_bool(text_is(rule, "guestIP", "0.0.0.0")));
}

static const struct {
    const char *key;
    jv (*fill)(jv item, jv tree); /* @tree is borrowed */
} item_fills[] = {
    {"images", fill_image},
    {"portForwards", fill_port_forward},
};

static jv fill_lists(jv tree)
{
    for (size_t i = 0; i < ARRAY_LEN(item_fills); i++) {
        jv list = jv_object_get(jv_copy(tree), jv_string(item_fills[i].key));

        if (jv_get_kind(list) != JV_KIND_ARRAY) {
            jv_free(list);
            continue;
        }
        jv_array_foreach(list, at, item)
        {
            list = jv_array_set(list, at, item_fills[i].fill(item, tree));
        }
        tree = jv_object_set(tree, jv_string(item_fills[i].key), list);
    }
    return tree;
}

static jv fill_probe_descriptions(jv tree)
{
    jv probes = jv_object_get(jv_copy(tree), jv_string("probes"));

    if (jv_get_kind(probes) != JV_KIND_ARRAY) {
        jv_free(probes);
        return tree;
    }
    jv_array_foreach(probes, i, probe)
    {
        int count = jv_array_length(jv_copy(probes));

        probe = set_default(probe, "description", jv_string_fmt("user probe %d/%d", i + 1, count));
        probes = jv_array_set(probes, i, probe);
    }
    return jv_object_set(tree, jv_string("probes"), probes);
}

/* Plain mode leaves the time zone alone and forwards only what needs no agent. */
static jv apply_plain(jv tree)
{
    scoped(value_done) jv rules = jv_invalid();
    jv kept = jv_array();

    if (!is_true(tree, "plain")) {
        jv_free(kept);
        return tree;
    }
    rules = jv_object_get(jv_copy(tree), jv_string("portForwards"));
    if (jv_get_kind(rules) == JV_KIND_ARRAY) {
        jv_array_foreach(rules, i, rule)
        {
            if (is_true(rule, "static")) {
                kept = jv_array_append(kept, jv_copy(rule));
            }
            jv_free(rule);
        }
    }
    tree = jv_object_set(tree, jv_string("portForwards"), kept);
    return jv_object_set(tree, jv_string("timezone"), jv_string(""));
}

/* The deprecated cpuType fills what vmOpts.qemu.cpuType leaves open. */
static jv move_cpu_type(jv tree, const struct config_context *context)
{
    scoped(value_done) jv path =
        JV_ARRAY(jv_string("vmOpts"), jv_string("qemu"), jv_string("cpuType"));
    jv old = jv_object_get(jv_copy(tree), jv_string("cpuType"));
    jv new;

    if (jv_get_kind(old) != JV_KIND_OBJECT) {
        jv_free(old);
        return tree;
    }
    new = jv_getpath(jv_copy(tree), jv_copy(path));
    if (jv_get_kind(new) != JV_KIND_OBJECT) {
        jv_free(new);
        new = jv_object();
    }
    jv_object_foreach(old, arch, value)
    {
        scoped(value_done) jv present = jv_object_get(jv_copy(new), jv_copy(arch));

        if (jv_is_valid(present) && !jv_equal(jv_copy(present), jv_copy(value))) {
            config_report_warning(context->report, NULL,
                                  "'cpuType.%s' differs from 'vmOpts.qemu.cpuType.%s', ignoring",
                                  jv_string_value(arch), jv_string_value(arch));
        }
        new = set_default(new, jv_string_value(arch), value);
        jv_free(arch);
    }
    jv_free(old);
    return jv_setpath(jv_object_delete(tree, jv_string("cpuType")), jv_copy(path), new);
}

static jv fill_mount(jv mount)
{
    const char *cache = is_true(mount, "writable") ? "mmap" : "fscache";
    jv options = jv_object_get(jv_copy(mount), jv_string("9p"));

    return jv_object_set(mount, jv_string("9p"), set_default(options, "cache", jv_string(cache)));
}

jv config_fill_mounts(jv list, const struct config_context *context)
{
    const struct schema_row *row = schema_find(&schema_root, "mounts");

    list = fill_items(row, list, context);
    jv_array_foreach(list, i, mount)
    {
        list = jv_array_set(list, i, fill_mount(mount));
    }
    return list;
}

jv config_fill(jv tree, const struct config_context *context)
{
    tree = move_cpu_type(tree, context);
    tree = fill_object(&schema_root, tree, context);
    tree = fill_lists(tree);
    tree = fill_probe_descriptions(tree);
    return apply_plain(tree);
}
