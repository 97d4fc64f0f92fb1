/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "text.h"

struct edit_case {
    const char *old;
    const char *want;
};

static void check(char *take_got, const char *want)
{
    scoped(free) char *got = take_got;

    assert_string_equal(got, want);
}

static void test_hosts_name_belongs_to_one_line(void **state)
{
    static const struct edit_case cases[] = {
        {"", "10.0.0.2 h.i\n"},
        {"127.0.0.1 localhost", "127.0.0.1 localhost\n10.0.0.2 h.i\n"},
        {"10.0.0.2 h.i\n", "10.0.0.2 h.i\n"},
        {"10.0.0.2 h.i\n10.0.0.2 h.i\n", "10.0.0.2 h.i\n"},
        {"9.9.9.9\th.i\n# h.i\n", "# h.i\n10.0.0.2 h.i\n"},
        {"9.9.9.9 a h.i b\n", "9.9.9.9 a b\n10.0.0.2 h.i\n"},
        {"9.9.9.9 h.i.example\n", "9.9.9.9 h.i.example\n10.0.0.2 h.i\n"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check(text_hosts(cases[i].old, "10.0.0.2", "h.i"), cases[i].want);
        check(text_hosts(cases[i].want, "10.0.0.2", "h.i"), cases[i].want);
    }
}

static void test_hosts_names_ignores_comments_and_addresses(void **state)
{
    assert_true(text_hosts_names("::1 a b\n", "b"));
    assert_false(text_hosts_names("::1 a # b\n", "b"));
    assert_false(text_hosts_names("b a\n", "b"));
    assert_false(text_hosts_names("", "b"));
}

static void test_block_is_replaced_appended_or_removed(void **state)
{
    check(text_block("A=1\n", "#S", "#E", "B=2\n"), "A=1\n#S\nB=2\n#E\n");
    check(text_block("#S\nold\n#E\nA=1\n", "#S", "#E", "B=2"), "#S\nB=2\n#E\nA=1\n");
    check(text_block("#S\nold\n#E\nA=1\n", "#S", "#E", ""), "A=1\n");
    check(text_block("", "#S", "#E", ""), "");
}

static void test_block_without_its_end_swallows_nothing(void **state)
{
    check(text_block("#S\nA=1\n", "#S", "#E", ""), "#S\nA=1\n");
}

static void test_missing_lines_are_appended_once(void **state)
{
    check(text_with_lines("a", "b\n\n  \na\nb"), "a\nb\n");
    check(text_with_lines("", ""), "");
}

static void test_a_user_keeps_the_ids_it_has(void **state)
{
    check(text_subid("lima:1:2\n", "lima", 10, 20), "lima:1:2\n");
    check(text_subid("limabean:1:2\n", "lima", 10, 20), "limabean:1:2\nlima:10:20\n");
}

static void test_yaml_scalar_of_a_top_level_key(void **state)
{
    check(text_yaml_scalar("a: x\ninstance-id: 'iid-1' \n", "instance-id"), "iid-1");
    check(text_yaml_scalar("b:\n", "b"), "");
    check(text_yaml_scalar("b:", "b"), "");
    check(text_yaml_scalar("b: \"", "b"), "\"");
    assert_null(text_yaml_scalar(" b: 1\nbb: 2\n", "b"));
    assert_null(text_yaml_scalar("", "b"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts_name_belongs_to_one_line),
        cmocka_unit_test(test_hosts_names_ignores_comments_and_addresses),
        cmocka_unit_test(test_block_is_replaced_appended_or_removed),
        cmocka_unit_test(test_block_without_its_end_swallows_nothing),
        cmocka_unit_test(test_missing_lines_are_appended_once),
        cmocka_unit_test(test_a_user_keeps_the_ids_it_has),
        cmocka_unit_test(test_yaml_scalar_of_a_top_level_key),
    };

    return cmocka_run_group_tests_name("guest_text", tests, NULL, NULL);
}
