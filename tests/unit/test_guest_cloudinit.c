/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "cloudinit.h"

/* As 22.4 writes it, blanks apart. */
static const char status_text[] =
    "{\"v1\": {\"datasource\": \"DataSourceNoCloud [seed=/dev/sr0]\","
    " \"init\": {\"errors\": [], \"finished\": 1795383557.1, \"start\": 1795383546.2},"
    " \"init-local\": {\"errors\": [\"first \\\"one\\\"\", \"second\"], \"finished\": 1.5, "
    "\"start\": 1},"
    " \"modules-config\": {\"errors\": [], \"finished\": null, \"start\": null},"
    " \"modules-final\": {\"errors\": [], \"finished\": null, \"start\": null},"
    " \"stage\": null}}\n";

static void test_status_says_which_stages_are_over(void **state)
{
    struct cloudinit_status status;

    assert_int_equal(cloudinit_status_parse(status_text, &status), 0);
    assert_true(status.init_finished);
    assert_false(status.final_finished);
    assert_string_equal(status.error, "first \"one\"");
}

static void test_status_of_newer_versions_has_more_keys(void **state)
{
    struct cloudinit_status status;

    assert_int_equal(
        cloudinit_status_parse("{\"v1\":{\"init\":{\"finished\":2,\"recoverable_errors\":"
                               "{\"WARNING\":[\"w\"]}},\"modules-final\":{\"finished\":3}}}",
                               &status),
        0);
    assert_true(status.init_finished && status.final_finished);
    assert_string_equal(status.error, "");
}

static void test_a_cut_status_is_refused_at_every_byte(void **state)
{
    struct cloudinit_status status;

    for (size_t len = 0; len < strlen(status_text) - 1; len++) {
        scoped(free) char *part = xstrndup(status_text, len);

        assert_int_equal(cloudinit_status_parse(part, &status), -EBADMSG);
    }
}

static void test_deep_nesting_is_refused(void **state)
{
    struct cloudinit_status status;
    char text[200];

    memset(text, '[', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(cloudinit_status_parse(text, &status), -EBADMSG);
}

static void test_plan_follows_switches_and_instance(void **state)
{
    static const struct {
        struct cloudinit_facts facts;
        enum cloudinit_plan plan;
    } cases[] = {
        {{.installed = false, .applied_id = "", .seed_id = "a"}, CLOUDINIT_OFF},
        {{.installed = true, .applied_id = "", .seed_id = "a"}, CLOUDINIT_SYSTEM},
        {{.installed = true, .applied_id = "a", .seed_id = "a"}, CLOUDINIT_SYSTEM},
        {{.installed = true, .disabled_file = true, .applied_id = "a", .seed_id = "a"},
         CLOUDINIT_OFF},
        {{.installed = true, .disabled_file = true, .applied_id = "b", .seed_id = "a"},
         CLOUDINIT_RERUN},
        {{.installed = true, .generator_disabled = true, .applied_id = "", .seed_id = "a"},
         CLOUDINIT_RERUN},
        {{.installed = true,
          .disabled_file = true,
          .enabled_file = true,
          .applied_id = "b",
          .seed_id = "a"},
         CLOUDINIT_SYSTEM},
        {{.installed = true, .command_line = true, .applied_id = "b", .seed_id = "a"},
         CLOUDINIT_OFF},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(cloudinit_decide(&cases[i].facts), cases[i].plan);
    }
}

static void test_command_line_switch_is_a_whole_word(void **state)
{
    assert_true(cloudinit_cmdline_disables("ro cloud-init=disabled quiet\n"));
    assert_true(cloudinit_cmdline_disables("cloud-init=disabled"));
    assert_false(cloudinit_cmdline_disables("xcloud-init=disabled"));
    assert_false(cloudinit_cmdline_disables("cloud-init=disabledx"));
    assert_false(cloudinit_cmdline_disables("cloud-init=disabled cloud-init=enabled"));
    assert_false(cloudinit_cmdline_disables(""));
}

static void test_only_empty_lists_end_with_the_init_stage(void **state)
{
    assert_true(
        cloudinit_only_init("#cloud-config\ncloud_config_modules: []\ncloud_final_modules: []\n"));
    assert_false(cloudinit_only_init("cloud_config_modules: []\ncloud_final_modules:\n- x\n"));
    assert_false(cloudinit_only_init("cloud_config_modules: []\n"));
    assert_false(cloudinit_only_init(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_says_which_stages_are_over),
        cmocka_unit_test(test_status_of_newer_versions_has_more_keys),
        cmocka_unit_test(test_a_cut_status_is_refused_at_every_byte),
        cmocka_unit_test(test_deep_nesting_is_refused),
        cmocka_unit_test(test_plan_follows_switches_and_instance),
        cmocka_unit_test(test_command_line_switch_is_a_whole_word),
        cmocka_unit_test(test_only_empty_lists_end_with_the_init_stage),
    };

    return cmocka_run_group_tests_name("guest_cloudinit", tests, NULL, NULL);
}
