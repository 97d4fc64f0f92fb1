/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "base/ration.h"

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

/* Words of others: a guest's, a program's. */
static void test_what_steers_a_terminal_does_not_reach_it(void **state)
{
    static const struct log_field said[] = {{"error", "\xc2\x9b"
                                                      "2J\xc3\xa4"},
                                            {0}};
    scoped(free) char *line = log_format_line(LOG_LEVEL_WARN, LOG_FORMAT_TEXT, true, false, said,
                                              "a\033[2J\r\x7f\xc2\x9b"
                                              "2J\n\tb\xc3\xa4");

    assert_non_null(strstr(line, "a?[2J???2J\n\tb\xc3\xa4 "));
    assert_non_null(strstr(line, "error=\"\\x9b"
                                 "2J\xc3\xa4\"\n"));
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

static void test_limit_lets_a_burst_through_and_counts_the_rest(void **state)
{
    struct ration ration = RATION_INIT(10, 5);
    int granted = 0;

    for (int i = 0; i < 100; i++) {
        granted += ration_take(&ration, 1000);
    }
    assert_int_equal(granted, 10);
    assert_int_equal(ration.refused, 90);
    assert_false(ration_take(&ration, 1199));
    assert_true(ration_take(&ration, 1200));
    assert_false(ration_take(&ration, 1200));
    for (int i = 0; i < 100; i++) {
        granted += ration_take(&ration, 1000000);
    }
    assert_int_equal(granted, 20);
}

static void test_flood_of_lines_is_cut_but_for_errors(void **state)
{
    char path[] = "/tmp/lima-test-log.XXXXXX";
    int fd = mkstemp(path), own = dup(STDERR_FILENO);
    struct stat st;

    dup2(fd, STDERR_FILENO);
    log_set_limit(100, 1);
    for (int i = 0; i < 100000; i++) {
        log_info("flood");
    }
    log_error("seen");
    log_set_limit(1, 1000);
    dup2(own, STDERR_FILENO);
    assert_int_equal(fstat(fd, &st), 0);
    assert_in_range(st.st_size, 100 * 40, 110 * 100);
    unlink(path);
    close(fd);
    close(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_line_quotes_what_is_not_bare),
        cmocka_unit_test(test_terminal_line_pads_only_before_fields),
        cmocka_unit_test(test_what_steers_a_terminal_does_not_reach_it),
        cmocka_unit_test(test_json_keys_are_sorted_and_escaped),
        cmocka_unit_test(test_limit_lets_a_burst_through_and_counts_the_rest),
        cmocka_unit_test(test_flood_of_lines_is_cut_but_for_errors),
        cmocka_unit_test(test_level_names_are_read_in_any_case),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
