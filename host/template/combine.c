/* SPDX-License-Identifier: Apache-2.0 */
#include "template/combine.h"

#include <string.h>
#include "base/alloc.h"
#include "util/units.h"

/* ---- merging ---- */

enum list_rule {
    LIST_APPEND,  /* items of the base behind */
    LIST_PREPEND, /* before */
    LIST_KEEP,    /* only if the template has none */
    LIST_UNIQUE,  /* behind, each once */
};

static const struct {
    const char *path;
    enum list_rule rule;
} list_rules[] = {
    {".base", LIST_PREPEND},
    {".provision", LIST_PREPEND},
    {".probes", LIST_PREPEND},
    {".dns", LIST_KEEP},
    {".mountTypesUnsupported", LIST_UNIQUE},
};

/* Scalars of which the higher version wins. */
static const char *const versions[] = {".minimumLimaVersion", ".vmOpts.qemu.minimumVersion"};

static bool contains(jv list, jv item)
{
    bool found = false;

    jv_array_foreach(list, i, other)
    {
        found |= jv_equal(other, jv_copy(item));
    }
    return found;
}

static jv append_missing(jv list, jv more)
{
    jv_array_foreach(more, i, item)
    {
        if (contains(list, item)) {
            jv_free(item);
        } else {
            list = jv_array_append(list, item);
        }
    }
    jv_free(more);
    return list;
}

static jv merge_lists(jv top, jv base, const char *path)
{
    enum list_rule rule = LIST_APPEND;

    for (size_t i = 0; i < ARRAY_LEN(list_rules); i++) {
        if (strcmp(list_rules[i].path, path) == 0) {
            rule = list_rules[i].rule;
        }
    }
    switch (rule) {
    case LIST_PREPEND:
        return jv_array_concat(base, top);
    case LIST_UNIQUE:
        return append_missing(append_missing(jv_array(), top), base);
    case LIST_KEEP:
        if (jv_array_length(jv_copy(top)) > 0) {
            jv_free(base);
            return top;
        }
        jv_free(top);
        return base;
    default:
        return jv_array_concat(top, base);
    }
}

static bool base_is_newer(jv top, jv base, const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        if (strcmp(versions[i], path) == 0 && jv_get_kind(top) == JV_KIND_STRING &&
            jv_get_kind(base) == JV_KIND_STRING) {
            return version_compare(jv_string_value(top), jv_string_value(base)) < 0;
        }
    }
    return false;
}

static jv merge_at(jv top, jv base, const char *path)
{
    jv_kind kind = jv_get_kind(top);

    if (kind == JV_KIND_ARRAY && jv_get_kind(base) == kind) {
        return merge_lists(top, base, path);
    }
    if (kind != JV_KIND_OBJECT || jv_get_kind(base) != kind) {
        bool newer = base_is_newer(top, base, path);

        jv_free(newer ? top : base);
        return newer ? base : top;
    }
    jv_object_foreach(base, key, value)
    {
        if (jv_object_has(jv_copy(top), jv_copy(key))) {
            scoped(free) char *below = xasprintf("%s.%s", path, jv_string_value(key));

            value = merge_at(jv_object_get(jv_copy(top), jv_copy(key)), value, below);
        }
        top = jv_object_set(top, key, value);
    }
    jv_free(base);
    return top;
}

jv template_merge(jv top, jv base)
{
    return merge_at(top, base, "");
}

/* ---- lists with keys ---- */

struct keyed {
    const char *list;
    const char *key;
    const char *other_key;    /* counts where there is no key; may be NULL */
    const char *fields[14];   /* that are filled, "a.b" in a map below */
    const char *exclusive[3]; /* filled only where none of them is set */
};

static const struct keyed keyed_lists[] = {
    {"additionalDisks", "name", NULL, {"format", "fsType", "fsArgs"}, {NULL}},
    {"mounts",
     "mountPoint",
     "location",
     {"mountPoint", "writable", "sshfs.cache", "sshfs.followSymlinks", "sshfs.sftpDriver",
      "9p.securityModel", "9p.protocolVersion", "9p.msize", "9p.cache", "virtiofs.queueSize"},
     {NULL}},
    {"networks", "interface", NULL, {"macAddress", "vzNAT", "metric"}, {"lima", "socket"}},
};

static jv get(jv map, const char *key)
{
    jv value;

    if (jv_get_kind(map) != JV_KIND_OBJECT) {
        return jv_null();
    }
    value = jv_object_get(jv_copy(map), jv_string(key));
    if (!jv_is_valid(value)) {
        jv_free(value);
        return jv_null();
    }
    return value;
}

static bool is_unset(jv value)
{
    return jv_get_kind(value) == JV_KIND_NULL ||
           (jv_get_kind(value) == JV_KIND_ARRAY && jv_array_length(jv_copy(value)) == 0);
}

/* The key of an entry, or NULL: it is never combined. Caller frees. */
static char *key_of(const struct keyed *keyed, jv entry)
{
    scoped(value_done) jv key =
        jv_get_kind(entry) == JV_KIND_STRING ? jv_copy(entry) : get(entry, keyed->key);

    if (is_unset(key) && keyed->other_key) {
        jv_free(key);
        key = get(entry, keyed->other_key);
    }
    return jv_get_kind(key) == JV_KIND_STRING && *jv_string_value(key)
               ? xstrdup(jv_string_value(key))
               : NULL;
}

static jv path_of(const char *field)
{
    return jv_string_split(jv_string(field), jv_string("."));
}

static jv fill_field(const struct keyed *keyed, jv entry, const char *field, jv from)
{
    scoped(value_done) jv value = jv_getpath(jv_copy(from), path_of(field));
    jv old;

    if (!jv_is_valid(value) || is_unset(value)) {
        return entry;
    }
    if (jv_get_kind(entry) == JV_KIND_STRING) {
        entry = jv_object_set(jv_object(), jv_string(keyed->key), entry);
    }
    old = jv_getpath(jv_copy(entry), path_of(field));
    if (jv_is_valid(old) && is_unset(old)) {
        entry = jv_setpath(entry, path_of(field), jv_copy(value));
    }
    jv_free(old);
    return entry;
}

/* @entry with what it lacks of @from (borrowed). */
static jv fill(const struct keyed *keyed, jv entry, jv from)
{
    bool any = false;

    if (jv_get_kind(from) != JV_KIND_OBJECT) {
        return entry;
    }
    for (const char *const *field = keyed->exclusive; *field; field++) {
        scoped(value_done) jv value = get(entry, *field);

        any |= !is_unset(value);
    }
    for (const char *const *field = keyed->exclusive; *field && !any; field++) {
        entry = fill_field(keyed, entry, *field, from);
    }
    for (const char *const *field = keyed->fields; *field; field++) {
        entry = fill_field(keyed, entry, *field, from);
    }
    return entry;
}

/* Adds @entry (consumed) to the combined @list. */
static jv combine_entry(const struct keyed *keyed, jv list, jv entry)
{
    scoped(free) char *key = key_of(keyed, entry);
    bool all = key && strcmp(key, "*") == 0;
    int len = jv_array_length(jv_copy(list));
    bool found = all;

    for (int i = 0; key && i < len; i++) {
        jv earlier = jv_array_get(jv_copy(list), i);
        scoped(free) char *earlier_key = key_of(keyed, earlier);

        if (all || (!found && earlier_key && strcmp(earlier_key, key) == 0)) {
            found = true;
            list = jv_array_set(list, i, fill(keyed, earlier, entry));
        } else {
            jv_free(earlier);
        }
    }
    if (found) {
        jv_free(entry);
        return list;
    }
    return jv_array_append(list, entry);
}

jv template_combine(jv tree)
{
    for (size_t i = 0; i < ARRAY_LEN(keyed_lists); i++) {
        const struct keyed *keyed = &keyed_lists[i];
        scoped(value_done) jv old = get(tree, keyed->list);
        jv list = jv_array();

        if (jv_get_kind(old) != JV_KIND_ARRAY) {
            jv_free(list);
            continue;
        }
        jv_array_foreach(old, j, entry)
        {
            list = combine_entry(keyed, list, entry);
        }
        tree = jv_object_set(tree, jv_string(keyed->list), list);
    }
    return tree;
}
