/* SPDX-License-Identifier: Apache-2.0 */
#include "config/merge.h"

typedef jv (*merge_fn)(const struct schema_row *row, jv high, jv low);

static jv merge_first(const struct schema_row *row, jv high, jv low)
{
    jv_free(low);
    return high;
}

static jv merge_lists(const struct schema_row *row, jv high, jv low)
{
    return jv_array_concat(high, low);
}

static jv merge_maps(const struct schema_row *row, jv high, jv low)
{
    return jv_object_merge(low, high);
}

static jv merge_objects(const struct schema_row *row, jv high, jv low)
{
    return config_merge(row->object, high, low);
}

static const merge_fn mergers[SCHEMA_TYPE_COUNT] = {
    [SCHEMA_BOOL] = merge_first,     [SCHEMA_INT] = merge_first,   [SCHEMA_UINT] = merge_first,
    [SCHEMA_TEXT] = merge_first,     [SCHEMA_ENUM] = merge_first,  [SCHEMA_SIZE] = merge_first,
    [SCHEMA_ADDRESS] = merge_first,  [SCHEMA_PORTS] = merge_first, [SCHEMA_MAP] = merge_maps,
    [SCHEMA_ARCH_TEXT] = merge_maps, [SCHEMA_TEXTS] = merge_lists, [SCHEMA_FREE] = merge_maps,
    [SCHEMA_OBJECT] = merge_objects, [SCHEMA_LIST] = merge_lists,
};

jv config_merge(const struct schema_object *object, jv high, jv low)
{
    jv result = jv_copy(low);

    jv_object_foreach(high, key, value)
    {
        const struct schema_row *row = schema_find(object, jv_string_value(key));
        jv below = jv_object_get(jv_copy(low), jv_copy(key));

        if (jv_is_valid(below) && row) {
            value = mergers[row->type](row, value, below);
        } else {
            jv_free(below);
        }
        result = jv_object_set(result, key, value);
    }
    jv_free(high);
    jv_free(low);
    return result;
}
