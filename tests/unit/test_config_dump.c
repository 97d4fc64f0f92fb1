/* SPDX-License-Identifier: Apache-2.0 */
#include "config_fixture.h"

#include "config/schema.h"
#include "util/yaml.h"

static char *dump_yaml(const struct config *config)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    yaml_dump(config_dump(config), &out);
    return buf_steal(&out);
}

static void test_dump_has_the_files_keys_and_all_values(void **state)
{
    const struct fixture *fixture = *state;
    scoped(free) char *text = fixture_golden("config_full.yaml");
    scoped(free) char *want = fixture_golden("config_full.dump");
    scoped(config_free) struct config *config = fixture_config(*state, text);
    scoped(free) char *got = NULL;

    /* the only value that depends on where the test runs */
    assert_non_null(strstr(config->port_forwards[1].host_socket, fixture->home));
    free(config->port_forwards[1].host_socket);
    config->port_forwards[1].host_socket = xstrdup("/home/me/.lima/box/sock/tool.sock");
    got = dump_yaml(config);
    assert_string_equal(got, want);
}

/* A dump is expanded, so it uses no param any more and cannot have one. */
static char *dump_without_params(const struct config *config)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    yaml_dump(jv_object_delete(config_dump(config), jv_string("param")), &out);
    return buf_steal(&out);
}

static void test_dump_loads_to_the_same(void **state)
{
    const struct fixture *fixture = *state;
    scoped(free) char *text = fixture_golden("config_full.yaml");
    scoped(config_free) struct config *first = fixture_config(*state, text);
    scoped(free) char *dump = dump_without_params(first);
    scoped(config_free) struct config *second = fixture_config(*state, dump);
    scoped(free) char *again = dump_without_params(second);

    assert_int_equal(fixture->warnings.len, 0);
    assert_string_equal(dump, again);
}

static void test_sizes_that_have_no_short_form_stay_exact(void **state)
{
    scoped(config_free) struct config *config =
        fixture_config(*state, IMAGE "memory: 4194000000\ndisk: 1536MiB\n");
    scoped(free) char *json = value_to_json(config_dump(config), false);

    assert_non_null(strstr(json, "\"memory\":\"4194000000\""));
    assert_non_null(strstr(json, "\"disk\":\"1.5GiB\""));
}

static void test_an_empty_time_zone_is_said(void **state)
{
    scoped(config_free) struct config *config = fixture_config(*state, IMAGE "timezone: ''\n");
    scoped(free) char *json = value_to_json(config_dump(config), false);

    assert_non_null(strstr(json, "\"timezone\":\"\""));
}

static void check_rows(const struct schema_object *object, jv schema)
{
    scoped(value_done) jv properties = jv_object_get(schema, jv_string("properties"));

    for (const struct schema_row *row = object->rows; row->key; row++) {
        scoped(value_done) jv value = jv_object_get(jv_copy(properties), jv_string(row->key));
        scoped(value_done) jv help = jv_object_get(jv_copy(value), jv_string("description"));

        assert_int_equal(jv_get_kind(value), JV_KIND_OBJECT);
        assert_string_equal(jv_string_value(help), row->help);
        if (row->type == SCHEMA_OBJECT && !row->object->short_key) {
            check_rows(row->object, jv_copy(value));
        }
    }
}

static void test_json_schema_describes_every_row(void **state)
{
    check_rows(&schema_root, config_json_schema());
}

static void test_table_has_the_keys_of_the_reference(void **state)
{
    size_t count = 0;

    while (schema_root.rows[count].key) {
        count++;
    }
    assert_int_equal(count, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dump_has_the_files_keys_and_all_values),
        cmocka_unit_test(test_dump_loads_to_the_same),
        cmocka_unit_test(test_sizes_that_have_no_short_form_stay_exact),
        cmocka_unit_test(test_an_empty_time_zone_is_said),
        cmocka_unit_test(test_json_schema_describes_every_row),
        cmocka_unit_test(test_table_has_the_keys_of_the_reference),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
