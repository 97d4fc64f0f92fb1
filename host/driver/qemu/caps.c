/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/caps.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/alloc.h"
#include "base/log.h"
#include "driver/qemu/args.h"
#include "driver/qemu/qmp_wire.h"
#include "util/digest.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"
#include "util/value.h"

#define PROBE_TIMEOUT_MS 20000
#define CACHE_MAX        (1u << 20)
#define CACHE_FORMAT     1 /* raised when the meaning of the cached form changes */

enum question {
    QUESTION_CAPABILITIES = 1,
    QUESTION_MACHINES,
    QUESTION_CPUS,
    QUESTION_ACCELS,
    QUESTION_DEVICES,
    QUESTION_SCHEMA,
};

const char qemu_caps_questions[] =
    "{\"execute\":\"qmp_capabilities\",\"id\":1}\n"
    "{\"execute\":\"query-machines\",\"id\":2}\n"
    "{\"execute\":\"query-cpu-definitions\",\"id\":3}\n"
    "{\"execute\":\"qom-list-types\",\"arguments\":{\"implements\":\"accel\"},\"id\":4}\n"
    "{\"execute\":\"qom-list-types\",\"arguments\":{\"implements\":\"device\"},\"id\":5}\n"
    "{\"execute\":\"query-qmp-schema\",\"id\":6}\n"
    "{\"execute\":\"quit\",\"id\":7}\n";

/* Only what the arguments may ever use; there are hundreds. */
static bool device_wanted(const char *name)
{
    static const char *const prefixes[] = {
        "virtio-", "virtconsole", "virtserialport", "scsi-", "qemu-xhci", "usb-",
        "tpm-",    "pci-serial",  "ich9-",          "hda-",  "vhost-",    "pvpanic"};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        if (str_starts(name, prefixes[i])) {
            return true;
        }
    }
    return false;
}

/* The lists of the struct: name in the cache, and where an answer has the names. */
static const struct list_row {
    const char *name;
    size_t offset;
    enum question question;
    const char *keys[2];              /* of the answer's objects: their strings are names */
    const char *suffix;               /* a name must end so; it is cut off. NULL: any */
    bool (*wanted)(const char *name); /* NULL: all */
    const char *values[2]; /* of the schema's enumeration that has both; its values are names */
} lists[] = {
    {"machines", offsetof(struct qemu_caps, machines), QUESTION_MACHINES, {"name", "alias"}},
    {"cpus", offsetof(struct qemu_caps, cpus), QUESTION_CPUS, {"name"}},
    {"accels", offsetof(struct qemu_caps, accels), QUESTION_ACCELS, {"name"}, "-accel"},
    {"devices",
     offsetof(struct qemu_caps, devices),
     QUESTION_DEVICES,
     {"name"},
     NULL,
     device_wanted},
    {"netdevs",
     offsetof(struct qemu_caps, netdevs),
     QUESTION_SCHEMA,
     {NULL},
     NULL,
     NULL,
     {"hubport", "tap"}},
    {"aios",
     offsetof(struct qemu_caps, aios),
     QUESTION_SCHEMA,
     {NULL},
     NULL,
     NULL,
     {"threads", "native"}},
};

static struct strv *caps_list(const struct qemu_caps *caps, const struct list_row *row)
{
    return (struct strv *)((char *)caps + row->offset);
}

void qemu_caps_free(struct qemu_caps *caps)
{
    if (!caps) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        strv_done(caps_list(caps, &lists[i]));
    }
    free(caps);
}

bool qemu_caps_at_least(const struct qemu_caps *caps, int major, int minor)
{
    return caps->major > major || (caps->major == major && caps->minor >= minor);
}

/* --- binary --- */

int qemu_binary_find(const char *arch, char **ret_path, struct strv *ret_extra, struct error *err)
{
    const struct qemu_arch *row = qemu_arch_find(arch);
    scoped(strv_done) struct strv words = STRV_INIT;
    scoped(free) char *name = NULL;
    const char *override;
    char *path;

    if (!row) {
        return error_set(err, ENOTSUP, "QEMU cannot run guests of architecture '%s'", arch);
    }
    override = getenv(row->env);
    name = xasprintf("qemu-system-%s", row->binary);
    strv_split(&words, override && *override ? override : name, ' ');
    path = process_find_program(words.items[0]);
    if (!path) {
        error_set(err, ENOENT, "no program '%s'", words.items[0]);
        error_hint(err, "install the package %s, or set %s", row->package, row->env);
        return -ENOENT;
    }
    *ret_path = path;
    for (size_t i = 1; i < words.len; i++) {
        if (*words.items[i]) {
            strv_add(ret_extra, words.items[i]);
        }
    }
    return 0;
}

/* --- answers --- */

static void strings_into(jv array, struct strv *out)
{
    jv_array_foreach(array, i, item)
    {
        if (jv_get_kind(item) == JV_KIND_STRING) {
            strv_add(out, jv_string_value(item));
        }
        jv_free(item);
    }
    jv_free(array);
}

static void take_name(jv object, const char *key, const struct list_row *row, struct strv *out)
{
    jv value = jv_object_get(jv_copy(object), jv_string(key));
    const char *name = jv_get_kind(value) == JV_KIND_STRING ? jv_string_value(value) : NULL;
    const char *suffix = str_or_empty(row->suffix);

    if (name && str_ends(name, suffix) && (!row->wanted || row->wanted(name))) {
        strv_take(out, xstrndup(name, strlen(name) - strlen(suffix)));
    }
    jv_free(value);
}

/* The names of an enumeration: strings in "values", in later versions objects in "members" only. */
static void enum_names(jv object, struct strv *out)
{
    jv values = jv_object_get(jv_copy(object), jv_string("values"));
    jv members = jv_object_get(jv_copy(object), jv_string("members"));

    if (jv_get_kind(values) == JV_KIND_ARRAY) {
        strings_into(jv_copy(values), out);
    } else if (jv_get_kind(members) == JV_KIND_ARRAY) {
        jv_array_foreach(members, i, member)
        {
            if (jv_get_kind(member) == JV_KIND_OBJECT) {
                jv name = jv_object_get(jv_copy(member), jv_string("name"));

                strings_into(JV_ARRAY(name), out);
            }
            jv_free(member);
        }
    }
    jv_free(values);
    jv_free(members);
}

/* The enumeration's names, if it is the one that @row wants. */
static void take_values(jv object, const struct list_row *row, struct strv *out)
{
    scoped(strv_done) struct strv names = STRV_INIT;

    enum_names(object, &names);
    if (strv_contains(&names, row->values[0]) && strv_contains(&names, row->values[1])) {
        strv_extend(out, &names);
    }
}

static int take_list(jv answer, const struct list_row *row, struct qemu_caps *caps,
                     struct error *err)
{
    struct strv *out = caps_list(caps, row);

    if (jv_get_kind(answer) != JV_KIND_ARRAY) {
        return error_set(err, EPROTO, "QEMU's %s are not a list", row->name);
    }
    jv_array_foreach(answer, i, item)
    {
        bool object = jv_get_kind(item) == JV_KIND_OBJECT;

        for (size_t k = 0; object && k < ARRAY_LEN(row->keys) && row->keys[k]; k++) {
            take_name(item, row->keys[k], row, out);
        }
        if (object && row->values[0]) {
            take_values(item, row, out);
        }
        jv_free(item);
    }
    strv_sort(out);
    return 0;
}

static int take_answer(const struct qmp_message *message, struct qemu_caps *caps, bool *seen,
                       struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        if (lists[i].question == message->id && !seen[i]) {
            int r = take_list(message->data, &lists[i], caps, err);

            if (r < 0) {
                return r;
            }
            seen[i] = true;
        }
    }
    return 0;
}

static int version_part(jv version, const char *name)
{
    jv qemu = jv_object_get(jv_copy(version), jv_string("qemu"));
    jv part = jv_get_kind(qemu) == JV_KIND_OBJECT ? jv_object_get(qemu, jv_string(name)) : qemu;
    int n = jv_get_kind(part) == JV_KIND_NUMBER ? (int)jv_number_value(part) : 0;

    jv_free(part);
    return n;
}

static int take_message(const struct qmp_message *message, struct qemu_caps *caps, bool *seen,
                        struct error *err)
{
    switch (message->kind) {
    case QMP_KIND_GREETING:
        caps->major = version_part(message->data, "major");
        caps->minor = version_part(message->data, "minor");
        caps->micro = version_part(message->data, "micro");
        return 0;
    case QMP_KIND_RETURN:
        return take_answer(message, caps, seen, err);
    case QMP_KIND_ERROR:
        return error_set(err, EPROTO, "QEMU refused question %d: %s", (int)message->id,
                         message->text);
    case QMP_KIND_EVENT:
        return 0;
    }
    return 0;
}

int qemu_caps_parse(const char *answers, size_t len, struct qemu_caps **ret, struct error *err)
{
    scoped(qemu_caps_free) struct qemu_caps *caps = xnew(struct qemu_caps);
    scoped(qmp_wire_done) struct qmp_wire wire;
    bool seen[ARRAY_LEN(lists)] = {false};
    int r;

    qmp_wire_init(&wire);
    r = qmp_wire_feed(&wire, answers, len, err);
    if (r < 0) {
        return r;
    }
    for (;;) {
        scoped(qmp_message_done) struct qmp_message message = QMP_MESSAGE_INIT;

        r = qmp_wire_next(&wire, &message, err);
        if (r > 0) {
            r = take_message(&message, caps, seen, err);
        } else if (r == 0) {
            break;
        }
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        if (!seen[i]) {
            return error_set(err, EPROTO, "QEMU did not name its %s", lists[i].name);
        }
    }
    *ret = steal(caps);
    return 0;
}

static int probe(const char *binary, struct qemu_caps **ret, struct error *err)
{
    const char *argv[] = {
        binary, "-nodefaults", "-no-user-config", "-machine", "none", "-S", "-display",
        "none", "-qmp",        "stdio",           NULL};
    scoped(buf_done) struct buf out = BUF_INIT, complaints = BUF_INIT;
    int r = process_capture(argv, qemu_caps_questions, PROBE_TIMEOUT_MS, &out, &complaints, err);

    if (r < 0) {
        return error_wrap(err, r, "asking '%s' what it can do", binary);
    }
    if (r > 0) {
        scoped(free) char *text = str_trim(buf_str(&complaints));

        return error_set(err, EIO, "asking '%s' what it can do: it ended with status %d: %s",
                         binary, r, text);
    }
    r = qemu_caps_parse(buf_str(&out), out.len, ret, err);
    return r < 0 ? error_wrap(err, r, "asking '%s' what it can do", binary) : 0;
}

/* --- cache --- */

char *qemu_caps_to_json(const struct qemu_caps *caps, const char *key)
{
    jv object =
        JV_OBJECT(jv_string("key"), jv_string(key), jv_string("version"),
                  JV_ARRAY(jv_number(caps->major), jv_number(caps->minor), jv_number(caps->micro)));

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        const struct strv *list = caps_list(caps, &lists[i]);
        jv array = jv_array();

        for (size_t j = 0; j < list->len; j++) {
            array = jv_array_append(array, jv_string(list->items[j]));
        }
        object = jv_object_set(object, jv_string(lists[i].name), array);
    }
    return value_to_json(object, false);
}

static bool key_matches(jv object, const char *key)
{
    jv value = jv_object_get(jv_copy(object), jv_string("key"));
    bool same = jv_get_kind(value) == JV_KIND_STRING && str_eq(jv_string_value(value), key);

    jv_free(value);
    return same;
}

static int number_at(jv array, int index)
{
    jv value = jv_array_get(jv_copy(array), index);
    int n = jv_get_kind(value) == JV_KIND_NUMBER ? (int)jv_number_value(value) : 0;

    jv_free(value);
    return n;
}

static bool caps_fill(struct qemu_caps *caps, jv object)
{
    jv version = jv_object_get(jv_copy(object), jv_string("version"));

    if (jv_get_kind(version) != JV_KIND_ARRAY) {
        jv_free(version);
        return false;
    }
    caps->major = number_at(version, 0);
    caps->minor = number_at(version, 1);
    caps->micro = number_at(version, 2);
    jv_free(version);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        jv array = jv_object_get(jv_copy(object), jv_string(lists[i].name));

        if (jv_get_kind(array) != JV_KIND_ARRAY) {
            jv_free(array);
            return false;
        }
        strings_into(array, caps_list(caps, &lists[i]));
    }
    return true;
}

struct qemu_caps *qemu_caps_from_json(const char *text, const char *key)
{
    scoped(qemu_caps_free) struct qemu_caps *caps = xnew(struct qemu_caps);
    jv object;
    bool good;

    if (value_from_json(text, &object, NULL) < 0) {
        return NULL;
    }
    good = jv_get_kind(object) == JV_KIND_OBJECT && key_matches(object, key) &&
           caps_fill(caps, object);
    jv_free(object);
    return good ? steal(caps) : NULL;
}

/* What a cached answer is good for. */
static int binary_key(const char *binary, char **ret, struct error *err)
{
    scoped(free) char *real = realpath(binary, NULL);
    struct stat st;

    if (!real || stat(real, &st) < 0) {
        return error_errno(err, errno, "looking at '%s'", binary);
    }
    *ret = xasprintf("%d %s %lld.%09ld %lld", CACHE_FORMAT, real, (long long)st.st_mtim.tv_sec,
                     st.st_mtim.tv_nsec, (long long)st.st_size);
    return 0;
}

static int cache_path(const char *binary, char **ret, struct error *err)
{
    scoped(free) char *cache = NULL;
    scoped(free) char *digest = digest_sha256_hex(binary, strlen(binary));
    scoped(free) char *name = xasprintf("%s-%.12s.json", path_base(binary), digest);
    int r = path_cache(&cache, err);

    if (r < 0) {
        return r;
    }
    *ret = path_join(cache, "qemu-caps", name);
    return 0;
}

static int cache_write(const char *path, const char *text, struct error *err)
{
    scoped(free) char *dir = path_dir(path);
    int r = file_mkdirs(dir, 0700, err);

    return r < 0 ? r : file_write_text(path, text, 0644, err);
}

/* A cache that cannot be written costs time only. */
static void cache_store(const char *path, const struct qemu_caps *caps, const char *key)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = qemu_caps_to_json(caps, key);

    if (cache_write(path, text, &err) < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "remembering what QEMU can do, ignoring");
    }
}

int qemu_caps_get(const char *binary, struct qemu_caps **ret, struct error *err)
{
    scoped(free) char *key = NULL, *path = NULL;
    scoped(buf_done) struct buf text = BUF_INIT;
    int r = binary_key(binary, &key, err);

    if (r < 0) {
        return r;
    }
    r = cache_path(binary, &path, err);
    if (r < 0) {
        return r;
    }
    if (file_read(path, CACHE_MAX, &text, NULL) == 0) {
        *ret = qemu_caps_from_json(buf_str(&text), key);
        if (*ret) {
            return 0;
        }
    }
    r = probe(binary, ret, err);
    if (r < 0) {
        return r;
    }
    cache_store(path, *ret, key);
    return 0;
}
