/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

static void test_message_grows_outwards(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    int r = error_set(&err, EINVAL, "unknown key '%s'", "cpuz");

    assert_int_equal(r, -EINVAL);
    r = error_wrap(&err, r, "line %d", 3);
    assert_int_equal(error_wrap(&err, r, "reading '%s'", "lima.yaml"), -EINVAL);
    assert_string_equal(error_text(&err), "reading 'lima.yaml': line 3: unknown key 'cpuz'");
}

static void test_innermost_hint_stays(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;

    error_set(&err, ENOENT, "no such thing");
    error_hint(&err, "make one");
    assert_int_equal(error_hint(&err, "another"), -ENOENT);
    assert_string_equal(err.hint, "make one");
}

static void test_null_error_passes_the_number_through(void **state)
{
    assert_int_equal(error_set(NULL, EIO, "x"), -EIO);
    assert_int_equal(error_wrap(NULL, -EPERM, "x"), -EPERM);
    assert_int_equal(error_hint(NULL, "x"), -EINVAL); /* never success */
}

static void test_move_empties_the_source(void **state)
{
    scoped(error_done) struct error from = ERROR_INIT;
    scoped(error_done) struct error to = ERROR_INIT;

    error_errno(&from, ENOENT, "opening");
    assert_int_equal(error_move(&to, &from), -ENOENT);
    assert_int_equal(from.code, 0);
    assert_string_equal(error_text(&to), "opening: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_grows_outwards),
        cmocka_unit_test(test_innermost_hint_stays),
        cmocka_unit_test(test_null_error_passes_the_number_through),
        cmocka_unit_test(test_move_empties_the_source),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
