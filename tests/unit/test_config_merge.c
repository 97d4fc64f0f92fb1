/* SPDX-License-Identifier: Apache-2.0 */
#include "config_fixture.h"

/* The three layers, the instance's own in the middle. */
static struct config *load_layers(struct fixture *fixture, const char *above, const char *own,
                                  const char *below)
{
    struct config *config;

    fixture_layer(fixture, "override.yaml", above);
    fixture_layer(fixture, "default.yaml", below);
    config = fixture_config(fixture, own);
    fixture_layer(fixture, "override.yaml", NULL);
    fixture_layer(fixture, "default.yaml", NULL);
    return config;
}

static void test_scalars_come_from_the_highest_layer(void **state)
{
    scoped(config_free) struct config *config = load_layers(
        *state, "cpus: 1\nssh: {forwardAgent: true}\n",
        IMAGE "cpus: 2\nmemory: 2GiB\nssh: {forwardX11: true}\n",
        "cpus: 3\nmemory: 3GiB\ndisk: 3GiB\nssh: {forwardAgent: false, localPort: 77}\n");

    assert_int_equal(config->cpus, 1);
    assert_int_equal(config->memory, 2LL << 30);
    assert_int_equal(config->disk, 3LL << 30);
    assert_true(config->ssh.forward_agent);
    assert_true(config->ssh.forward_x11);
    assert_int_equal(config->ssh.local_port, 77);
}

static void test_an_explicit_false_or_empty_text_wins(void **state)
{
    scoped(config_free) struct config *config = load_layers(
        *state, NULL, IMAGE "plain: false\ntimezone: ''\n", "plain: true\ntimezone: Asia/Tokyo\n");

    assert_false(config->plain);
    assert_string_equal(config->timezone, "");
}

static void test_null_is_no_value(void **state)
{
    scoped(config_free) struct config *config =
        load_layers(*state, "cpus:\n", IMAGE "cpus: ~\nenv:\n", "cpus: 3\nenv: {A: b}\n");

    assert_int_equal(config->cpus, 3);
    assert_int_equal(config->env.len, 1);
}

static void test_lists_are_joined_from_high_to_low(void **state)
{
    scoped(config_free) struct config *config =
        load_layers(*state, "provision: [{script: o}]\nimages: [{location: /o}]\n",
                    "provision: [{script: y1}, {script: y2}]\nimages: [{location: /y}]\n",
                    "provision: [{script: d}]\nimages: [{location: /d}]\n");
    static const char *const scripts[] = {"o", "y1", "y2", "d"};
    static const char *const images[] = {"/o", "/y", "/d"};

    assert_int_equal(config->provision_count, ARRAY_LEN(scripts));
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        assert_string_equal(config->provision[i].script, scripts[i]);
    }
    assert_int_equal(config->image_count, ARRAY_LEN(images));
    for (size_t i = 0; i < ARRAY_LEN(images); i++) {
        assert_string_equal(config->images[i].file.location, images[i]);
    }
}

static void test_maps_unite_and_the_highest_wins(void **state)
{
    scoped(config_free) struct config *config = load_layers(
        *state, "env: {A: o}\n", IMAGE "env: {A: y, B: y}\n", "env: {A: d, B: d, C: d}\n");
    static const char *const values[] = {"o", "y", "d"};

    assert_int_equal(config->env.len, ARRAY_LEN(values));
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        assert_string_equal(config->env.items[i].value, values[i]);
    }
}

static void test_driver_options_unite_in_depth(void **state)
{
    scoped(config_free) struct config *config =
        load_layers(*state, "vmOpts: {qemu: {cpuType: {aarch64: cortex-a72}}}\n",
                    IMAGE "arch: x86_64\nvmOpts: {qemu: {cpuType: {x86_64: Haswell}}}\n", NULL);

    assert_string_equal(config->cpu_type, "Haswell");
}

static void test_keys_of_the_own_file_are_ignored_elsewhere_with_a_warning(void **state)
{
    scoped(config_free) struct config *config =
        load_layers(*state, "message: high\n", IMAGE, "minimumLimaVersion: 99.0.0\nbase: x\n");

    assert_string_equal(config->message, "");
    assert_string_equal(config->minimum_lima_version, "");
    assert_true(fixture_warned(*state, "/_config/override.yaml:1:10: 'message' counts only"));
    assert_true(fixture_warned(*state, "/_config/default.yaml:1:21: 'minimumLimaVersion' counts"));
    assert_true(fixture_warned(*state, "'base' counts only"));
}

static void test_params_of_all_layers_reach_templates(void **state)
{
    scoped(config_free) struct config *config =
        load_layers(*state, "param: {a: high}\n",
                    IMAGE "param: {a: own}\nprovision: [{script: '{{.Param.a}} {{.Param.b}}'}]\n",
                    "param: {b: low}\n");

    assert_string_equal(config->provision[0].script, "high low");
    assert_int_equal(config->param.len, 2);
}

static void test_errors_name_the_layer(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct config *config;

    fixture_layer(*state, "default.yaml", "cpus: x\n");
    fixture_layer(*state, "override.yaml", "probes: [{script: x}]\n");
    assert_int_equal(fixture_load(*state, IMAGE, &config, &err), -EINVAL);
    assert_non_null(strstr(error_text(&err), "/_config/default.yaml:1:7: 'cpus'"));
    assert_non_null(strstr(error_text(&err), "/_config/override.yaml:1:10: 'probes[0].script'"));
    error_done(&err);

    fixture_layer(*state, "override.yaml", "user: {home: up}\n");
    fixture_layer(*state, "default.yaml", "user: {home: down}\n");
    assert_fails(fixture_load(*state, IMAGE "user: {home: own}\n", &config, &err), &err, EINVAL,
                 "/_config/override.yaml:1:14: 'user.home' must be an absolute path, not 'up'");

    fixture_layer(*state, "override.yaml", "a: [\n");
    assert_fails(fixture_load(*state, IMAGE, &config, &err), &err, EINVAL, "/override.yaml:");
    fixture_layer(*state, "override.yaml", NULL);
    fixture_layer(*state, "default.yaml", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars_come_from_the_highest_layer),
        cmocka_unit_test(test_an_explicit_false_or_empty_text_wins),
        cmocka_unit_test(test_null_is_no_value),
        cmocka_unit_test(test_lists_are_joined_from_high_to_low),
        cmocka_unit_test(test_maps_unite_and_the_highest_wins),
        cmocka_unit_test(test_driver_options_unite_in_depth),
        cmocka_unit_test(test_keys_of_the_own_file_are_ignored_elsewhere_with_a_warning),
        cmocka_unit_test(test_params_of_all_layers_reach_templates),
        cmocka_unit_test(test_errors_name_the_layer),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
