/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include "util/path.h"

static void test_join_puts_exactly_one_slash(void **state)
{
    static const struct {
        const char *a, *b, *want;
    } cases[] = {
        {"/a", "b", "/a/b"}, {"/a/", "/b", "/a/b"}, {"/", "b", "/b"},
        {"", "b", "b"},      {"a", "", "a/"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *got = path_join(cases[i].a, cases[i].b);

        assert_string_equal(got, cases[i].want);
    }
}

static void test_clean_is_lexical(void **state)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"/a/./b//c/../d", "/a/b/d"}, {"/..", "/"}, {"", "."},           {"a/..", "."},
        {"../a/../..", "../.."},      {"/", "/"},   {"a/b/../c", "a/c"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *got = path_clean(cases[i].in);

        assert_string_equal(got, cases[i].want);
    }
}

static void test_tilde_of_another_user_is_refused(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = NULL;

    assert_fails(path_expand("~root/x", &path, &err), &err, EINVAL, "'~root/x'");
    setenv("HOME", "/home/u", 1);
    assert_works(path_expand("~/x/../y", &path, &err), &err);
    assert_string_equal(path, "/home/u/y");
}

static void test_below_stops_at_component_boundaries(void **state)
{
    assert_true(path_is_below("/a/b", "/a"));
    assert_true(path_is_below("/a", "/a"));
    assert_false(path_is_below("/ab", "/a"));
    assert_true(path_is_below("/x", "/"));
}

static void test_parent_and_last_component(void **state)
{
    scoped(free) char *top = path_dir("/a");
    scoped(free) char *none = path_dir("a");
    scoped(free) char *dir = path_dir("/a/b");

    assert_string_equal(top, "/");
    assert_string_equal(none, ".");
    assert_string_equal(dir, "/a");
    assert_string_equal(path_base("/a/b"), "b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join_puts_exactly_one_slash),
        cmocka_unit_test(test_clean_is_lexical),
        cmocka_unit_test(test_tilde_of_another_user_is_refused),
        cmocka_unit_test(test_below_stops_at_component_boundaries),
        cmocka_unit_test(test_parent_and_last_component),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
