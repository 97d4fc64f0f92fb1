/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include "base/buf.h"
#include "cmd/run.h"
#include "util/file.h"
#include "util/path.h"

/* Calls @fn with every command, those below groups too. */
static void each_command(void (*fn)(const struct cmd *parent, const struct cmd *cmd))
{
    for (const struct cmd *const *c = cmd_table; *c; c++) {
        fn(NULL, *c);
        for (const struct cmd *const *s = (*c)->subcommands; s && *s; s++) {
            fn(*c, *s);
        }
    }
}

static void check_entry(const struct cmd *parent, const struct cmd *cmd)
{
    assert_true(str_starts(cmd->use, cmd->name));
    assert_non_null(cmd->brief);
    assert_false(str_ends(cmd->brief, "."));
    assert_true(cmd->run || cmd->subcommands);
    assert_true(cmd->max_args < 0 || cmd->min_args <= cmd->max_args);
}

static void test_every_command_is_complete(void **state)
{
    each_command(check_entry);
}

static void check_help(const struct cmd *parent, const struct cmd *cmd)
{
    scoped(free) char *text = cmd_help(parent, cmd);
    const struct cmd_flag *tables[] = {cmd->flags, cmd->more_flags};

    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        for (const struct cmd_flag *f = tables[i]; f && f->name; f++) {
            scoped(free) char *name = xasprintf("--%s ", f->name);

            if (!f->hidden && !strstr(text, name)) {
                fail_msg("help of '%s' lacks '%s'", cmd->name, name);
            }
        }
    }
    assert_non_null(strstr(text, "Usage:\n  limactl "));
    assert_non_null(strstr(text, "--log-level"));
}

static void test_help_of_each_command_mentions_each_flag(void **state)
{
    each_command(check_help);
}

/* The manual without the backslashes of its hyphens. */
static char *read_manual(void)
{
    scoped(free) char *path = path_join(getenv("SOURCE_ROOT"), "host/cmd/limactl.1");
    scoped(buf_done) struct buf raw = BUF_INIT;
    scoped(buf_done) struct buf text = BUF_INIT;

    assert_int_equal(file_read(path, 1 << 20, &raw, NULL), 0);
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.data[i] != '\\') {
            buf_putc(&text, raw.data[i]);
        }
    }
    return buf_steal(&text);
}

/* Every name in the flags sections of the help appears in @manual. */
static void check_manual(const struct cmd *parent, const struct cmd *cmd, const char *manual)
{
    scoped(free) char *help = cmd_help(parent, cmd);

    for (char *at = strstr(help, "Flags:"); at && (at = strstr(at, " --")); at += 3) {
        scoped(free) char *name = xstrndup(at + 1, 2 + strcspn(at + 3, " \n=):;,'\"`"));

        if (!strstr(manual, name)) {
            fail_msg("the manual lacks '%s' of '%s'", name, cmd->name);
        }
    }
}

static void test_manual_has_each_command_and_flag(void **state)
{
    scoped(free) char *manual = read_manual();

    for (const struct cmd *const *c = cmd_table; *c; c++) {
        scoped(free) char *heading = xasprintf("\n.SS %s", (*c)->name);

        assert_non_null(strstr(manual, heading));
        check_manual(NULL, *c, manual);
        for (const struct cmd *const *s = (*c)->subcommands; s && *s; s++) {
            check_manual(*c, *s, manual);
        }
    }
}

static void test_help_of_limactl_lists_the_commands_that_are_not_hidden(void **state)
{
    scoped(free) char *text = cmd_help(NULL, NULL);

    for (const struct cmd *const *c = cmd_table; *c; c++) {
        scoped(free) char *line = xasprintf("\n  %s ", (*c)->name);

        assert_int_equal(strstr(text, line) != NULL, (*c)->group != CMD_GROUP_HIDDEN);
    }
}

static void test_commands_are_found_by_alias(void **state)
{
    assert_ptr_equal(cmd_find(cmd_table, "ls"), &cmd_list);
    assert_ptr_equal(cmd_find(cmd_table, "rm"), &cmd_delete);
    assert_null(cmd_find(cmd_table, "lis"));
}

static void test_unknown_words_get_suggestions(void **state)
{
    static const struct {
        const char *word;
        const char *meant;
    } cases[] = {
        {"ssh", "\tshell\n"},    {"strt", "\tstart\n"}, {"lst", "\tlist\n"},
        {"val", "\tvalidate\n"}, {"STOP", "\tstop\n"},
    };
    scoped(error_done) struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_fails(cmd_unknown(NULL, cases[i].word, &err), &err, EINVAL, cases[i].meant);
    }
    cmd_unknown(NULL, "frobnicate", &err);
    assert_string_equal(error_text(&err), "unknown command \"frobnicate\" for \"limactl\"");
}

static void test_wrong_counts_are_explained(void **state)
{
    static const struct {
        int min, max;
        size_t given;
        const char *reason;
    } cases[] = {
        {1, 1, 0, "`limactl x` accepts 1 arg(s), received 0.\nSee `limactl x --help`."},
        {0, 1, 2, "`limactl x` accepts at most 1 arg(s), received 2."},
        {1, 2, 3, "`limactl x` accepts between 1 and 2 arg(s), received 3."},
        {1, -1, 0, "`limactl x` requires at least 1 arg(s), only received 0."},
        {0, 0, 1, "`limactl x` unknown command \"a\" for \"limactl x\"."},
    };
    scoped(error_done) struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cmd cmd = {.name = "x",
                          .use = "x [Y]",
                          .brief = "Do x",
                          .min_args = cases[i].min,
                          .max_args = cases[i].max};
        scoped(strv_done) struct strv args = STRV_INIT;

        for (size_t n = 0; n < cases[i].given; n++) {
            strv_add(&args, "a");
        }
        assert_fails(cmd_check_args(NULL, &cmd, &args, &err), &err, EINVAL, cases[i].reason);
        cmd_check_args(NULL, &cmd, &args, &err);
        assert_non_null(strstr(error_text(&err), "\n\nUsage:  limactl x [Y] [flags]\n\nDo x"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_command_is_complete),
        cmocka_unit_test(test_help_of_each_command_mentions_each_flag),
        cmocka_unit_test(test_manual_has_each_command_and_flag),
        cmocka_unit_test(test_help_of_limactl_lists_the_commands_that_are_not_hidden),
        cmocka_unit_test(test_commands_are_found_by_alias),
        cmocka_unit_test(test_unknown_words_get_suggestions),
        cmocka_unit_test(test_wrong_counts_are_explained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
