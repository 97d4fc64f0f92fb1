/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/buf.h"
#include "cmd/flags.h"

static const struct cmd_flag table[] = {
    {"force", 'f', CMD_FLAG_BOOL, NULL, "Force it"},
    {"quiet", 'q', CMD_FLAG_BOOL, NULL, "Say nothing"},
    {"name", 'n', CMD_FLAG_STRING, NULL, "A `word` for it"},
    {"format", 0, CMD_FLAG_STRING, "table", "How it looks"},
    {"cpus", 0, CMD_FLAG_INT, "2", "CPUs"},
    {"port", 0, CMD_FLAG_PORT, NULL, "Port"},
    {"memory", 0, CMD_FLAG_FLOAT, NULL, "GiB"},
    {"timeout", 0, CMD_FLAG_DURATION, NULL, "Patience"},
    {"mount", 0, CMD_FLAG_LIST, NULL, "Folders"},
    {"set", 0, CMD_FLAG_ARRAY, NULL, "Expressions"},
    {"secret", 0, CMD_FLAG_BOOL, NULL, "Not shown", true},
    {0},
};

/* Words and arguments of one command line. */
struct line {
    struct cmd_flags *flags;
    struct strv words;
    struct strv args;
};

static int setup(void **state)
{
    struct line *line = xnew(struct line);

    line->flags = cmd_flags_new();
    cmd_flags_add(line->flags, "Flags", table);
    *state = line;
    return 0;
}

static int teardown(void **state)
{
    struct line *line = *state;

    cmd_flags_free(line->flags);
    strv_done(&line->words);
    strv_done(&line->args);
    free(line);
    return 0;
}

static int parse(struct line *line, const char *text, enum cmd_flags_mode mode, struct error *err)
{
    strv_split(&line->words, text, ' ');
    return cmd_flags_parse(line->flags, &line->words, 0, mode, &line->args, err);
}

static void test_every_form_of_a_value_is_understood(void **state)
{
    static const char *const lines[] = {"--name x", "--name=x", "-n x",  "-nx",
                                        "-n=x",     "-fn x",    "-fqnx", "-f --name x a"};

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        void *own;
        scoped(error_done) struct error err = ERROR_INIT;
        struct line *line;

        setup(&own);
        line = own;
        assert_works(parse(line, lines[i], CMD_FLAGS_INTERLEAVED, &err), &err);
        assert_string_equal(cmd_flags_text(line->flags, "name"), "x");
        teardown(&own);
    }
}

static void test_bools_take_a_value_only_behind_the_equals_sign(void **state)
{
    struct line *line = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(parse(line, "--force false --quiet=false", CMD_FLAGS_INTERLEAVED, &err), &err);
    assert_true(cmd_flags_bool(line->flags, "force"));
    assert_false(cmd_flags_bool(line->flags, "quiet"));
    assert_true(cmd_flags_given(line->flags, "quiet"));
    assert_int_equal(line->args.len, 1);
    assert_string_equal(line->args.items[0], "false");
}

static void test_arguments_and_flags_mix_until_two_dashes(void **state)
{
    struct line *line = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(parse(line, "a -f b - -- -q --name", CMD_FLAGS_INTERLEAVED, &err), &err);
    assert_true(cmd_flags_bool(line->flags, "force"));
    assert_false(cmd_flags_bool(line->flags, "quiet"));
    assert_int_equal(line->args.len, 5);
    assert_string_equal(line->args.items[2], "-");
    assert_string_equal(line->args.items[4], "--name");
}

static void test_reading_can_stop_at_the_first_argument(void **state)
{
    struct line *line = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(parse(line, "-f inst -- ls -q", CMD_FLAGS_STOP_AT_ARG, &err), &err);
    assert_false(cmd_flags_bool(line->flags, "quiet"));
    assert_int_equal(line->args.len, 4);
    assert_string_equal(line->args.items[1], "--");
}

static void test_reading_can_stop_before_the_first_argument(void **state)
{
    struct line *line = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_int_equal(parse(line, "--name a -f b -q", CMD_FLAGS_BEFORE_ARG, &err), 3);
    assert_int_equal(line->args.len, 0);
}

static void test_lists_split_at_commas_and_arrays_do_not(void **state)
{
    struct line *line = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(
        parse(line, "--mount a,b --mount c --set x,y --set z", CMD_FLAGS_INTERLEAVED, &err), &err);
    assert_int_equal(cmd_flags_list(line->flags, "mount")->len, 3);
    assert_string_equal(cmd_flags_list(line->flags, "mount")->items[1], "b");
    assert_int_equal(cmd_flags_list(line->flags, "set")->len, 2);
    assert_string_equal(cmd_flags_list(line->flags, "set")->items[0], "x,y");
}

static void test_the_last_value_counts_and_defaults_fill_in(void **state)
{
    struct line *line = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(parse(line, "--port 1 --port 0x50 --timeout 1m30s", CMD_FLAGS_INTERLEAVED, &err),
                 &err);
    assert_int_equal(cmd_flags_int(line->flags, "port"), 0x50);
    assert_int_equal(cmd_flags_int(line->flags, "cpus"), 2);
    assert_int_equal(cmd_flags_duration_ms(line->flags, "timeout"), 90000);
    assert_string_equal(cmd_flags_text(line->flags, "format"), "table");
    assert_null(cmd_flags_text(line->flags, "name"));
    assert_false(cmd_flags_given(line->flags, "format"));
}

static void test_wrong_words_are_refused_by_name(void **state)
{
    static const struct {
        const char *line;
        const char *message;
    } cases[] = {
        {"--nope", "unknown flag: --nope"},
        {"--nam x", "unknown flag: --nam"},
        {"--nope=1", "unknown flag: --nope"},
        {"-x", "unknown shorthand flag: 'x' in -x"},
        {"-fx", "unknown shorthand flag: 'x' in -fx"},
        {"---force", "bad flag syntax: ---force"},
        {"--=x", "bad flag syntax: --=x"},
        {"--name", "flag needs an argument: --name"},
        {"-n", "flag needs an argument: 'n' in -n"},
        {"-fn", "flag needs an argument: 'n' in -fn"},
        {"--force=maybe", "invalid argument \"maybe\" for \"-f, --force\" flag"},
        {"--cpus two", "invalid argument \"two\" for \"--cpus\" flag"},
        {"--cpus 1.5", "invalid argument \"1.5\" for \"--cpus\" flag"},
        {"--cpus 99999999999", "invalid argument"},
        {"--cpus=", "invalid argument \"\" for \"--cpus\" flag"},
        {"--cpus 0x", "invalid argument \"0x\""},
        {"--port 65536", "expected a number from 0 to 65535"},
        {"--port -1", "expected a number from 0 to 65535"},
        {"--memory 4G", "invalid argument \"4G\" for \"--memory\" flag"},
        {"--memory nan", "invalid argument"},
        {"--memory inf", "invalid argument"},
        {"--timeout 5", "expected a duration"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        void *own;
        scoped(error_done) struct error err = ERROR_INIT;

        setup(&own);
        assert_fails(parse(own, cases[i].line, CMD_FLAGS_INTERLEAVED, &err), &err, EINVAL,
                     cases[i].message);
        teardown(&own);
    }
}

static void test_help_names_types_values_and_defaults(void **state)
{
    struct line *line = *state;
    scoped(buf_done) struct buf out = BUF_INIT;
    const char *text;

    cmd_flags_help(line->flags, &out);
    text = buf_str(&out);
    assert_non_null(strstr(text, "\nFlags:\n"));
    assert_non_null(strstr(text, "  -f, --force "));
    assert_non_null(strstr(text, "  -n, --name word "));
    assert_non_null(strstr(text, "      --cpus int "));
    assert_non_null(strstr(text, "(default 2)"));
    assert_non_null(strstr(text, "(default \"table\")"));
    assert_non_null(strstr(text, "A word for it"));
    assert_null(strstr(text, "secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_form_of_a_value_is_understood),
        cmocka_unit_test_setup_teardown(test_bools_take_a_value_only_behind_the_equals_sign, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_arguments_and_flags_mix_until_two_dashes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_reading_can_stop_at_the_first_argument, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_reading_can_stop_before_the_first_argument, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_lists_split_at_commas_and_arrays_do_not, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_last_value_counts_and_defaults_fill_in, setup,
                                        teardown),
        cmocka_unit_test(test_wrong_words_are_refused_by_name),
        cmocka_unit_test_setup_teardown(test_help_names_types_values_and_defaults, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
