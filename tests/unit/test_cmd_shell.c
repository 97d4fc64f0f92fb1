/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include <stdlib.h>
#include "base/buf.h"
#include "cmd/shell_env.h"
#include "cmd/shell_escape.h"
#include "cmd/shell_script.h"
#include "util/process.h"

static const char *const none[] = {NULL};

static void test_script_of_each_kind(void **state)
{
    static const char *const command[] = {"sh", "-c", "exit 37", NULL};
    static const char *const assigned[] = {"A=x y", "B_1=", "cmd", "C=$z", NULL};
    static const char *const not_assigned[] = {"$(id)=x", "1A=x", NULL};
    scoped(strv_done) struct strv env = STRV_INIT;
    const struct {
        struct shell_script script;
        const char *want;
    } cases[] = {
        {{.words = none}, "exec \"$SHELL\" -l"},
        {{.shell = "/bin/bash", .words = none}, "exec /bin/bash -l"},
        {{.shell = "/my shell", .words = none}, "exec '/my shell' -l"},
        {{.shell = "sh", .workdir = "/tmp", .words = none}, "cd /tmp || exit 1 ; exec sh -l"},
        {{.shell = "sh", .workdir = "it's", .words = none},
         "cd 'it'\"'\"'s' || exit 1 ; exec sh -l"},
        {{.shell = "sh", .env = &env, .words = none}, "exec env A=b 'C=d e' sh -l"},
        {{.shell = "sh", .words = command}, "exec sh -l -c 'sh -c '\"'\"'exit 37'\"'\"''"},
        {{.shell = "sh", .words = assigned},
         "exec sh -l -c 'A='\"'\"'x y'\"'\"' B_1='\"'\"''\"'\"' cmd '\"'\"'C=$z'\"'\"''"},
        {{.shell = "sh", .words = not_assigned}, "exec sh -l -c ''\"'\"'$(id)=x'\"'\"' 1A=x'"},
    };

    strv_add_all(&env, "A=b", "C=d e", NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *got = shell_script_make(&cases[i].script);

        assert_string_equal(got, cases[i].want);
    }
}

/* What the guest's login shell would see: sshd runs it with -c SCRIPT. */
static void run_script(const struct shell_script *script, struct buf *out)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = shell_script_make(script);
    const char *argv[] = {"sh", "-c", text, NULL};

    assert_works(process_check(argv, 10000, out, &err), &err);
}

static void test_arguments_arrive_unchanged(void **state)
{
    static const char *const words[] = {
        "printf",
        "%s|",
        "",
        "two words",
        "it's",
        "a\"b",
        "line 1\nline 2\n",
        "$HOME",
        "`id`",
        "\\",
        "\\n",
        "*",
        "~",
        "-n",
        "--",
        "a;b&c|d>e",
        "'\"'\"'",
        "#",
        "!",
        "{a,b}",
        "x=y",
        "\t",
        "é",
        "sh -c 'echo \"nested '\\''quotes'\\''\"'",
        NULL,
    };
    const struct shell_script script = {.shell = "sh", .words = words};
    scoped(buf_done) struct buf out = BUF_INIT;
    scoped(buf_done) struct buf want = BUF_INIT;

    for (size_t i = 2; words[i]; i++) {
        buf_printf(&want, "%s|", words[i]);
    }
    run_script(&script, &out);
    assert_string_equal(buf_str(&out), buf_str(&want));
}

static void test_environment_and_folder_arrive_unchanged(void **state)
{
    static const char *const words[] = {"sh", "-c", "printf '%s|%s' \"$V\" \"$PWD\"", NULL};
    scoped(strv_done) struct strv env = STRV_INIT;
    const struct shell_script script = {
        .shell = "sh", .workdir = "/usr/bin/../lib", .env = &env, .words = words};
    scoped(buf_done) struct buf out = BUF_INIT;

    strv_add(&env, "V=it's $HOME\n\"x\"");
    run_script(&script, &out);
    assert_string_equal(buf_str(&out), "it's $HOME\n\"x\"|/usr/lib");
}

static void test_a_missing_folder_ends_it(void **state)
{
    static const char *const words[] = {"echo", "reached", NULL};
    const struct shell_script script = {.shell = "sh", .workdir = "/no where", .words = words};
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf out = BUF_INIT;
    scoped(free) char *text = shell_script_make(&script);
    const char *argv[] = {"sh", "-c", text, NULL};

    assert_int_equal(process_capture(argv, NULL, 10000, &out, NULL, &err), 1);
    assert_string_equal(buf_str(&out), "");
}

static const char *const host_env[] = {
    "PATH=/bin",        "HOME=/root",
    "SSH_AUTH_SOCK=/x", "XDG_RUNTIME_DIR=/run",
    "EDITOR=vi",        "GREETING=hello world",
    "_=/bin/sh",        "BASH_FUNC_f%%=() { :; }",
    "TERM=xterm",       "TERMS=1",
    "EMPTY=",           "=odd",
    "broken",           NULL,
};

static void test_environment_is_filtered_by_both_lists(void **state)
{
    static const struct {
        const char *block, *allow, *want;
    } cases[] = {
        {NULL, NULL, "EDITOR=vi|GREETING=hello world|TERMS=1|EMPTY="},
        {"", "", "EDITOR=vi|GREETING=hello world|TERMS=1|EMPTY="},
        {"+GREET*, EMPTY", NULL, "EDITOR=vi|TERMS=1"},
        {"+*", "PATH,SSH_*", "PATH=/bin|SSH_AUTH_SOCK=/x"},
        {"*_*,PATH,BASH*", " _ ,,",
         "HOME=/root|EDITOR=vi|GREETING=hello world|_=/bin/sh|"
         "TERM=xterm|TERMS=1|EMPTY="},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(strv_done) struct strv got = STRV_INIT;
        scoped(free) char *joined = NULL;

        assert_works(shell_env_select(host_env, cases[i].block, cases[i].allow, &got, &err), &err);
        joined = strv_join(&got, "|");
        assert_string_equal(joined, cases[i].want);
    }
}

static void test_patterns_with_other_characters_are_named(void **state)
{
    static const char *const bad[] = {"A-B", "A?", "+[a]", "X,Y Z", "A\\"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(strv_done) struct strv got = STRV_INIT;

        assert_fails(shell_env_select(host_env, bad[i], NULL, &got, &err), &err, EINVAL,
                     "Invalid LIMA_SHELLENV_BLOCK pattern");
        if (bad[i][0] != '+') {
            assert_fails(shell_env_select(host_env, NULL, bad[i], &got, &err), &err, EINVAL,
                         "Invalid LIMA_SHELLENV_ALLOW pattern");
        }
    }
}

static void test_the_default_list_is_the_documented_one(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv list = STRV_INIT;
    scoped(free) char *joined = NULL;

    assert_works(shell_env_block(NULL, &list, &err), &err);
    joined = strv_join(&list, " ");
    assert_string_equal(joined,
                        "BASH* DISPLAY DYLD_* EUID FPATH GID GROUP HOME HOSTNAME LD_* LOGNAME "
                        "OLDPWD PATH PWD SHELL SHLVL SSH_* TERM TERMINFO TMPDIR UID USER "
                        "XAUTHORITY XDG_* ZDOTDIR ZSH* _*");
}

static void test_keys_that_lead_out(void **state)
{
    static const struct {
        const char *keys, *want;
        bool left;
    } cases[] = {
        {"~.", "", true},       {"a~.b", "a~.b", false},    {"a\r~.rest", "a\r", true},
        {"~~.", "~.", false},   {"\n~~~.", "\n~~.", false}, {"~x", "~x", false},
        {"~\r~.", "~\r", true}, {"é\n~é", "é\n~é", false},  {"x~", "x~", false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t step = 1; step <= 8; step++) { /* however they are read */
            struct shell_escape escape = {0};
            char out[64];
            size_t len = 0, n, all = strlen(cases[i].keys);
            bool left = false;

            for (size_t at = 0; at < all && !left; at += step) {
                left = shell_escape_filter(&escape, cases[i].keys + at, MIN(step, all - at),
                                           out + len, &n);
                len += n;
            }
            out[len] = '\0';
            assert_string_equal(out, cases[i].want);
            assert_int_equal(left, cases[i].left);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_script_of_each_kind),
        cmocka_unit_test(test_arguments_arrive_unchanged),
        cmocka_unit_test(test_environment_and_folder_arrive_unchanged),
        cmocka_unit_test(test_a_missing_folder_ends_it),
        cmocka_unit_test(test_environment_is_filtered_by_both_lists),
        cmocka_unit_test(test_patterns_with_other_characters_are_named),
        cmocka_unit_test(test_the_default_list_is_the_documented_one),
        cmocka_unit_test(test_keys_that_lead_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
