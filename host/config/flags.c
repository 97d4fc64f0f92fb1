/* SPDX-License-Identifier: Apache-2.0 */
#include "config/flags.h"

#include <arpa/inet.h>
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/path.h"

/* What the translation of one flag has at hand. */
struct request {
    const struct config_flag_options *options;
    const struct config_flag_given *given;
    size_t count;
    const struct strv *values; /* of this flag */
    struct strv *expressions;
    struct strv *warnings;
};

/* Appends to request->expressions; the message needs no mention of the flag. */
typedef int (*translate)(const struct request *req, struct error *err);

/* ---- pieces ---- */

static const char *last(const struct request *req)
{
    return req->values->items[req->values->len - 1];
}

static const struct strv *values_of(const struct request *req, const char *name)
{
    for (size_t i = 0; i < req->count; i++) {
        if (strcmp(req->given[i].name, name) == 0) {
            return req->given[i].values;
        }
    }
    return NULL;
}

/* @text as a JSON string, quotes included. Caller frees. */
static char *quote(const char *text)
{
    return value_to_json(jv_string(text), false);
}

static int set_text(const struct request *req, const char *path, const char *text)
{
    scoped(free) char *quoted = quote(text);

    strv_addf(req->expressions, "%s = %s", path, quoted);
    return 0;
}

static int set_bool(const struct request *req, const char *path)
{
    strv_addf(req->expressions, "%s = %s", path, last(req));
    return 0;
}

static int not_empty(const struct request *req, struct error *err)
{
    return *last(req) ? 0 : error_set(err, EINVAL, "the value is empty");
}

static void experimental(const struct request *req, const char *flag)
{
    strv_addf(req->warnings, "`--%s` is experimental", flag);
}

static int parse_number(const char *text, long min, long max, long *ret, struct error *err)
{
    char *end;
    long number;

    errno = 0;
    number = strtol(text, &end, 0);
    if (end == text || *end || errno) {
        return error_set(err, EINVAL, "'%s' is not a whole number", text);
    }
    if (number < min || number > max) {
        return error_set(err, EINVAL, "%ld is not in the range %ld to %ld", number, min, max);
    }
    *ret = number;
    return 0;
}

/* ---- one function a flag ---- */

static int flag_cpus(const struct request *req, struct error *err)
{
    long cpus = 0;
    int r = parse_number(last(req), 0, 4096, &cpus, err);

    if (r == 0) {
        strv_addf(req->expressions, ".cpus = %ld", cpus);
    }
    return r;
}

static int flag_dns(const struct request *req, struct error *err)
{
    scoped(value_done) jv list = jv_array();
    scoped(free) char *json = NULL;
    unsigned char address[sizeof(struct in6_addr)];

    for (size_t i = 0; i < req->values->len; i++) {
        const char *text = req->values->items[i];

        if (inet_pton(AF_INET, text, address) != 1 && inet_pton(AF_INET6, text, address) != 1) {
            return error_set(err, EINVAL, "'%s' is not an IP address", text);
        }
        list = jv_array_append(list, jv_string(text));
    }
    json = value_to_json(jv_copy(list), false);
    strv_addf(req->expressions,
              ".dns = reduce ((.dns // []) + %s)[] as $d "
              "([]; if any(.[]; . == $d) then . else . + [$d] end) | .hostResolver.enabled = false",
              json);
    strv_add(req->warnings, "`--dns` turns the host resolver off");
    return 0;
}

/* "GiB" behind the shortest text of the number as a 32-bit float. */
static int set_gib(const struct request *req, const char *path, struct error *err)
{
    char *end;
    float number = strtof(last(req), &end);
    scoped(free) char *text = NULL;

    if (end == last(req) || *end || !isfinite(number) || number < 0) {
        return error_set(err, EINVAL, "'%s' is not a size in GiB", last(req));
    }
    for (int precision = 1; precision < 10 && !(text && strtof(text, NULL) == number);
         precision++) {
        free(text);
        text = xasprintf("%.*g", precision, (double)number);
    }
    if (strchr(text, 'e')) {
        free(text);
        text = xasprintf("%.0f", (double)number);
    }
    strv_addf(req->expressions, "%s = \"%sGiB\"", path, text);
    return 0;
}

static int flag_memory(const struct request *req, struct error *err)
{
    return set_gib(req, ".memory", err);
}

static int flag_disk(const struct request *req, struct error *err)
{
    return set_gib(req, ".disk", err);
}

/* "DIR[:w]" as {location, mountPoint, writable}. */
static int parse_mount(const char *text, jv *ret, struct error *err)
{
    bool writable = str_ends(text, ":w");
    scoped(free) char *given = xstrndup(text, strlen(text) - (writable ? 2 : 0));
    scoped(free) char *path = NULL;
    int r;

    if (!*given) {
        return error_set(err, EINVAL, "mount '%s' names no folder", text);
    }
    r = path_expand(given, &path, err);
    if (r < 0) {
        return r;
    }
    *ret = JV_OBJECT(jv_string("location"), jv_string(path), jv_string("mountPoint"),
                     jv_string(path), jv_string("writable"), jv_bool(writable));
    return 0;
}

/* All mounts, in the order given or the last one first. */
static int parse_mounts(const struct request *req, bool reverse, jv *ret, struct error *err)
{
    jv list = jv_array();
    size_t len = req->values->len;

    for (size_t i = 0; i < len; i++) {
        jv mount;
        int r = parse_mount(req->values->items[reverse ? len - 1 - i : i], &mount, err);

        if (r < 0) {
            jv_free(list);
            return r;
        }
        list = jv_array_append(list, mount);
    }
    *ret = list;
    return 0;
}

static int refuse_with(const struct request *req, const char *other, struct error *err)
{
    if (values_of(req, other)) {
        return error_set(err, EINVAL, "it cannot be given together with `--%s`", other);
    }
    return 0;
}

/*
 * The mount goes first, and an entry of the template for the same mount point goes away: among
 * entries of one mount point the later one would win, and the flag have no effect.
 */
static int flag_mount(const struct request *req, struct error *err)
{
    scoped(value_done) jv mounts = jv_invalid();
    scoped(free) char *json = NULL;
    scoped(free) char *home = NULL;
    int r = refuse_with(req, "mount-only", err);

    if (r == 0) {
        r = parse_mounts(req, true, &mounts, err);
    }
    if (r < 0) {
        return r;
    }
    json = value_to_json(jv_copy(mounts), false);
    home = quote(str_or_empty(path_home()));
    strv_addf(
        req->expressions,
        ".mounts = (%s as $new | $new + [.mounts // [] | .[] | select((.mountPoint // .location "
        "// \"\" | tostring | sub(\"^~(?=/|$)\"; %s)) as $at | "
        "any($new[]; .mountPoint == $at) | not)])",
        json, home);
    return 0;
}

static int flag_mount_only(const struct request *req, struct error *err)
{
    scoped(value_done) jv mounts = jv_invalid();
    scoped(free) char *json = NULL;
    int r = parse_mounts(req, false, &mounts, err);

    if (r < 0) {
        return r;
    }
    json = value_to_json(jv_copy(mounts), false);
    strv_addf(req->expressions, ".mounts = %s", json);
    return 0;
}

static int flag_mount_none(const struct request *req, struct error *err)
{
    int r = refuse_with(req, "mount", err);

    if (r == 0) {
        r = refuse_with(req, "mount-only", err);
    }
    if (r == 0 && strcmp(last(req), "true") == 0) {
        strv_add(req->expressions, ".mounts = null");
    }
    return r;
}

static int flag_mount_type(const struct request *req, struct error *err)
{
    return set_text(req, ".mountType", last(req));
}

static int flag_vm_type(const struct request *req, struct error *err)
{
    return set_text(req, ".vmType", last(req));
}

static int flag_mount_inotify(const struct request *req, struct error *err)
{
    experimental(req, "mount-inotify");
    return set_bool(req, ".mountInotify");
}

static int flag_mount_writable(const struct request *req, struct error *err)
{
    strv_addf(req->expressions, "if .mounts then .mounts |= map(.writable = %s) else . end",
              last(req));
    return 0;
}

/* One entry per network is kept; entries that name none (sockets) are left alone. */
static int flag_network(const struct request *req, struct error *err)
{
    scoped(value_done) jv list = jv_array();
    scoped(free) char *json = NULL;

    for (size_t i = 0; i < req->values->len; i++) {
        const char *text = req->values->items[i];

        if (strcmp(text, "vzNAT") == 0) {
            list = jv_array_append(list, JV_OBJECT(jv_string("vzNAT"), jv_true()));
        } else if (str_starts(text, "lima:") && text[5]) {
            list = jv_array_append(list, JV_OBJECT(jv_string("lima"), jv_string(text + 5)));
        } else {
            return error_set(err, EINVAL, "'%s' is neither 'vzNAT' nor 'lima:NAME'", text);
        }
    }
    json = value_to_json(jv_copy(list), false);
    strv_addf(
        req->expressions,
        ".networks = reduce ((.networks // []) + %s)[] as $n ([]; if any(.[]; (.lima != null and "
        ".lima == $n.lima) or (.vzNAT == true and $n.vzNAT == true)) "
        "then . else . + [$n] end)",
        json);
    return 0;
}

static int flag_nested_virt(const struct request *req, struct error *err)
{
    return set_bool(req, ".nestedVirtualization");
}

static int flag_rosetta(const struct request *req, struct error *err)
{
    set_bool(req, ".vmOpts.vz.rosetta.enabled");
    return set_bool(req, ".vmOpts.vz.rosetta.binfmt");
}

static int flag_set(const struct request *req, struct error *err)
{
    strv_extend(req->expressions, req->values);
    return 0;
}

static int flag_param(const struct request *req, struct error *err)
{
    scoped(value_done) jv params = jv_invalid();

    if (jv_get_kind(req->options->template) == JV_KIND_OBJECT) {
        params = jv_object_get(jv_copy(req->options->template), jv_string("param"));
    }
    for (size_t i = 0; i < req->values->len; i++) {
        const char *text = req->values->items[i];
        size_t n = strcspn(text, "=");
        scoped(free) char *key = xstrndup(text, n);
        scoped(free) char *key_json = quote(key);
        scoped(free) char *value_json = NULL;

        if (!n || !text[n]) {
            return error_set(err, EINVAL, "'%s' is not of the form NAME=VALUE", text);
        }
        if (jv_get_kind(params) != JV_KIND_OBJECT ||
            !jv_object_has(jv_copy(params), jv_string(key))) {
            return error_set(err, EINVAL, "template does not define param `%s`", key);
        }
        value_json = quote(text + n + 1);
        strv_addf(req->expressions, ".param[%s] = %s", key_json, value_json);
    }
    return 0;
}

static int flag_video(const struct request *req, struct error *err)
{
    return set_text(req, ".video.display", strcmp(last(req), "true") == 0 ? "default" : "none");
}

static int flag_audio_device(const struct request *req, struct error *err)
{
    experimental(req, "audio-device");
    return set_text(req, ".audio.device", last(req));
}

static int flag_audio_interface(const struct request *req, struct error *err)
{
    experimental(req, "audio-interface");
    return set_text(req, ".audio.interface", last(req));
}

static int flag_ssh_port(const struct request *req, struct error *err)
{
    long port = 0;
    int r = parse_number(last(req), 0, 65535, &port, err);

    if (r == 0) {
        strv_addf(req->expressions, ".ssh.localPort = %ld", port);
    }
    return r;
}

/* Keeps the images whose @key is the value; none left is an error that lists what there is. */
static int keep_images(const struct request *req, const char *key, struct error *err)
{
    scoped(free) char *quoted = quote(last(req));
    scoped(free) char *program = xasprintf(".images // [] | map(.%s // empty) | unique | "
                                           "[any(.[]; . == %s), join(\", \")]",
                                           key, quoted);
    scoped(value_done) jv results = jv_invalid();
    scoped(value_done) jv found = jv_invalid();
    scoped(value_done) jv names = jv_invalid();
    int r = not_empty(req, err);

    if (r == 0) {
        r = value_query(jv_copy(req->options->template), program, &results, err);
    }
    if (r < 0) {
        return r;
    }
    found = jv_array_get(jv_copy(results), 0);
    names = jv_array_get(jv_copy(found), 1);
    if (jv_get_kind(found) == JV_KIND_ARRAY && strcmp(jv_string_value(names), "") == 0) {
        return error_set(err, EINVAL, "no image of the template has a %s", key);
    }
    found = jv_array_get(found, 0);
    if (jv_get_kind(found) != JV_KIND_TRUE) {
        return error_set(err, EINVAL, "no image of the template has %s '%s', only: %s", key,
                         last(req), jv_string_value(names));
    }
    strv_addf(req->expressions, ".images |= map(select(.%s == %s))", key, quoted);
    return 0;
}

static int flag_image_variant(const struct request *req, struct error *err)
{
    return keep_images(req, "variant", err);
}

static int flag_arch_variant(const struct request *req, struct error *err)
{
    return keep_images(req, "archVariant", err);
}

static int flag_arch(const struct request *req, struct error *err)
{
    return set_text(req, ".arch", last(req));
}

static int flag_containerd(const struct request *req, struct error *err)
{
    static const struct {
        const char *name;
        bool user, system;
    } modes[] = {
        {"user", true, false},       {"system", false, true}, {"user+system", true, true},
        {"system+user", true, true}, {"none", false, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (strcmp(last(req), modes[i].name) == 0) {
            strv_addf(req->expressions, ".containerd.user = %s | .containerd.system = %s",
                      modes[i].user ? "true" : "false", modes[i].system ? "true" : "false");
            return 0;
        }
    }
    return error_set(err, EINVAL, "'%s' is none of user, system, user+system, none", last(req));
}

static int flag_plain(const struct request *req, struct error *err)
{
    return set_bool(req, ".plain");
}

/* "HOST:GUEST[,static=BOOL]" */
static int parse_port_forward(const char *text, jv *ret, struct error *err)
{
    struct strv parts = STRV_INIT, ports = STRV_INIT;
    scoped(free) char *trimmed = str_trim(text);
    bool is_static = false;
    long host = 0, guest = 0;
    int r = 0;

    strv_split(&parts, trimmed, ',');
    strv_split(&ports, parts.len ? parts.items[0] : "", ':');
    if (ports.len != 2 || parts.len > 2) {
        r = error_set(err, EINVAL, "'%s' is not of the form HOST:GUEST[,static=true]", text);
    } else if (parts.len == 2) {
        scoped(free) char *option = str_trim(parts.items[1]);

        is_static = strcmp(option, "static=true") == 0;
        if (!is_static && strcmp(option, "static=false") != 0) {
            r = error_set(err, EINVAL, "option '%s' is neither 'static=true' nor 'static=false'",
                          option);
        }
    }
    if (r == 0) {
        scoped(free) char *host_text = str_trim(ports.items[0]);
        scoped(free) char *guest_text = str_trim(ports.items[1]);

        r = parse_number(host_text, 1, 65535, &host, err);
        if (r == 0) {
            r = parse_number(guest_text, 1, 65535, &guest, err);
        }
    }
    strv_done(&parts);
    strv_done(&ports);
    if (r == 0) {
        *ret = JV_OBJECT(jv_string("guestPort"), jv_number((double)guest), jv_string("hostPort"),
                         jv_number((double)host), jv_string("static"), jv_bool(is_static));
    }
    return r;
}

static int flag_port_forward(const struct request *req, struct error *err)
{
    for (size_t i = 0; i < req->values->len; i++) {
        scoped(free) char *json = NULL;
        jv rule;
        int r = parse_port_forward(req->values->items[i], &rule, err);

        if (r < 0) {
            return r;
        }
        json = value_to_json(rule, false);
        strv_addf(req->expressions, ".portForwards += [%s]", json);
    }
    return 0;
}

static int flag_shell(const struct request *req, struct error *err)
{
    return set_text(req, ".user.shell", last(req));
}

/* ---- the table ---- */

#define NEW    .new_only = true
#define CREATE .create_only = true

const struct config_flag config_flags[] = {
    {"cpus", CONFIG_FLAG_INT, "number of CPUs"},
    {"dns", CONFIG_FLAG_LIST, "custom DNS `server`s (turns the host resolver off)"},
    {"memory", CONFIG_FLAG_FLOAT, "memory in `GiB`"},
    {"mount", CONFIG_FLAG_LIST, "folders to mount, suffix ':w' for writable: `DIR[:w]`"},
    {"mount-only", CONFIG_FLAG_LIST, "as --mount, but no other folder is mounted: `DIR[:w]`"},
    {"mount-none", CONFIG_FLAG_BOOL, "mount no folder"},
    {"mount-type", CONFIG_FLAG_STRING, "`TYPE` of mounts: agent, reverse-sshfs, 9p, virtiofs"},
    {"vm-type", CONFIG_FLAG_STRING, "virtual machine `TYPE`: qemu"},
    {"mount-inotify", CONFIG_FLAG_BOOL, "file events of the host reach the guest (experimental)"},
    {"mount-writable", CONFIG_FLAG_BOOL, "make all mounts writable"},
    {"network", CONFIG_FLAG_LIST, "additional `network`s, lima:NAME or vzNAT"},
    {"nested-virt", CONFIG_FLAG_BOOL, "nested virtualization"},
    {"rosetta", CONFIG_FLAG_BOOL, "Rosetta (macOS hosts)"},
    {"set", CONFIG_FLAG_ARRAY, "change the configuration by a jq `expression`: '.cpus = 4'"},
    {"param", CONFIG_FLAG_ARRAY, "set a parameter of the template: `NAME=VALUE`"},
    {"video", CONFIG_FLAG_BOOL, "video output"},
    {"audio-device", CONFIG_FLAG_STRING, "audio `device` (experimental)", CREATE},
    {"audio-interface", CONFIG_FLAG_STRING, "audio `interface`: hda, virtio (experimental)",
     CREATE},
    {"ssh-port", CONFIG_FLAG_PORT, "ssh `port` on the host, 0 for any"},
    {"image-variant", CONFIG_FLAG_STRING, "only images of this `variant`", NEW, CREATE},
    {"arch-variant", CONFIG_FLAG_STRING, "only images of this CPU `variant`", NEW, CREATE},
    {"arch", CONFIG_FLAG_STRING,
     "`ARCH` of the guest: x86_64, aarch64, armv7l, ppc64le, riscv64, s390x", NEW, CREATE},
    {"containerd", CONFIG_FLAG_STRING, "containerd `mode`: user, system, user+system, none", NEW,
     CREATE},
    {"disk", CONFIG_FLAG_FLOAT, "size of the disk in `GiB`"},
    {"plain", CONFIG_FLAG_BOOL, "plain mode: no mounts, no agent, only static forwards", NEW,
     CREATE},
    {"port-forward", CONFIG_FLAG_ARRAY, "forward a port: `HOST:GUEST[,static=true]`", CREATE},
    {"shell", CONFIG_FLAG_STRING, "`path` of the login shell in the guest"},
    {NULL},
};

static const translate translations[] = {
    flag_cpus,           flag_dns,           flag_memory,
    flag_mount,          flag_mount_only,    flag_mount_none,
    flag_mount_type,     flag_vm_type,       flag_mount_inotify,
    flag_mount_writable, flag_network,       flag_nested_virt,
    flag_rosetta,        flag_set,           flag_param,
    flag_video,          flag_audio_device,  flag_audio_interface,
    flag_ssh_port,       flag_image_variant, flag_arch_variant,
    flag_arch,           flag_containerd,    flag_disk,
    flag_plain,          flag_port_forward,  flag_shell,
};
static_assert(ARRAY_LEN(translations) + 1 == ARRAY_LEN(config_flags), "one translation a flag");

int config_flags_expressions(const struct config_flag_given *given, size_t count,
                             const struct config_flag_options *options,
                             struct strv *ret_expressions, struct strv *ret_warnings,
                             struct error *err)
{
    struct request req = {.options = options,
                          .given = given,
                          .count = count,
                          .expressions = ret_expressions,
                          .warnings = ret_warnings};

    for (size_t i = 0; config_flags[i].name; i++) {
        const struct config_flag *flag = &config_flags[i];
        int r;

        req.values = values_of(&req, flag->name);
        if (!req.values) {
            continue;
        }
        if (flag->new_only && !options->is_new) {
            strv_addf(ret_warnings,
                      "`--%s` is not applicable to an existing instance (hint: create a new "
                      "instance), ignoring",
                      flag->name);
            continue;
        }
        r = translations[i](&req, err);
        if (r < 0) {
            return error_wrap(err, r, "error while processing flag `%s`", flag->name);
        }
    }
    return 0;
}
