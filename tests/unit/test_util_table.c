/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdio.h>
#include "util/table.h"

static void test_columns_are_as_wide_as_their_longest_cell_and_four(void **state)
{
    static const char *const headers[] = {"NAME", "S", "DIR", NULL};
    scoped(table_free) struct table *table = table_new(headers);
    scoped(free) char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    table_row(table, (const char *const[]){"default", "", "~/x"});
    table_row(table, (const char *const[]){"a", "\xc3\xa4", ""});
    table_print(table, out);
    fclose(out);
    assert_string_equal(text, "NAME       S    DIR\n"
                              "default         ~/x\n"
                              "a          \xc3\xa4    \n");
}

static void test_no_rows_print_the_headers(void **state)
{
    static const char *const headers[] = {"A", "B", NULL};
    scoped(table_free) struct table *table = table_new(headers);
    scoped(free) char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    table_print(table, out);
    fclose(out);
    assert_string_equal(text, "A    B\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_are_as_wide_as_their_longest_cell_and_four),
        cmocka_unit_test(test_no_rows_print_the_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
