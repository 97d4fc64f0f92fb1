/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "base/log.h"

static const struct log_field fields[] = {{"path", "/tmp/x"}, {"error", "it's \"bad\"\n"}, {0}};

static void test_plain_line_quotes_what_is_not_bare(void **state)
{
    scoped(free) char *line =
        log_format_line(LOG_LEVEL_WARN, LOG_FORMAT_TEXT, false, false, fields, "Ignoring `x`");

    assert_non_null(strstr(line, "level=warning msg=\"Ignoring `x`\" error=\"it's \\\"bad\\\"\\n\""
                                 " path=/tmp/x\n"));
    assert_memory_equal(line, "time=\"2", 7);
}

static void test_terminal_line_pads_only_before_fields(void **state)
{
    scoped(free) char *line =
        log_format_line(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, true, false, NULL, "READY.");
    scoped(free) char *with =
        log_format_line(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, true, false, fields, "READY.");

    assert_string_equal(line + 4 + 6, " READY.\n");
    assert_int_equal(strstr(with, "error=") - strstr(with, "READY."), 45);
}

static void test_json_keys_are_sorted_and_escaped(void **state)
{
    scoped(free) char *line =
        log_format_line(LOG_LEVEL_ERROR, LOG_FORMAT_JSON, false, false, fields, "a\x01");

    assert_memory_equal(line, "{\"error\":\"it's \\\"bad\\\"\\n\",\"level\":\"error\",", 42);
    assert_non_null(strstr(line, "\"msg\":\"a\\u0001\",\"path\":\"/tmp/x\",\"time\":\"2"));
}

static void test_level_names_are_read_in_any_case(void **state)
{
    enum log_level level;

    assert_int_equal(log_level_parse("WARN", &level), 0);
    assert_int_equal(level, LOG_LEVEL_WARN);
    assert_int_equal(log_level_parse("loud", &level), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_line_quotes_what_is_not_bare),
        cmocka_unit_test(test_terminal_line_pads_only_before_fields),
        cmocka_unit_test(test_json_keys_are_sorted_and_escaped),
        cmocka_unit_test(test_level_names_are_read_in_any_case),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
