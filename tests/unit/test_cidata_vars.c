/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "test.h"
#include "base/buf.h"
#include "cidata/vars.h"
#include "util/file.h"
#include "util/path.h"

static struct config example(void)
{
    return (struct config){
        .instance = "a.b",
        .dir = "/h/a.b",
        .vm_type = "qemu",
        .user = {.name = "me",
                 .comment = "Me: the \"User\"\x7f",
                 .home = "/home/me.guest",
                 .shell = "/bin/bash",
                 .uid = 501,
                 .passwordless_sudo = true},
        .timezone = "Europe/Berlin",
        .guest_install_prefix = "/usr/local",
    };
}

static void assert_golden(const char *name, const struct buf *got)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(getenv("SOURCE_ROOT"), "tests/unit/golden", name);
    scoped(buf_done) struct buf want = BUF_INIT;

    if (getenv("UPDATE_GOLDEN")) {
        assert_int_equal(file_write_text(path, buf_str(got), 0644, NULL), 0);
    }
    assert_works(file_read(path, 1 << 20, &want, &err), &err);
    assert_string_equal(buf_str(got), buf_str(&want));
}

static void test_lima_env_of_a_usual_guest(void **state)
{
    struct config config = example();
    const struct vars_facts facts = {
        .config = &config, .instance_id = "iid-0", .hostname = "lima-a-b"};
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf out = BUF_INIT;

    assert_works(vars_lima_env(&facts, &out, &err), &err);
    assert_golden("cidata_lima.env", &out);
}

static void test_lima_env_of_a_plain_guest_that_asks_for_much(void **state)
{
    struct config config = example();
    const struct vars_facts facts = {
        .config = &config, .instance_id = "iid-0", .hostname = "lima-a-b", .debug = true};
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf out = BUF_INIT;

    config.plain = true;
    config.upgrade_packages = true;
    config.user.passwordless_sudo = false;
    assert_works(vars_lima_env(&facts, &out, &err), &err);
    assert_golden("cidata_lima_plain.env", &out);
}

static void test_no_field_can_add_a_line(void **state)
{
    struct config config = example();
    char **const fields[] = {&config.user.name, &config.user.home, &config.user.shell,
                             &config.guest_install_prefix, &config.vm_type};
    const struct vars_facts facts = {
        .config = &config, .instance_id = "iid-0", .hostname = "lima-a-b"};

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(buf_done) struct buf out = BUF_INIT;
        char *good = *fields[i];

        *fields[i] = "x\nLIMA_CIDATA_UID=0";
        assert_fails(vars_lima_env(&facts, &out, &err), &err, EINVAL, "line break");
        *fields[i] = good;
    }
}

static void test_pairs_keep_their_values_literally(void **state)
{
    struct config_pair items[] = {{"k", "v"}, {"_K2", " a=b \"c\" 'd' $e # f\\"}, {"EMPTY", ""}};
    const struct config_pairs pairs = {items, ARRAY_LEN(items)};
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf param = BUF_INIT;
    scoped(buf_done) struct buf env = BUF_INIT;

    assert_works(vars_param_env(&pairs, &param, &err), &err);
    assert_string_equal(buf_str(&param),
                        "PARAM_k=v\nPARAM__K2= a=b \"c\" 'd' $e # f\\\nPARAM_EMPTY=\n");
    assert_works(vars_etc_environment(&pairs, &env, &err), &err);
    assert_string_equal(buf_str(&env), "k=v\n_K2= a=b \"c\" 'd' $e # f\\\nEMPTY=\n");
}

static void test_pairs_that_would_break_a_line_are_named(void **state)
{
    static const struct config_pair bad[] = {
        {"k", "a\nb"}, {"k", "\n"}, {"k", "a\r"},  {"", "v"},   {"1k", "v"},
        {"a b", "v"},  {"a=b", ""}, {"a\nb", "v"}, {"a-b", ""}, {"é", "v"},
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct config_pair item = bad[i];
        const struct config_pairs pairs = {&item, 1};
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(buf_done) struct buf out = BUF_INIT;

        assert_fails(vars_param_env(&pairs, &out, &err), &err, EINVAL, "param");
        assert_fails(vars_etc_environment(&pairs, &out, &err), &err, EINVAL, "env");
    }
}

static void test_gecos_is_what_passwd_can_hold(void **state)
{
    static const struct {
        const char *comment, *gecos;
    } cases[] = {
        {"", ""},
        {"Jörg Müller", "Jörg Müller"},
        {"a:b\nc\td\x01", "abcd"},
        {"a\xc2\x85"
         "b",
         "ab"},
        {"\xc2", "\xc2"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *got = vars_gecos(cases[i].comment);

        assert_string_equal(got, cases[i].gecos);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lima_env_of_a_usual_guest),
        cmocka_unit_test(test_lima_env_of_a_plain_guest_that_asks_for_much),
        cmocka_unit_test(test_no_field_can_add_a_line),
        cmocka_unit_test(test_pairs_keep_their_values_literally),
        cmocka_unit_test(test_pairs_that_would_break_a_line_are_named),
        cmocka_unit_test(test_gecos_is_what_passwd_can_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
