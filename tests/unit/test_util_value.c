/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "util/value.h"
#include "util/yaml.h"

static void test_paths_survive_parsing_and_formatting(void **state)
{
    static const char *const paths[] = {".",           ".a",         ".mounts[0].location",
                                        ".[3]",        ".[\"a b\"]", ".param[\"x-y\"].z[0][1]",
                                        ".a[\"\\\"\"]"};

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(free) char *text = NULL;
        jv steps;

        assert_works(value_path_parse(paths[i], &steps, &err), &err);
        text = value_path_format(steps);
        assert_string_equal(text, paths[i]);
    }
}

static void test_bad_paths_are_refused(void **state)
{
    static const char *const paths[] = {"",       "a",           "..",     ".a.",  ".a[",
                                        ".a[-1]", ".a[0",        ".[\"a]", ".a b", ".a[1.5]",
                                        ".a[]",   ".[99999999]", ".\"a\\"};

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        jv steps;

        assert_fails(value_path_parse(paths[i], &steps, &err), &err, EINVAL, "path");
    }
}

static void test_position_of_the_nearest_parent_is_found(void **state)
{
    scoped(value_lines_free) struct value_lines *lines = value_lines_new();

    value_lines_set(lines, ".a[1].b", (struct value_pos){7, 3});
    value_lines_set(lines, ".a", (struct value_pos){5, 1});
    assert_int_equal(value_lines_find(lines, ".a[1].b").line, 7);
    assert_int_equal(value_lines_find(lines, ".a[9].b.c").line, 5);
    assert_int_equal(value_lines_find(lines, ".x").line, 0);
    assert_int_equal(value_lines_find(NULL, ".x").line, 0);
    assert_null(value_lines_at(lines, ".a[1].c"));
    assert_non_null(value_lines_item(value_lines_child(lines, "a"), 1));
}

static void test_json_keeps_the_order_unless_sorted(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *plain = NULL, *sorted = NULL;
    jv value;

    assert_works(value_from_json("{\"z\": \"<&>\", \"a\": [1, null]}", &value, &err), &err);
    plain = value_to_json(jv_copy(value), false);
    sorted = value_to_json(value, true);
    assert_string_equal(plain, "{\"z\":\"<&>\",\"a\":[1,null]}");
    assert_string_equal(sorted, "{\"a\":[1,null],\"z\":\"<&>\"}");
    assert_fails(value_from_json("{\"a\": ", &value, &err), &err, EINVAL, "not JSON");
}

static void test_query_returns_all_results(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = NULL;
    jv input, results;

    assert_works(value_from_json("{\"a\": [1, 2]}", &input, &err), &err);
    assert_works(value_query(input, ".a[] | . * 2", &results, &err), &err);
    text = value_to_json(results, false);
    assert_string_equal(text, "[2,4]");
}

static void test_query_refuses_what_reaches_outside(void **state)
{
    static const struct {
        const char *program;
        const char *words; /* NULL: allowed */
    } cases[] = {
        {"env", "env operations have been disabled"},
        {"$ENV.HOME", "env operations have been disabled"},
        {".a = env.HOME", "env operations have been disabled"},
        {"\"x \\(env.HOME)\"", "env operations have been disabled"},
        {"\"x \\(\"y \\($ENV)\")\"", "env operations have been disabled"},
        {"(1) | \"a(\" | env", "env operations have been disabled"},
        {"strenv(HOME)", "env operations have been disabled"},
        {"load(\"/etc/passwd\")", "file operations have been disabled"},
        {"load_str(\"/etc/passwd\")", "file operations have been disabled"},
        {"input", "file operations have been disabled"},
        {"import \"a\" as a; .", "file operations have been disabled"},
        {"include \"a\"; .", "file operations have been disabled"},
        {"system(\"id\")", "system operations have been disabled"},
        {"# env\n env", "env operations have been disabled"},
        {"def f: env; f", "env operations have been disabled"},
        {".env", NULL},
        {".env.HOME = 1", NULL},
        {"\"env $ENV\"", NULL},
        {"{env: 1, load : 2}", NULL},
        {". # env", NULL},
        {".a.input", NULL},
        {". as $env | 1", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        jv results;

        if (cases[i].words) {
            assert_fails(value_query(jv_object(), cases[i].program, &results, &err), &err, EINVAL,
                         cases[i].words);
        } else {
            assert_works(value_query(jv_object(), cases[i].program, &results, &err), &err);
            jv_free(results);
        }
    }
}

static void test_query_says_what_is_wrong(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    jv results;

    leaks_ignore(true); /* libjq loses tokens behind a syntax error */
    assert_fails(value_query(jv_null(), ".a = = 1", &results, &err), &err, EINVAL,
                 "expression '.a = = 1': syntax error");
    assert_fails(value_query(jv_null(), "nope(1)", &results, &err), &err, EINVAL,
                 "nope/1 is not defined");
    assert_fails(value_query(jv_number(1), ".a", &results, &err), &err, EINVAL,
                 "Cannot index number");
    assert_fails(value_query(jv_null(), "error({})", &results, &err), &err, EINVAL, "{}");
    leaks_ignore(false);
}

static void test_query_survives_any_cut_or_byte(void **state)
{
    static const char program[] =
        "{a: \"x\\(.b + (\"1\" | tonumber))\"} | .c[0] |= select(. != $x)";
    static const char bytes[] = "\"\\)[.\xff";

    leaks_ignore(true); /* libjq loses tokens behind a syntax error */
    for (size_t i = 0; i < sizeof(program); i++) {
        for (size_t j = 0; j < sizeof(bytes); j++) {
            scoped(free) char *text = xstrdup(program);
            jv results;

            text[i < sizeof(program) - 1 ? i : 0] = bytes[j];
            if (value_query(jv_object(), text, &results, NULL) == 0) {
                jv_free(results);
            }
        }
    }
    leaks_ignore(false);
}

static void test_integers_come_from_any_scalar_that_reads_as_number(void **state)
{
    static const struct {
        const char *yaml;
        int r;
        int64_t value;
    } cases[] = {
        {"8080", 0, 8080},
        {"\"8080\"", 0, 8080},
        {"'1.9'", 0, 1},
        {"1.9", 0, 1},
        {"-1.9", 0, -1},
        {"1e3", 0, 1000},
        {"0x10", 0, 16},
        {"0644", 0, 420},
        {"1_000", 0, 1000},
        {"9223372036854775807", 0, INT64_MAX},
        {"9223372036854775808", -ERANGE, 0},
        {"1e300", -ERANGE, 0},
        {"abc", -EINVAL, 0},
        {"\"\"", -EINVAL, 0},
        {"true", -EINVAL, 0},
        {"null", -EINVAL, 0},
        {"[1]", -EINVAL, 0},
        {"\"1 \"", -EINVAL, 0},
        {"\"nan\"", -EINVAL, 0},
        {"\"0x\"", -EINVAL, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(value_lines_free) struct value_lines *lines = NULL;
        scoped(value_done) jv value = jv_invalid();
        int64_t number = 0;

        assert_works(yaml_load("x", cases[i].yaml, strlen(cases[i].yaml), &value, &lines, &err),
                     &err);
        assert_int_equal(value_int(value, lines, &number), cases[i].r);
        assert_int_equal(number, cases[i].value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths_survive_parsing_and_formatting),
        cmocka_unit_test(test_bad_paths_are_refused),
        cmocka_unit_test(test_position_of_the_nearest_parent_is_found),
        cmocka_unit_test(test_json_keeps_the_order_unless_sorted),
        cmocka_unit_test(test_query_returns_all_results),
        cmocka_unit_test(test_query_refuses_what_reaches_outside),
        cmocka_unit_test(test_query_says_what_is_wrong),
        cmocka_unit_test(test_query_survives_any_cut_or_byte),
        cmocka_unit_test(test_integers_come_from_any_scalar_that_reads_as_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
