/* SPDX-License-Identifier: Apache-2.0 */
#include "config/load.h"

#include <arpa/inet.h>
#include "base/alloc.h"
#include "config/schema.h"
#include "util/units.h"

/* The value of @field in the file's form; invalid: nothing to print. */
typedef jv (*dump_fn)(const struct schema_row *row, const struct config *config, const void *field);

static jv dump_object(const struct schema_object *object, const struct config *config,
                      const void *base);

static jv dump_bool(const struct schema_row *row, const struct config *config, const void *field)
{
    return jv_bool(*(const bool *)field);
}

static jv dump_int(const struct schema_row *row, const struct config *config, const void *field)
{
    return jv_number(*(const int *)field);
}

static jv dump_uint(const struct schema_row *row, const struct config *config, const void *field)
{
    return jv_number(*(const unsigned *)field);
}

/* An empty text says nothing unless the row's default is another. */
static jv dump_text(const struct schema_row *row, const struct config *config, const void *field)
{
    const char *text = *(char *const *)field;

    if (!text || (!*text && !row->host)) {
        return jv_invalid();
    }
    return jv_string(text);
}

static jv dump_enum(const struct schema_row *row, const struct config *config, const void *field)
{
    return jv_string(row->names[*(const int *)field]);
}

/* "4GiB" where that is exact, else plain bytes. */
static jv dump_size(const struct schema_row *row, const struct config *config, const void *field)
{
    int64_t bytes = *(const int64_t *)field;
    scoped(free) char *text = size_format(bytes);
    int64_t back;

    if (size_parse(text, &back, NULL) < 0 || back != bytes) {
        return jv_string_fmt("%lld", (long long)bytes);
    }
    return jv_string(text);
}

static jv dump_address(const struct schema_row *row, const struct config *config, const void *field)
{
    const struct config_address *address = field;
    char text[INET6_ADDRSTRLEN];

    if (!inet_ntop(address->family, &address->v4, text, sizeof(text))) {
        return jv_invalid();
    }
    return jv_string(text);
}

static jv dump_ports(const struct schema_row *row, const struct config *config, const void *field)
{
    const int *ports = field;

    return JV_ARRAY(jv_number(ports[0]), jv_number(ports[1]));
}

static jv dump_map(const struct schema_row *row, const struct config *config, const void *field)
{
    const struct config_pairs *pairs = field;
    jv map = jv_object();

    for (size_t i = 0; i < pairs->len; i++) {
        map = jv_object_set(map, jv_string(pairs->items[i].key), jv_string(pairs->items[i].value));
    }
    return map;
}

static jv dump_texts(const struct schema_row *row, const struct config *config, const void *field)
{
    const struct strv *texts = field;
    jv list = jv_array();

    for (size_t i = 0; i < texts->len; i++) {
        list = jv_array_append(list, jv_string(texts->items[i]));
    }
    return list;
}

static jv dump_arch_text(const struct schema_row *row, const struct config *config,
                         const void *field)
{
    const char *text = *(char *const *)field;

    if (!text || !*text) {
        return jv_invalid();
    }
    return jv_object_set(jv_object(), jv_string(config->arch), jv_string(text));
}

static jv dump_list(const struct schema_row *row, const struct config *config, const void *base)
{
    const char *items = *(char *const *)((const char *)base + row->offset);
    size_t count = *(const size_t *)((const char *)base + row->count_offset);
    jv list = jv_array();

    for (size_t i = 0; i < count; i++) {
        list =
            jv_array_append(list, dump_object(row->object, config, items + i * row->object->size));
    }
    return list;
}

static const dump_fn dumpers[SCHEMA_TYPE_COUNT] = {
    [SCHEMA_BOOL] = dump_bool,           [SCHEMA_INT] = dump_int,     [SCHEMA_UINT] = dump_uint,
    [SCHEMA_TEXT] = dump_text,           [SCHEMA_ENUM] = dump_enum,   [SCHEMA_SIZE] = dump_size,
    [SCHEMA_ADDRESS] = dump_address,     [SCHEMA_PORTS] = dump_ports, [SCHEMA_MAP] = dump_map,
    [SCHEMA_ARCH_TEXT] = dump_arch_text, [SCHEMA_TEXTS] = dump_texts,
};

static jv dump_row(const struct schema_row *row, const struct config *config, const void *base)
{
    const char *at = base;

    if (row->type == SCHEMA_OBJECT) {
        if (row->optional && !*(const bool *)(at + row->present_offset)) {
            return jv_invalid();
        }
        return dump_object(row->object, config, base);
    }
    if (!row->held) {
        return jv_invalid();
    }
    return row->type == SCHEMA_LIST ? dump_list(row, config, base)
                                    : dumpers[row->type](row, config, at + row->offset);
}

/* Objects of which nothing is held are left out with everything else that says nothing. */
static jv dump_object(const struct schema_object *object, const struct config *config,
                      const void *base)
{
    jv result = jv_object();

    for (const struct schema_row *row = object->rows; row->key; row++) {
        jv value = dump_row(row, config, base);
        bool empty = jv_get_kind(value) == JV_KIND_OBJECT && row->type == SCHEMA_OBJECT &&
                     jv_object_length(jv_copy(value)) == 0;

        if (jv_is_valid(value) && !empty) {
            result = jv_object_set(result, jv_string(row->key), value);
        } else {
            jv_free(value);
        }
    }
    return result;
}

jv config_dump(const struct config *config)
{
    return dump_object(&schema_root, config, config);
}
