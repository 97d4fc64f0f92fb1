/* SPDX-License-Identifier: Apache-2.0 */
#include "config/validate.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>
#include <sys/un.h>
#include "base/alloc.h"
#include "config/config.h"
#include "config/schema.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"
#include "util/units.h"
#include "util/version.h"

#define INLINED         "must have been replaced by its content when the instance was made"
#define UNUSED_PARAM_OK "internal_netplanOptional" /* read by the seed, not by scripts */

/* An item of a list under validation. */
struct item {
    jv value;          /* borrowed */
    const char *path;  /* "portForwards[0]" */
    const char *place; /* may be NULL */
    struct config_report *report;
};

/* "PLACE: 'PATH.KEY' fmt" */
static _printf_(3, 4) void item_error(const struct item *item, const char *key, const char *fmt,
                                      ...)
{
    scoped(free) char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = xvasprintf(fmt, ap);
    va_end(ap);
    config_report_error(item->report, item->place, "'%s%s%s' %s", item->path, *key ? "." : "", key,
                        text);
}

static bool has(jv object, const char *key)
{
    return jv_get_kind(object) == JV_KIND_OBJECT && jv_object_has(jv_copy(object), jv_string(key));
}

/* Text of @object[@key], "" if there is none. Borrowed from the tree. */
static const char *text_at(jv object, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    return jv_get_kind(value) == JV_KIND_STRING ? jv_string_value(value) : "";
}

static bool is_true(jv object, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    return jv_get_kind(value) == JV_KIND_TRUE;
}

static int number_at(jv object, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    return jv_get_kind(value) == JV_KIND_NUMBER ? (int)jv_number_value(value) : 0;
}

/* ---- images ---- */

static void rule_image(const struct item *item)
{
    static const char *const parts[] = {"kernel", "initrd"};
    const char *arch = text_at(item->value, "arch");

    if (!*text_at(item->value, "location")) {
        item_error(item, "location", "must be a URL or a path");
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        scoped(value_done) jv part = jv_object_get(jv_copy(item->value), jv_string(parts[i]));

        if (jv_get_kind(part) != JV_KIND_OBJECT) {
            continue;
        }
        if (!*text_at(part, "location")) {
            item_error(item, parts[i], "must have a location, a URL or a path");
        }
        if (!str_eq(text_at(part, "arch"), arch)) {
            item_error(item, parts[i], "must be for '%s' as its image, not for '%s'", arch,
                       text_at(part, "arch"));
        }
    }
}

/* ---- scripts ---- */

static void warn_later_mode(const struct item *item, const char *mode)
{
    scoped(free) char *what = xasprintf("mode %s", mode);

    if (config_report_once(item->report, what)) {
        config_report_warning(item->report, item->place,
                              "'%s.mode' %s is not yet honoured, ignoring", item->path, mode);
    }
}

static void rule_provision(const struct item *item)
{
    static const char *const foreign[] = {
        "skipDefaultDependencyResolution",
        "playbook",
        "content",
        "overwrite",
        "owner",
        "path",
        "permissions",
        "expression",
        "format",
    };
    const char *mode = text_at(item->value, "mode");
    const char *script = text_at(item->value, "script");

    if (schema_name_index(schema_provision_modes, mode) > CONFIG_PROVISION_BOOT) {
        warn_later_mode(item, mode);
        return;
    }
    if (has(item->value, "file")) {
        item_error(item, "file", INLINED);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        if (has(item->value, foreign[i])) {
            item_error(item, foreign[i], "must not be set with mode '%s'", mode);
        }
    }
    if (!*script) {
        item_error(item, "script", "must not be empty with mode '%s'", mode);
    }
    if (strstr(script, "LIMA_CIDATA")) {
        config_report_warning(item->report, item->place,
                              "'%s.script' uses LIMA_CIDATA variables, which may change",
                              item->path);
    }
}

static void rule_probe(const struct item *item)
{
    if (has(item->value, "file")) {
        item_error(item, "file", INLINED);
        return;
    }
    if (!str_starts(text_at(item->value, "script"), "#!")) {
        item_error(item, "script", "must begin with '#!'");
    }
}

/* ---- port forwards ---- */

struct ports {
    int first, last; /* 0,0: none */
};

static struct ports ports_at(jv object, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(object), jv_string(key));

    if (jv_get_kind(value) != JV_KIND_ARRAY) {
        return (struct ports){0, 0};
    }
    return (struct ports){
        .first = (int)jv_number_value(jv_array_get(jv_copy(value), 0)),
        .last = (int)jv_number_value(jv_array_get(jv_copy(value), 1)),
    };
}

/* One side: its port, range and socket agree. @side: "guest" or "host". */
static void rule_port_side(const struct item *item, const char *side)
{
    scoped(free) char *port_key = xasprintf("%sPort", side);
    scoped(free) char *range_key = xasprintf("%sPortRange", side);
    scoped(free) char *socket_key = xasprintf("%sSocket", side);
    struct ports range = ports_at(item->value, range_key);
    int port = number_at(item->value, port_key);
    bool ranged = has(item->value, range_key);

    if (*text_at(item->value, socket_key) && (port || (ranged && range.last != 0))) {
        item_error(item, socket_key, "must not be set together with a port");
        return;
    }
    if (!ranged || *text_at(item->value, socket_key)) {
        return;
    }
    if (port && port != range.first) {
        item_error(item, port_key, "must be the first of '%s', %d, not %d", range_key, range.first,
                   port);
    }
    if (range.first < 1 || range.first == 22 || range.last == 22) {
        item_error(item, range_key, "must be ports from 1 to 65535 that are not 22, not [%d, %d]",
                   range.first, range.last);
    } else if (range.first > range.last) {
        item_error(item, range_key, "must ascend, not [%d, %d]", range.first, range.last);
    }
}

/* Both sides together. */
static void rule_port_sides(const struct item *item)
{
    struct ports guest = ports_at(item->value, "guestPortRange");
    struct ports host = ports_at(item->value, "hostPortRange");
    bool guest_socket = *text_at(item->value, "guestSocket");
    bool host_socket = *text_at(item->value, "hostSocket");

    if (is_true(item->value, "reverse") && !(guest_socket && host_socket)) {
        item_error(item, "reverse", "must have a guestSocket and a hostSocket");
    } else if (is_true(item->value, "ignore")) {
        return;
    } else if (guest_socket && !host_socket && host.last == 0) {
        item_error(item, "guestSocket", "must have a hostSocket or a hostPort");
    } else if (guest_socket && !host_socket && host.first != host.last) {
        item_error(item, "hostPortRange", "must be one port with a guestSocket");
    } else if (host_socket && !guest_socket && guest.first != guest.last) {
        item_error(item, "hostSocket", "must have one guestPort or a guestSocket");
    } else if (!guest_socket && !host_socket &&
               guest.last - guest.first != host.last - host.first) {
        item_error(item, "hostPortRange", "must be as wide as the guest's [%d, %d], not [%d, %d]",
                   guest.first, guest.last, host.first, host.last);
    }
}

static void rule_port_forward(const struct item *item)
{
    const char *guest_socket = text_at(item->value, "guestSocket");
    const char *host_socket = text_at(item->value, "hostSocket");
    const char *guest_ip = text_at(item->value, "guestIP");
    struct sockaddr_un address;

    rule_port_side(item, "guest");
    rule_port_side(item, "host");
    rule_port_sides(item);
    if (is_true(item->value, "guestIPMustBeZero") && !str_eq(guest_ip, "0.0.0.0")) {
        item_error(item, "guestIPMustBeZero", "must be false or guestIP 0.0.0.0, not %s", guest_ip);
    }
    if (str_eq(text_at(item->value, "onConflict"), "remap") && *host_socket) {
        item_error(item, "onConflict", "must be skip or fail with a hostSocket, not remap");
    }
    if (*guest_socket && *guest_socket != '/') {
        item_error(item, "guestSocket", "must be an absolute path, not '%s'", guest_socket);
    }
    if (strlen(host_socket) >= sizeof(address.sun_path)) {
        item_error(item, "hostSocket", "must be shorter than %zu bytes, not '%s'",
                   sizeof(address.sun_path), host_socket);
    }
}

/* ---- mounts ---- */

static bool is_system_folder(const char *point)
{
    static const char *const folders[] = {"/",     "/bin", "/dev", "/etc", "/home", "/opt",
                                          "/sbin", "/tmp", "/usr", "/var", NULL};

    return schema_name_index(folders, point) >= 0;
}

static void rule_mount(const struct item *item)
{
    const char *location = text_at(item->value, "location");
    scoped(free) char *point = path_clean(text_at(item->value, "mountPoint"));

    if (*location != '/') {
        item_error(item, "location", "must be an absolute path, not '%s'", location);
        return;
    }
    if (file_exists(location) && !file_is_dir(location)) {
        item_error(item, "location", "must be a folder, which '%s' is not", location);
    }
    if (*text_at(item->value, "mountPoint") == '~') {
        item_error(item, "mountPoint", "must not begin with '~': use {{.Home}}");
    } else if (*point != '/') {
        item_error(item, "mountPoint", "must be an absolute path, not '%s'", point);
    } else if (is_system_folder(point)) {
        item_error(item, "mountPoint", "must not be the guest's own '%s'", point);
    }
}

static const struct {
    const char *list;
    void (*rule)(const struct item *item);
} item_rules[] = {
    {"images", rule_image}, {"provision", rule_provision},
    {"probes", rule_probe}, {"portForwards", rule_port_forward},
    {"mounts", rule_mount},
};

static void validate_items(jv tree, struct config_report *report)
{
    for (size_t r = 0; r < ARRAY_LEN(item_rules); r++) {
        scoped(value_done) jv list = jv_object_get(jv_copy(tree), jv_string(item_rules[r].list));

        if (jv_get_kind(list) != JV_KIND_ARRAY) {
            continue;
        }
        jv_array_foreach(list, i, value)
        {
            scoped(free) char *path = xasprintf("%s[%d]", item_rules[r].list, i);
            const struct item item = {
                .value = value,
                .path = path,
                .place = text_at(value, SCHEMA_PLACE),
                .report = report,
            };

            item_rules[r].rule(&item);
            jv_free(value);
        }
    }
}

/* ---- the whole ---- */

struct whole {
    jv tree; /* borrowed */
    const struct config_context *context;
};

/* "PLACE: 'PATH' fmt" */
static _printf_(3, 4) void whole_error(const struct whole *whole, const char *path, const char *fmt,
                                       ...)
{
    scoped(free) char *place = config_context_place(whole->context, path);
    scoped(free) char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = xvasprintf(fmt, ap);
    va_end(ap);
    config_report_error(whole->context->report, place, "'%s' %s", path, text);
}

static void validate_version(const struct whole *whole)
{
    const char *minimum = text_at(whole->tree, "minimumLimaVersion");

    if (*minimum && version_compare(LIMA_VERSION, minimum) < 0) {
        whole_error(whole, "minimumLimaVersion", "asks for %s, but this program is like %s",
                    minimum, LIMA_VERSION);
    }
}

static void validate_base(const struct whole *whole)
{
    scoped(value_done) jv base = jv_object_get(jv_copy(whole->tree), jv_string("base"));

    if (jv_get_kind(base) == JV_KIND_ARRAY && jv_array_length(jv_copy(base)) > 0) {
        whole_error(whole, "base", "must have been merged in when the instance was made");
    }
}

static void validate_images(const struct whole *whole)
{
    scoped(value_done) jv images = jv_object_get(jv_copy(whole->tree), jv_string("images"));

    if (jv_get_kind(images) != JV_KIND_ARRAY || jv_array_length(jv_copy(images)) == 0) {
        whole_error(whole, "images", "must have at least one image");
    }
}

static void validate_machine(const struct whole *whole)
{
    const char *os = text_at(whole->tree, "os");

    if (!*text_at(whole->tree, "arch")) {
        whole_error(whole, "arch", "must be set: this host's architecture is not known");
    }
    if (!str_eq(os, "Linux")) {
        whole_error(whole, "os", "must be 'Linux', the only guest that works so far, not '%s'", os);
    }
}

static void validate_user(const struct whole *whole)
{
    scoped(value_done) jv user = jv_object_get(jv_copy(whole->tree), jv_string("user"));
    const char *home = text_at(user, "home");

    if (*home != '/' || strpbrk(home, ":\n")) {
        whole_error(whole, "user.home", "must be an absolute path, not '%s'", home);
    }
    if (!is_true(user, "passwordlessSudo") && !is_true(whole->tree, "plain")) {
        whole_error(whole, "user.passwordlessSudo", "must be true unless 'plain' is true");
    }
}

static void validate_dns(const struct whole *whole)
{
    scoped(value_done) jv resolver = jv_object_get(jv_copy(whole->tree), jv_string("hostResolver"));
    scoped(value_done) jv dns = jv_object_get(jv_copy(whole->tree), jv_string("dns"));
    bool enabled = !has(resolver, "enabled") || is_true(resolver, "enabled");

    if (jv_get_kind(dns) == JV_KIND_ARRAY && jv_array_length(jv_copy(dns)) > 0 && enabled) {
        whole_error(whole, "dns", "must be empty unless 'hostResolver.enabled' is false");
    }
}

/* @list (borrowed) is one of texts, with @text among them. */
static bool has_text(jv list, const char *text)
{
    bool found = false;

    if (jv_get_kind(list) == JV_KIND_ARRAY) {
        jv_array_foreach(list, i, item)
        {
            found = found || str_eq(jv_string_value(item), text);
            jv_free(item);
        }
    }
    return found;
}

static void validate_mounts(const struct whole *whole)
{
    scoped(value_done) jv user = jv_object_get(jv_copy(whole->tree), jv_string("user"));
    scoped(value_done) jv list = jv_object_get(jv_copy(whole->tree), jv_string("mounts"));
    scoped(value_done) jv unsupported =
        jv_object_get(jv_copy(whole->tree), jv_string("mountTypesUnsupported"));

    if (has_text(unsupported, text_at(whole->tree, "mountType"))) {
        whole_error(whole, "mountType", "is '%s', which 'mountTypesUnsupported' rules out",
                    text_at(whole->tree, "mountType"));
    }
    if (jv_get_kind(list) != JV_KIND_ARRAY) {
        return;
    }
    jv_array_foreach(list, i, mount)
    {
        if (str_eq(text_at(mount, "mountPoint"), text_at(user, "home"))) {
            config_report_error(whole->context->report, text_at(mount, SCHEMA_PLACE),
                                "'mounts[%d].mountPoint' must not be the user's home in the guest",
                                i);
        }
        jv_free(mount);
    }
}

void config_validate(jv tree, const struct config_context *context)
{
    const struct whole whole = {.tree = tree, .context = context};

    validate_base(&whole);
    validate_version(&whole);
    validate_machine(&whole);
    validate_images(&whole);
    validate_user(&whole);
    validate_dns(&whole);
    validate_mounts(&whole);
    validate_items(tree, context->report);
}

/* ---- params ---- */

/* All texts below @value (consumed), a line each. */
static void collect_texts(jv value, struct buf *out)
{
    switch (jv_get_kind(value)) {
    case JV_KIND_STRING:
        buf_puts(out, jv_string_value(value));
        buf_putc(out, '\n');
        break;
    case JV_KIND_ARRAY: {
        jv_array_foreach(value, i, item)
        {
            collect_texts(item, out);
        }
        break;
    }
    case JV_KIND_OBJECT: {
        jv_object_foreach(value, key, item)
        {
            collect_texts(item, out);
            jv_free(key);
        }
        break;
    }
    default:
        break;
    }
    jv_free(value);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* @word stands in @text with no letter, digit or '_' on either side (before: only if @whole). */
static const char *find_word(const char *text, const char *word, bool whole)
{
    size_t len = strlen(word);

    for (const char *p = strstr(text, word); p; p = strstr(p + 1, word)) {
        bool before = !whole || p == text || !is_word(p[-1]);

        if (before && !is_word(p[len])) {
            return p;
        }
    }
    return NULL;
}

/* ".Param.KEY" inside of some {{...}}. */
static bool used_in_template(const char *text, const char *key)
{
    scoped(free) char *field = xasprintf(".Param.%s", key);

    for (const char *open = strstr(text, "{{"); open; open = strstr(open, "{{")) {
        const char *close = strstr(open, "}}");
        scoped(free) char *inside = NULL;

        if (!close) {
            return false;
        }
        inside = xstrndup(open, (size_t)(close - open));
        if (find_word(inside, field, false)) {
            return true;
        }
        open = close;
    }
    return false;
}

static bool param_used(const char *text, const char *key)
{
    scoped(free) char *variable = xasprintf("PARAM_%s", key);

    return find_word(text, variable, true) || used_in_template(text, key);
}

void config_validate_params(jv raw, const struct config_source *own,
                            const struct config_context *context)
{
    static const char *const users[] = {"provision", "probes", "copyToHost", "portForwards",
                                        "mounts"};
    struct config_context alone = *context;
    const struct whole whole = {.tree = raw, .context = &alone};
    scoped(value_done) jv params = jv_invalid();
    scoped(buf_done) struct buf texts = BUF_INIT;

    alone.sources = own;
    alone.source_count = 1;
    if (jv_get_kind(raw) == JV_KIND_OBJECT) {
        params = jv_object_get(jv_copy(raw), jv_string("param"));
    }
    if (jv_get_kind(params) != JV_KIND_OBJECT) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(users); i++) {
        collect_texts(jv_object_get(jv_copy(raw), jv_string(users[i])), &texts);
    }
    jv_object_foreach(params, key, value)
    {
        const char *name = jv_string_value(key);

        if (!str_eq(name, UNUSED_PARAM_OK) && !param_used(buf_str(&texts), name)) {
            scoped(free) char *path = xasprintf("param.%s", name);

            whole_error(&whole, path,
                        "is used nowhere: name it as {{.Param.%s}} or PARAM_%s in a script, probe, "
                        "socket or mount, or remove it",
                        name, name);
        }
        jv_free(key);
        jv_free(value);
    }
}
