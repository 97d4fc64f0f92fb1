/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "base/buf.h"
#include "ssh/ssh.h"
#include "util/process.h"

static const char *const nasty[] = {
    "",      "plain", "two words", "it's",     "'",   "''",  "\"",  "a\"b'c", "$HOME", "`id`",
    "$(id)", "a\nb",  "\n",        "\t",       "\\",  "\\n", "*",   "~",      "!x",    "a;b",
    "a&b",   "-x",    "{a,b}",     "\x01\x7f", "é ü", "#c",  "a=b", "%s",     "'\\''",
};

static void test_quoted_words_reach_a_shell_unchanged(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(nasty); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(buf_done) struct buf out = BUF_INIT;
        scoped(free) char *quoted = ssh_quote(nasty[i]);
        scoped(free) char *script = xasprintf("printf %%s %s", quoted);
        const char *argv[] = {"sh", "-c", script, NULL};

        assert_works(process_check(argv, 10000, &out, &err), &err);
        assert_string_equal(buf_str(&out), nasty[i]);
    }
}

static void test_quoting_twice_survives_two_shells(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(nasty); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(buf_done) struct buf out = BUF_INIT;
        scoped(free) char *once = ssh_quote(nasty[i]);
        scoped(free) char *inner = xasprintf("printf %%s %s", once);
        scoped(free) char *twice = ssh_quote(inner);
        scoped(free) char *script = xasprintf("sh -c %s", twice);
        const char *argv[] = {"sh", "-c", script, NULL};

        assert_works(process_check(argv, 10000, &out, &err), &err);
        assert_string_equal(buf_str(&out), nasty[i]);
    }
}

static void test_safe_words_stay_readable(void **state)
{
    scoped(free) char *safe = ssh_quote("/usr/bin/x-1_2.3,a=b%c@d:e+f");
    scoped(free) char *unsafe = ssh_quote("it's");

    assert_string_equal(safe, "/usr/bin/x-1_2.3,a=b%c@d:e+f");
    assert_string_equal(unsafe, "'it'\"'\"'s'");
}

static void test_quoted_words_split_back_into_one(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(nasty); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(strv_done) struct strv words = STRV_INIT;
        scoped(free) char *quoted = ssh_quote(nasty[i]);
        scoped(free) char *line = xasprintf(" x %s  y ", quoted);

        assert_works(ssh_words(line, &words, &err), &err);
        assert_int_equal(words.len, 3);
        assert_string_equal(words.items[1], nasty[i]);
    }
}

static void test_words_follow_the_shell(void **state)
{
    static const struct {
        const char *line, *joined;
    } cases[] = {
        {"", ""},
        {"  \t\n", ""},
        {"ssh -v", "ssh|-v"},
        {"\"/opt/my ssh/bin/ssh\" -F x", "/opt/my ssh/bin/ssh|-F|x"},
        {"a\\ b c", "a b|c"},
        {"a\"b c\"d'e f'g", "ab cde fg"},
        {"\"a\\\"b\\$c\\d\"", "a\"b$c\\d"},
        {"'' x", "|x"},
        {"a\\\nb", "ab"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(strv_done) struct strv words = STRV_INIT;
        scoped(free) char *joined = NULL;

        assert_works(ssh_words(cases[i].line, &words, &err), &err);
        joined = strv_join(&words, "|");
        assert_string_equal(joined, cases[i].joined);
    }
}

static void test_an_open_quote_is_refused(void **state)
{
    static const char *const bad[] = {"'a", "\"a", "a \"b\\\"", "x '"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(strv_done) struct strv words = STRV_INIT;

        assert_fails(ssh_words(bad[i], &words, &err), &err, EINVAL, "not closed");
        assert_int_equal(words.len, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quoted_words_reach_a_shell_unchanged),
        cmocka_unit_test(test_quoting_twice_survives_two_shells),
        cmocka_unit_test(test_safe_words_stay_readable),
        cmocka_unit_test(test_quoted_words_split_back_into_one),
        cmocka_unit_test(test_words_follow_the_shell),
        cmocka_unit_test(test_an_open_quote_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
