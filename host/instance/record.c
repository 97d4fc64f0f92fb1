/* SPDX-License-Identifier: Apache-2.0 */
#include "instance/record.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "instance/layout.h"
#include "util/sys.h"
#include "util/tmpl.h"

/* What a getter reads from. */
struct source {
    const struct instance *inst;
    const char *lima_home;
};

static jv text(const char *s)
{
    return jv_string(s ? s : "");
}

static jv get_name(const struct source *s)
{
    return text(s->inst->name);
}

static jv get_hostname(const struct source *s)
{
    return text(s->inst->hostname);
}

static jv get_status(const struct source *s)
{
    return text(instance_status_name(s->inst->status));
}

static jv get_dir(const struct source *s)
{
    return text(s->inst->dir);
}

static jv get_vm_type(const struct source *s)
{
    return text(s->inst->config ? s->inst->config->vm_type : "");
}

static jv get_arch(const struct source *s)
{
    return text(s->inst->config ? s->inst->config->arch : "");
}

static jv get_cpus(const struct source *s)
{
    return jv_number(s->inst->config ? s->inst->config->cpus : 0);
}

static jv get_memory(const struct source *s)
{
    return jv_number(s->inst->config ? (double)s->inst->config->memory : 0);
}

static jv get_disk(const struct source *s)
{
    return jv_number(s->inst->config ? (double)s->inst->config->disk : 0);
}

static jv get_message(const struct source *s)
{
    scoped(free) char *message = NULL;

    if (instance_message(s->inst, s->lima_home, &message, NULL) < 0) {
        return text("");
    }
    return text(message);
}

static jv get_nothing(const struct source *s)
{
    (void)s;
    return jv_array();
}

static jv get_no_text(const struct source *s)
{
    (void)s;
    return text("");
}

static jv get_ssh_port(const struct source *s)
{
    return jv_number(s->inst->ssh_port);
}

static jv get_ssh_config(const struct source *s)
{
    scoped(free) char *path = instance_path(s->inst, LAYOUT_SSH_CONFIG);

    return text(path);
}

static jv get_agent_pid(const struct source *s)
{
    return jv_number(s->inst->host_agent_pid);
}

static jv get_driver_pid(const struct source *s)
{
    return jv_number(s->inst->driver_pid);
}

static jv get_errors(const struct source *s)
{
    jv list = jv_array();

    for (size_t i = 0; i < s->inst->errors.len; i++) {
        list = jv_array_append(list, text(s->inst->errors.items[i]));
    }
    return list;
}

/* What the host agent reports as @key. */
static jv get_info(const struct source *s, const char *key)
{
    jv value;

    if (!jv_is_valid(s->inst->info)) {
        return jv_null();
    }
    value = jv_object_get(jv_copy(s->inst->info), jv_string(key));
    if (!jv_is_valid(value)) {
        jv_free(value);
        return jv_null();
    }
    return value;
}

static jv get_list(const struct source *s, const char *key)
{
    jv list = get_info(s, key);

    if (jv_get_kind(list) != JV_KIND_ARRAY) {
        jv_free(list);
        return jv_array();
    }
    return list;
}

static jv get_port_conflicts(const struct source *s)
{
    return get_list(s, "portConflicts");
}

static jv get_mount_failures(const struct source *s)
{
    return get_list(s, "mountFailures");
}

static jv get_config(const struct source *s)
{
    return s->inst->config ? config_dump(s->inst->config) : jv_null();
}

static jv get_ssh_address(const struct source *s)
{
    return text(s->inst->config ? "127.0.0.1" : "");
}

static jv get_protected(const struct source *s)
{
    return jv_bool(s->inst->is_protected);
}

static jv get_version(const struct source *s)
{
    return text(s->inst->version);
}

static jv get_param(const struct source *s)
{
    const struct config *config = s->inst->config;
    jv map = jv_object();

    for (size_t i = 0; config && i < config->param.len; i++) {
        map = jv_object_set(map, text(config->param.items[i].key),
                            text(config->param.items[i].value));
    }
    return map;
}

static jv get_guest(const struct source *s)
{
    return jv_is_valid(s->inst->guest) ? jv_copy(s->inst->guest) : jv_null();
}

static jv get_host_os(const struct source *s)
{
    (void)s;
    return text("linux");
}

static jv get_host_arch(const struct source *s)
{
    (void)s;
    return text(sys_arch());
}

static jv get_lima_home(const struct source *s)
{
    return text(s->lima_home);
}

static jv get_identity(const struct source *s)
{
    scoped(free) char *path = path_join(s->lima_home, LAYOUT_CONFIG_DIR, "user");

    return text(path);
}

enum presence {
    ALWAYS,
    UNLESS_EMPTY, /* left out of JSON when 0, "", [], {} or null */
    DEPRECATED,   /* always there, but not offered */
};

static const struct {
    const char *field; /* in Go */
    const char *key;   /* in JSON and YAML */
    jv (*get)(const struct source *source);
    enum presence presence;
} members[] = {
    {"Name", "name", get_name, ALWAYS},
    {"Hostname", "hostname", get_hostname, ALWAYS},
    {"Status", "status", get_status, ALWAYS},
    {"Dir", "dir", get_dir, ALWAYS},
    {"VMType", "vmType", get_vm_type, ALWAYS},
    {"Arch", "arch", get_arch, ALWAYS},
    {"CPUs", "cpus", get_cpus, UNLESS_EMPTY},
    {"Memory", "memory", get_memory, UNLESS_EMPTY},
    {"Disk", "disk", get_disk, UNLESS_EMPTY},
    {"Message", "message", get_message, UNLESS_EMPTY},
    {"AdditionalDisks", "additionalDisks", get_nothing, UNLESS_EMPTY},
    {"Networks", "network", get_nothing, UNLESS_EMPTY},
    {"SSHLocalPort", "sshLocalPort", get_ssh_port, UNLESS_EMPTY},
    {"SSHConfigFile", "sshConfigFile", get_ssh_config, UNLESS_EMPTY},
    {"HostAgentPID", "hostAgentPID", get_agent_pid, UNLESS_EMPTY},
    {"DriverPID", "driverPID", get_driver_pid, UNLESS_EMPTY},
    {"Errors", "errors", get_errors, UNLESS_EMPTY},
    {"Config", "config", get_config, UNLESS_EMPTY},
    {"SSHAddress", "sshAddress", get_ssh_address, UNLESS_EMPTY},
    {"PortConflicts", "portConflicts", get_port_conflicts, UNLESS_EMPTY},
    {"MountFailures", "mountFailures", get_mount_failures, UNLESS_EMPTY},
    {"Protected", "protected", get_protected, ALWAYS},
    {"LimaVersion", "limaVersion", get_version, ALWAYS},
    {"Param", "param", get_param, UNLESS_EMPTY},
    {"AutoStartedIdentifier", "autoStartedIdentifier", get_no_text, UNLESS_EMPTY},
    {"Guest", "guest", get_guest, UNLESS_EMPTY},
    {"HostOS", "HostOS", get_host_os, DEPRECATED},
    {"HostArch", "HostArch", get_host_arch, DEPRECATED},
    {"LimaHome", "LimaHome", get_lima_home, DEPRECATED},
    {"IdentityFile", "IdentityFile", get_identity, DEPRECATED},
};

static bool is_empty(jv value)
{
    bool empty;

    switch (jv_get_kind(value)) {
    case JV_KIND_NULL:
        return true;
    case JV_KIND_NUMBER:
        empty = jv_number_value(value) == 0;
        break;
    case JV_KIND_STRING:
        empty = jv_string_length_bytes(jv_copy(value)) == 0;
        break;
    case JV_KIND_ARRAY:
        empty = jv_array_length(jv_copy(value)) == 0;
        break;
    case JV_KIND_OBJECT:
        empty = jv_object_length(jv_copy(value)) == 0;
        break;
    default:
        empty = false;
    }
    return empty;
}

/* Maps without members go, at every depth. Consumes @value. */
static jv drop_empty_maps(jv value)
{
    jv result;

    if (jv_get_kind(value) == JV_KIND_ARRAY) {
        result = jv_array();
        jv_array_foreach(value, i, item)
        {
            result = jv_array_append(result, drop_empty_maps(item));
        }
    } else if (jv_get_kind(value) == JV_KIND_OBJECT) {
        result = jv_object();
        jv_object_foreach(value, key, item)
        {
            bool map = jv_get_kind(item) == JV_KIND_OBJECT;

            item = drop_empty_maps(item);
            if (map && is_empty(item)) {
                jv_free(key);
                jv_free(item);
            } else {
                result = jv_object_set(result, key, item);
            }
        }
    } else {
        return value;
    }
    jv_free(value);
    return result;
}

jv instance_record(const struct instance *inst, const char *lima_home)
{
    const struct source source = {inst, lima_home};
    jv record = jv_object();

    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        jv value = members[i].get(&source);

        if (members[i].presence == UNLESS_EMPTY && is_empty(value)) {
            jv_free(value);
        } else {
            record = jv_object_set(record, jv_string(members[i].key), value);
        }
    }
    return drop_empty_maps(record);
}

void instance_record_fields(struct strv *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (members[i].presence != DEPRECATED) {
            strv_add(ret, members[i].field);
        }
    }
    strv_sort(ret);
}

/* --- names as Go has them --- */

/* Words that Go spells in capitals when they begin a key. */
static const char *const initialisms[] = {"cpus", "cpu", "ssh", "vm", "os", "dns", "uid",
                                          "ca",   "tpm", "url", "id", "vz", "ip"};

/* "vmType" -> "VMType", "localPort" -> "LocalPort". Caller frees. */
static char *go_name(const char *key)
{
    char *name = xstrdup(key);

    for (size_t i = 0; i < ARRAY_LEN(initialisms); i++) {
        size_t len = strlen(initialisms[i]);

        if (str_starts(key, initialisms[i]) && !islower((unsigned char)key[len])) {
            for (size_t j = 0; j < len; j++) {
                name[j] = (char)toupper((unsigned char)name[j]);
            }
        }
    }
    if (str_eq(key, "cpus")) {
        strcpy(name, "CPUs");
    }
    *name = (char)toupper((unsigned char)*name);
    return name;
}

/* Renames the keys of structs, not those of the user's own maps. Consumes @value. */
static jv go_names(jv value)
{
    jv result;

    if (jv_get_kind(value) == JV_KIND_ARRAY) {
        result = jv_array();
        jv_array_foreach(value, i, item)
        {
            result = jv_array_append(result, go_names(item));
        }
    } else if (jv_get_kind(value) == JV_KIND_OBJECT) {
        result = jv_object();
        jv_object_foreach(value, key, item)
        {
            const char *old = jv_string_value(key);
            bool own = str_eq(old, "env") || str_eq(old, "param");
            scoped(free) char *name = go_name(old);

            result = jv_object_set(result, jv_string(name), own ? item : go_names(item));
            jv_free(key);
        }
    } else {
        return value;
    }
    jv_free(value);
    return result;
}

static jv go_record(const struct instance *inst, const char *lima_home, bool with_message)
{
    const struct source source = {inst, lima_home};
    jv record = jv_object();

    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        jv value;

        if (members[i].get == get_message && !with_message) {
            continue;
        }
        value = members[i].get(&source);
        if (members[i].get == get_config || members[i].get == get_guest) {
            value = go_names(value);
        }
        record = jv_object_set(record, jv_string(members[i].field), value);
    }
    return jv_object_set(record, jv_string("Instance"), jv_copy(record));
}

jv instance_record_go(const struct instance *inst, const char *lima_home)
{
    return go_record(inst, lima_home, true);
}

int instance_message(const struct instance *inst, const char *lima_home, char **ret,
                     struct error *err)
{
    char *message;
    size_t len;
    int r;

    if (!inst->config || !inst->config->message || !*inst->config->message) {
        *ret = xstrdup("");
        return 0;
    }
    r = tmpl_expand(inst->config->message, go_record(inst, lima_home, false), true, &message, err);
    if (r < 0) {
        return error_wrap(err, r, "expanding the message of instance `%s`", inst->name);
    }
    len = strlen(message);
    if (len > 0 && message[len - 1] == '\n') {
        message[len - 1] = '\0';
    }
    *ret = message;
    return 0;
}
