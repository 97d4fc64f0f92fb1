/* SPDX-License-Identifier: Apache-2.0 */
#include "config/decode.h"

#include <arpa/inet.h>
#include <assert.h>
#include <string.h>
#include "base/alloc.h"
#include "config/config.h"
#include "util/units.h"

/* @value is borrowed and may be invalid: unset. */
typedef void (*decode_fn)(const struct schema_row *row, jv value, const char *arch, void *field);
typedef void (*done_fn)(void *field);

static const char *text_of(jv value)
{
    return jv_get_kind(value) == JV_KIND_STRING ? jv_string_value(value) : "";
}

static void decode_bool(const struct schema_row *row, jv value, const char *arch, void *field)
{
    *(bool *)field = jv_get_kind(value) == JV_KIND_TRUE;
}

static void decode_int(const struct schema_row *row, jv value, const char *arch, void *field)
{
    *(int *)field = jv_is_valid(value) ? (int)jv_number_value(value) : 0;
}

static void decode_uint(const struct schema_row *row, jv value, const char *arch, void *field)
{
    *(unsigned *)field = jv_is_valid(value) ? (unsigned)jv_number_value(value) : 0;
}

static void decode_text(const struct schema_row *row, jv value, const char *arch, void *field)
{
    *(char **)field = xstrdup(text_of(value));
}

static void decode_enum(const struct schema_row *row, jv value, const char *arch, void *field)
{
    int index = schema_name_index(row->names, text_of(value));

    *(int *)field = MAX(index, 0);
}

static void decode_size(const struct schema_row *row, jv value, const char *arch, void *field)
{
    int64_t bytes = 0;

    size_parse(text_of(value), &bytes, NULL);
    *(int64_t *)field = bytes;
}

static void decode_address(const struct schema_row *row, jv value, const char *arch, void *field)
{
    struct config_address *address = field;
    const char *text = text_of(value);

    address->family = AF_INET;
    if (inet_pton(AF_INET, text, &address->v4) != 1) {
        address->family = AF_INET6;
        inet_pton(AF_INET6, text, &address->v6);
    }
}

static void decode_ports(const struct schema_row *row, jv value, const char *arch, void *field)
{
    int *ports = field;

    for (int i = 0; i < 2 && jv_is_valid(value); i++) {
        ports[i] = (int)jv_number_value(jv_array_get(jv_copy(value), i));
    }
}

static void decode_map(const struct schema_row *row, jv value, const char *arch, void *field)
{
    struct config_pairs *pairs = field;
    scoped(value_done) jv keys = jv_null();

    if (!jv_is_valid(value)) {
        return;
    }
    keys = jv_keys(jv_copy(value)); /* sorted */
    pairs->len = (size_t)jv_array_length(jv_copy(keys));
    pairs->items = xnew_n(struct config_pair, pairs->len);
    jv_array_foreach(keys, i, key)
    {
        scoped(value_done) jv text = jv_object_get(jv_copy(value), jv_copy(key));

        pairs->items[i].key = xstrdup(jv_string_value(key));
        pairs->items[i].value = xstrdup(text_of(text));
        jv_free(key);
    }
}

static void decode_texts(const struct schema_row *row, jv value, const char *arch, void *field)
{
    if (!jv_is_valid(value)) {
        return;
    }
    jv_array_foreach(value, i, text)
    {
        strv_add(field, text_of(text));
        jv_free(text);
    }
}

static void decode_arch_text(const struct schema_row *row, jv value, const char *arch, void *field)
{
    scoped(value_done) jv text = jv_null();

    if (jv_is_valid(value)) {
        text = jv_object_get(jv_copy(value), jv_string(arch));
    }
    *(char **)field = xstrdup(text_of(text));
}

static void decode_list(const struct schema_row *row, jv value, const char *arch, void *field)
{
    size_t count = jv_is_valid(value) ? (size_t)jv_array_length(jv_copy(value)) : 0;
    char *items = count ? xcalloc(count, row->object->size) : NULL;

    for (size_t i = 0; i < count; i++) {
        scoped(value_done) jv item = jv_array_get(jv_copy(value), (int)i);

        config_decode(row->object, item, arch, items + i * row->object->size);
    }
    *(void **)field = items;
}

static const decode_fn decoders[SCHEMA_TYPE_COUNT] = {
    [SCHEMA_BOOL] = decode_bool,       [SCHEMA_INT] = decode_int,
    [SCHEMA_UINT] = decode_uint,       [SCHEMA_TEXT] = decode_text,
    [SCHEMA_ENUM] = decode_enum,       [SCHEMA_SIZE] = decode_size,
    [SCHEMA_ADDRESS] = decode_address, [SCHEMA_PORTS] = decode_ports,
    [SCHEMA_MAP] = decode_map,         [SCHEMA_ARCH_TEXT] = decode_arch_text,
    [SCHEMA_LIST] = decode_list,       [SCHEMA_TEXTS] = decode_texts,
};

void config_decode(const struct schema_object *object, jv tree, const char *arch, void *base)
{
    for (const struct schema_row *row = object->rows; row->key; row++) {
        scoped(value_done) jv value = jv_invalid();

        if (jv_get_kind(tree) == JV_KIND_OBJECT) {
            value = jv_object_get(jv_copy(tree), jv_string(row->key));
        }
        if (row->type == SCHEMA_OBJECT) {
            config_decode(row->object, value, arch, base);
            if (row->optional) {
                *(bool *)((char *)base + row->present_offset) = jv_is_valid(value);
            }
        } else if (row->held) {
            decoders[row->type](row, value, arch, (char *)base + row->offset);
        }
        if (row->held && row->type == SCHEMA_LIST) {
            *(size_t *)((char *)base + row->count_offset) =
                jv_is_valid(value) ? (size_t)jv_array_length(jv_copy(value)) : 0;
        }
    }
}

static void done_text(void *field)
{
    free(*(char **)field);
}

static void done_map(void *field)
{
    struct config_pairs *pairs = field;

    for (size_t i = 0; i < pairs->len; i++) {
        free(pairs->items[i].key);
        free(pairs->items[i].value);
    }
    free(pairs->items);
}

static void done_texts(void *field)
{
    strv_done(field);
}

static const done_fn dones[SCHEMA_TYPE_COUNT] = {
    [SCHEMA_TEXT] = done_text,
    [SCHEMA_MAP] = done_map,
    [SCHEMA_TEXTS] = done_texts,
    [SCHEMA_ARCH_TEXT] = done_text,
};

static void done_list(const struct schema_row *row, void *base)
{
    char *items = *(char **)((char *)base + row->offset);
    size_t count = *(size_t *)((char *)base + row->count_offset);

    for (size_t i = 0; i < count; i++) {
        config_decode_done(row->object, items + i * row->object->size);
    }
    free(items);
}

void config_decode_done(const struct schema_object *object, void *base)
{
    for (const struct schema_row *row = object->rows; row->key; row++) {
        if (row->type == SCHEMA_OBJECT) {
            config_decode_done(row->object, base);
        } else if (row->held && row->type == SCHEMA_LIST) {
            done_list(row, base);
        } else if (row->held && dones[row->type]) {
            dones[row->type]((char *)base + row->offset);
        }
    }
}
