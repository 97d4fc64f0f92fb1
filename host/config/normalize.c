/* SPDX-License-Identifier: Apache-2.0 */
#include "config/normalize.h"

#include <limits.h>
#include <string.h>
#include "base/alloc.h"

/* One value on its way; children are made on the stack as the walk goes down. */
struct node {
    const struct config_source *source;
    struct config_report *report;
    const struct value_lines *at; /* NULL when the value came from no text */
    const char *path;             /* "images[0].arch" */
};

typedef jv (*normalize_fn)(const struct node *node, const struct schema_row *row, jv value);

static jv normalize_object(const struct node *node, const struct schema_object *object, jv value);

static char *node_place(const struct node *node)
{
    return config_report_place(node->source->name, value_lines_pos(node->at));
}

static void node_error(const struct node *node, const char *text)
{
    scoped(free) char *place = node_place(node);

    config_report_error(node->report, place, "'%s' %s", node->path, text);
}

/* "the text 'abc'", for messages; caller frees. */
static char *describe(jv value, const struct value_lines *at)
{
    scoped(free) char *text = value_text(value, at);

    switch (jv_get_kind(value)) {
    case JV_KIND_ARRAY:
        return xasprintf("a list");
    case JV_KIND_OBJECT:
        return xasprintf("a map");
    case JV_KIND_STRING:
        return xasprintf("the text '%.60s'", text);
    default:
        return xasprintf("%s", text ? text : "null");
    }
}

/* "must be @wanted, not ..."; consumes @value and yields nothing. */
static jv refuse(const struct node *node, jv value, const char *wanted)
{
    scoped(free) char *found = describe(value, node->at);
    scoped(free) char *text = xasprintf("must be %s, not %s", wanted, found);

    node_error(node, text);
    jv_free(value);
    return jv_invalid();
}

static char *join_names(const char *const *names)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    for (size_t i = 0; names[i]; i++) {
        buf_printf(&out, "%s'%s'", i == 0 ? "" : names[i + 1] ? ", " : " or ", names[i]);
    }
    return buf_steal(&out);
}

/* Unset words, allowed names, the row's check. True when the value stays. */
static bool accept_text(const struct node *node, const struct schema_row *row, const char *text)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (row->unset && schema_name_index(row->unset, text) >= 0) {
        return false;
    }
    if (row->names && schema_name_index(row->names, text) < 0) {
        scoped(free) char *names = join_names(row->names);
        scoped(free) char *message = xasprintf("must be %s, not '%s'", names, text);

        node_error(node, message);
        return false;
    }
    if (row->check && *text && row->check(text, &err) < 0) {
        node_error(node, error_text(&err));
        return false;
    }
    return true;
}

static jv normalize_bool(const struct node *node, const struct schema_row *row, jv value)
{
    jv_kind kind = jv_get_kind(value);

    if (kind != JV_KIND_TRUE && kind != JV_KIND_FALSE) {
        return refuse(node, value, "true or false");
    }
    return value;
}

static jv normalize_int(const struct node *node, const struct schema_row *row, jv value)
{
    int64_t min = row->min || row->max ? row->min : INT_MIN;
    int64_t max = row->min || row->max ? row->max : INT_MAX;
    scoped(free) char *text = NULL;
    int64_t number;

    if (value_int(value, node->at, &number) == 0) {
        text = xasprintf("%lld", (long long)number);
        if (row->unset && schema_name_index(row->unset, text) >= 0) {
            jv_free(value);
            return jv_invalid();
        }
    }
    if (!text || number < min || number > max) {
        scoped(free) char *wanted = min == INT_MIN ? xstrdup("an integer")
                                                   : xasprintf("an integer from %lld to %lld",
                                                               (long long)min, (long long)max);

        return refuse(node, value, wanted);
    }
    jv_free(value);
    return accept_text(node, row, text) ? jv_number((double)number) : jv_invalid();
}

/* The string of a scalar, or invalid after saying why not. */
static jv take_text(const struct node *node, jv value)
{
    scoped(free) char *text = value_text(value, node->at);
    scoped(value_done) jv string = jv_invalid();

    if (!text) {
        return refuse(node, value, "text");
    }
    string = jv_string(text);
    if (strcmp(jv_string_value(string), text) != 0) {
        return refuse(node, value, "text in UTF-8");
    }
    jv_free(value);
    return jv_copy(string);
}

static jv normalize_text(const struct node *node, const struct schema_row *row, jv value)
{
    jv text = take_text(node, value);

    if (jv_get_kind(text) == JV_KIND_STRING && !accept_text(node, row, jv_string_value(text))) {
        jv_free(text);
        return jv_invalid();
    }
    return text;
}

static jv normalize_ports(const struct node *node, const struct schema_row *row, jv value)
{
    static const struct schema_row port = {.type = SCHEMA_INT, .min = 0, .max = 65535};
    jv ports = jv_array();

    if (jv_get_kind(value) != JV_KIND_ARRAY || jv_array_length(jv_copy(value)) != 2) {
        jv_free(ports);
        return refuse(node, value, "a list of two ports, the first and the last");
    }
    jv_array_foreach(value, i, item)
    {
        struct node below = *node;
        jv number;

        below.at = value_lines_item(node->at, (size_t)i);
        number = normalize_int(&below, &port, item);
        ports = jv_array_append(ports, jv_is_valid(number) ? number : jv_number(0));
    }
    jv_free(value);
    return ports;
}

static void check_pair(const struct node *node, const struct schema_row *row, const char *key,
                       const char *value)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (row->names && schema_name_index(row->names, key) < 0) {
        scoped(free) char *names = join_names(row->names);
        scoped(free) char *message = xasprintf("has a key that is not %s", names);

        node_error(node, message);
    }
    if (row->check_pair && row->check_pair(key, value, &err) < 0) {
        node_error(node, error_text(&err));
    }
}

static jv normalize_map(const struct node *node, const struct schema_row *row, jv value)
{
    jv map = jv_object();

    if (jv_get_kind(value) != JV_KIND_OBJECT) {
        jv_free(map);
        return refuse(node, value, "a map");
    }
    jv_object_foreach(value, key, item)
    {
        scoped(free) char *path = xasprintf("%s.%s", node->path, jv_string_value(key));
        struct node below = *node;
        jv text;

        below.path = path;
        below.at = value_lines_child(node->at, jv_string_value(key));
        if (jv_get_kind(item) == JV_KIND_NULL) {
            jv_free(item);
            text = jv_string("");
        } else {
            text = take_text(&below, item);
        }
        if (jv_get_kind(text) == JV_KIND_STRING) {
            check_pair(&below, row, jv_string_value(key), jv_string_value(text));
            map = jv_object_set(map, jv_copy(key), text);
        }
        jv_free(key);
    }
    jv_free(value);
    return map;
}

static jv normalize_free(const struct node *node, const struct schema_row *row, jv value)
{
    if (jv_get_kind(value) != JV_KIND_OBJECT) {
        return refuse(node, value, "a map");
    }
    return value;
}

static jv normalize_row_object(const struct node *node, const struct schema_row *row, jv value)
{
    return normalize_object(node, row->object, value);
}

/* One item of a list: a text, or a map with its place. */
static jv normalize_item(const struct node *node, const struct schema_row *row, jv value)
{
    if (row->type == SCHEMA_TEXTS) {
        return normalize_text(node, row, value);
    }
    value = normalize_object(node, row->object, value);
    if (jv_get_kind(value) == JV_KIND_OBJECT) {
        scoped(free) char *place = node_place(node);

        value = jv_object_set(value, jv_string(SCHEMA_PLACE), jv_string(place));
    }
    return value;
}

static jv normalize_list(const struct node *node, const struct schema_row *row, jv value)
{
    jv list = jv_array();

    if (row->single && jv_get_kind(value) == JV_KIND_STRING) {
        return jv_array_append(list, normalize_item(node, row, value));
    }
    if (jv_get_kind(value) != JV_KIND_ARRAY) {
        jv_free(list);
        return refuse(node, value, "a list");
    }
    jv_array_foreach(value, i, item)
    {
        scoped(free) char *path = xasprintf("%s[%d]", node->path, i);
        struct node below = *node;
        jv done;

        below.path = path;
        below.at = value_lines_item(node->at, (size_t)i);
        done = normalize_item(&below, row, item);
        if (jv_is_valid(done)) {
            list = jv_array_append(list, done);
        } else {
            jv_free(done);
        }
    }
    jv_free(value);
    return list;
}

static const normalize_fn normalizers[SCHEMA_TYPE_COUNT] = {
    [SCHEMA_BOOL] = normalize_bool,         [SCHEMA_INT] = normalize_int,
    [SCHEMA_UINT] = normalize_int,          [SCHEMA_TEXT] = normalize_text,
    [SCHEMA_ENUM] = normalize_text,         [SCHEMA_SIZE] = normalize_text,
    [SCHEMA_ADDRESS] = normalize_text,      [SCHEMA_PORTS] = normalize_ports,
    [SCHEMA_MAP] = normalize_map,           [SCHEMA_ARCH_TEXT] = normalize_map,
    [SCHEMA_TEXTS] = normalize_list,        [SCHEMA_FREE] = normalize_free,
    [SCHEMA_OBJECT] = normalize_row_object, [SCHEMA_LIST] = normalize_list,
};

/* A value that changes nothing: false, zero, empty, or the row's own word for it. */
static bool is_inert(const struct schema_row *row, jv value)
{
    switch (jv_get_kind(value)) {
    case JV_KIND_TRUE:
        return false;
    case JV_KIND_NUMBER:
        return jv_number_value(value) == 0;
    case JV_KIND_STRING:
        return *jv_string_value(value) == '\0' ||
               (row->inert && strcmp(jv_string_value(value), row->inert) == 0);
    case JV_KIND_ARRAY:
        return jv_array_length(jv_copy(value)) == 0;
    case JV_KIND_OBJECT:
        return jv_object_length(jv_copy(value)) == 0;
    default:
        return true;
    }
}

/* Whether a valid value of @row goes into the tree; warns when the user should know that it does
 * not. */
static bool keep(const struct node *node, const struct schema_row *row, jv value)
{
    scoped(free) char *place = node_place(node);

    if (row->own && !node->source->own) {
        config_report_warning(node->report, place,
                              "'%s' counts only in the instance's own file, ignoring", node->path);
        return false;
    }
    if (row->successor && config_report_once(node->report, node->path)) {
        config_report_warning(node->report, place, "'%s' is deprecated, use '%s'", node->path,
                              row->successor);
    }
    if (row->use == SCHEMA_LATER && !is_inert(row, value) &&
        config_report_once(node->report, node->path)) {
        config_report_warning(node->report, place, "'%s' is not yet honoured, ignoring",
                              node->path);
    }
    return row->use != SCHEMA_LATER && row->use != SCHEMA_IDLE;
}

static void warn_unknown(const struct node *node, const struct schema_object *object,
                         const char *key)
{
    scoped(free) char *place =
        config_report_place(node->source->name, value_lines_key_pos(node->at));
    const char *near = schema_suggest(object, key);

    if (near) {
        config_report_warning(node->report, place,
                              "unknown key '%s' (did you mean '%s'?), ignoring", node->path, near);
    } else {
        config_report_warning(node->report, place, "unknown key '%s', ignoring", node->path);
    }
}

/* The value of one key; invalid when there is nothing to keep. */
static jv normalize_key(const struct node *node, const struct schema_object *object,
                        const char *key, jv value)
{
    const struct schema_row *row = schema_find(object, key);

    if (!row) {
        warn_unknown(node, object, key);
    }
    if (!row || jv_get_kind(value) == JV_KIND_NULL) {
        jv_free(value);
        return jv_invalid();
    }
    value = normalizers[row->type](node, row, value);
    if (jv_is_valid(value) && !keep(node, row, value)) {
        jv_free(value);
        return jv_invalid();
    }
    return value;
}

static jv normalize_object(const struct node *node, const struct schema_object *object, jv value)
{
    jv result = jv_object();

    if (jv_get_kind(value) == JV_KIND_STRING && object->short_key) {
        value = jv_object_set(jv_object(), jv_string(object->short_key), value);
    }
    if (jv_get_kind(value) != JV_KIND_OBJECT) {
        jv_free(result);
        return refuse(node, value, "a map");
    }
    jv_object_foreach(value, key, item)
    {
        const char *name = jv_string_value(key);
        scoped(free) char *path = xasprintf("%s%s%s", node->path, *node->path ? "." : "", name);
        struct node below = *node;
        jv done;

        below.path = path;
        below.at = value_lines_child(node->at, name);
        done = normalize_key(&below, object, name, item);
        if (jv_is_valid(done)) {
            result = jv_object_set(result, jv_copy(key), done);
        } else {
            jv_free(done);
        }
        jv_free(key);
    }
    jv_free(value);
    return result;
}

jv config_normalize(const struct schema_object *object, jv tree, const struct config_source *source,
                    struct config_report *report)
{
    const struct node root = {
        .source = source,
        .report = report,
        .at = source->lines,
        .path = "",
    };
    jv result;

    if (jv_get_kind(tree) == JV_KIND_NULL) {
        jv_free(tree);
        return jv_object();
    }
    if (jv_get_kind(tree) != JV_KIND_OBJECT) {
        scoped(free) char *place = node_place(&root);
        scoped(free) char *found = describe(tree, root.at);

        config_report_error(report, place, "a configuration must be a map, not %s", found);
        jv_free(tree);
        return jv_object();
    }
    result = normalize_object(&root, object, tree);
    return jv_is_valid(result) ? result : jv_object();
}
