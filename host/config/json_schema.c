/* SPDX-License-Identifier: Apache-2.0 */
#include "config/load.h"

#include "config/schema.h"

static jv set(jv object, const char *key, jv value)
{
    return jv_object_set(object, jv_string(key), value);
}

/* {"type": [@type, "null"]}: every key may be null, which is as good as absent. */
static jv nullable(const char *type)
{
    return set(jv_object(), "type", JV_ARRAY(jv_string(type), jv_string("null")));
}

static jv object_schema(const struct schema_object *object);

/* What stands for one item: a map, or a text where that is its short form. */
static jv item_schema(const struct schema_row *row)
{
    jv item;

    if (row->type == SCHEMA_TEXTS) {
        return set(jv_object(), "type", jv_string("string"));
    }
    item = object_schema(row->object);
    if (row->object->short_key) {
        item = set(jv_object(), "anyOf",
                   JV_ARRAY(item, set(jv_object(), "type", jv_string("string"))));
    }
    return item;
}

static jv schema_bool(const struct schema_row *row)
{
    return nullable("boolean");
}

static jv schema_int(const struct schema_row *row)
{
    jv result = nullable("integer");

    if (row->min || row->max) {
        /* zero may be a word for "unset" */
        double min = row->unset ? 0 : (double)row->min;

        result = set(result, "minimum", jv_number(min));
        result = set(result, "maximum", jv_number((double)row->max));
    }
    return result;
}

static jv schema_text(const struct schema_row *row)
{
    jv result = nullable("string");
    jv names = jv_array();

    for (size_t i = 0; row->names && row->names[i]; i++) {
        names = jv_array_append(names, jv_string(row->names[i]));
    }
    for (size_t i = 0; row->names && row->unset && row->unset[i]; i++) {
        names = jv_array_append(names, jv_string(row->unset[i]));
    }
    if (!row->names) {
        jv_free(names);
        return result;
    }
    return set(result, "enum", jv_array_append(names, jv_null()));
}

/* A size, which may be written as a plain number of bytes. */
static jv schema_size(const struct schema_row *row)
{
    return set(jv_object(), "type",
               JV_ARRAY(jv_string("string"), jv_string("integer"), jv_string("null")));
}

static jv schema_ports(const struct schema_row *row)
{
    jv result = set(nullable("array"), "items", set(jv_object(), "type", jv_string("integer")));

    return set(set(result, "minItems", jv_number(2)), "maxItems", jv_number(2));
}

static jv schema_map(const struct schema_row *row)
{
    return set(nullable("object"), "additionalProperties",
               set(jv_object(), "type",
                   JV_ARRAY(jv_string("string"), jv_string("number"), jv_string("boolean"),
                            jv_string("null"))));
}

static jv schema_list(const struct schema_row *row)
{
    jv list = set(nullable("array"), "items", item_schema(row));

    if (!row->single) {
        return list;
    }
    return set(jv_object(), "anyOf", JV_ARRAY(list, set(jv_object(), "type", jv_string("string"))));
}

static jv schema_free_form(const struct schema_row *row)
{
    return nullable("object");
}

static jv schema_object(const struct schema_row *row)
{
    return item_schema(row);
}

static jv (*const generators[SCHEMA_TYPE_COUNT])(const struct schema_row *row) = {
    [SCHEMA_BOOL] = schema_bool,     [SCHEMA_INT] = schema_int,
    [SCHEMA_UINT] = schema_int,      [SCHEMA_TEXT] = schema_text,
    [SCHEMA_ENUM] = schema_text,     [SCHEMA_SIZE] = schema_size,
    [SCHEMA_ADDRESS] = schema_text,  [SCHEMA_PORTS] = schema_ports,
    [SCHEMA_MAP] = schema_map,       [SCHEMA_ARCH_TEXT] = schema_map,
    [SCHEMA_TEXTS] = schema_list,    [SCHEMA_FREE] = schema_free_form,
    [SCHEMA_OBJECT] = schema_object, [SCHEMA_LIST] = schema_list,
};

static jv object_schema(const struct schema_object *object)
{
    jv properties = jv_object();

    for (const struct schema_row *row = object->rows; row->key; row++) {
        jv value = generators[row->type](row);

        value = set(value, "description", jv_string(row->help));
        if (row->successor) {
            value = set(value, "deprecated", jv_true());
        }
        properties = set(properties, row->key, value);
    }
    return set(set(nullable("object"), "properties", properties), "additionalProperties",
               jv_false());
}

jv config_json_schema(void)
{
    jv result = object_schema(&schema_root);

    result = set(result, "$schema", jv_string("https://json-schema.org/draft/2020-12/schema"));
    return set(result, "title", jv_string("Configuration of an instance"));
}
