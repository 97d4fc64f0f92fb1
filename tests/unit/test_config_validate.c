/* SPDX-License-Identifier: Apache-2.0 */
#include "config_fixture.h"

static void assert_refused(struct fixture *fixture, const char *text, const char *part)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct config *config = NULL;

    assert_fails(fixture_load(fixture, text, &config, &err), &err, EINVAL, part);
    assert_null(config);
}

static void test_broken_rules_are_named(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"base: template:x\n", "lima.yaml:2:7: 'base' must have been merged in"},
        {"base: [{url: x}]\n", "'base' must have been merged in"},
        {"user: {passwordlessSudo: false}\n",
         "lima.yaml:2:26: 'user.passwordlessSudo' must be true unless 'plain' is true"},
        {"user: {home: '{{'}\n", "'user.home': "},
        {"user: {home: '{{.Param.x}}'}\n", "'user.home' must be an absolute path"},
        {"user: {home: '/a:b'}\n", "'user.home' must be an absolute path"},
        {"provision: [{}]\n", "lima.yaml:2:13: 'provision[0].script' must not be empty with mode "
                              "'system'"},
        {"provision: [{script: x}, {mode: boot}]\n",
         "lima.yaml:2:26: 'provision[1].script' must not be empty with mode 'boot'"},
        {"provision: [{file: x.sh}]\n", "'provision[0].file' must have been replaced"},
        {"provision: [{script: x, path: /x}]\n",
         "'provision[0].path' must not be set with mode 'system'"},
        {"provision: [{script: x, mode: user, permissions: 644}]\n",
         "'provision[0].permissions' must not be set with mode 'user'"},
        {"provision: [{script: x, playbook: y}]\n", "'provision[0].playbook' must not be set"},
        {"probes: [{}]\n", "'probes[0].script' must begin with '#!'"},
        {"probes: [{script: echo}]\n", "'probes[0].script' must begin with '#!'"},
        {"probes: [{file: x}]\n", "'probes[0].file' must have been replaced"},
        {"probes: [{script: '#!x', mode: liveness}]\n", "'probes[0].mode' must be 'readiness'"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *text = xasprintf("%s%s", IMAGE, cases[i].text);

        assert_refused(*state, text, cases[i].part);
    }
}

static void test_an_image_is_required_and_whole(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "lima.yaml: 'images' must have at least one image"},
        {"{}\n", "'images' must have at least one image"},
        {"images: []\n", "lima.yaml:1:9: 'images' must have at least one image"},
        {"images: [{}]\n", "'images[0].location' must be a URL or a path"},
        {"images: [{location: ''}]\n", "'images[0].location' must be a URL or a path"},
        {"images: [{location: ~bob/x}]\n", "'~user' is not understood"},
        {"images: [{location: 'image:'}]\n", "must name an image behind 'image:'"},
        {"images: [{location: 'image:a/b'}]\n", "must name an image behind 'image:'"},
        {"images: [{location: /x, arch: z80}]\n", "'images[0].arch' must be 'x86_64'"},
        {"images: [{location: /x, digest: sha256:12}]\n", "'images[0].digest' "},
        {"images: [{location: /x, digest: 'md5:12'}]\n", "sha256"},
        {"images: [{location: /x, arch: x86_64, kernel: {location: /k, arch: aarch64}}]\n",
         "'images[0].kernel' must be for 'x86_64' as its image, not for 'aarch64'"},
        {"images: [{location: /x, kernel: {cmdline: a}}]\n",
         "'images[0].kernel' must have a location"},
        {"images: [{location: /x, initrd: {}}]\n", "'images[0].initrd' must have a location"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_refused(*state, cases[i].text, cases[i].part);
    }
}

static void test_port_forwards_that_make_no_sense_are_refused(void **state)
{
    static const struct {
        const char *rule, *part;
    } cases[] = {
        {"{guestPort: 80, guestSocket: /x}", "guestSocket' must not be set together with a port"},
        {"{guestPortRange: [1, 2], guestSocket: /x}", "must not be set together with a port"},
        {"{guestPort: 80, hostPort: 80, hostSocket: /x}", "hostSocket' must not be set together"},
        {"{guestPort: 81, guestPortRange: [80, 82]}", "guestPort' must be the first of "
                                                      "'guestPortRange', 80, not 81"},
        {"{guestPort: 80, hostPort: 81, hostPortRange: [80, 80]}", "hostPort' must be the first"},
        {"{guestPort: 22}", "guestPort' must be a port from 1 to 65535 and not 22"},
        {"{guestPort: 70000}", "guestPort' must be a port"},
        {"{guestPortRange: [22, 30]}", "guestPortRange' must be ports from 1 to 65535 that are"},
        {"{guestPortRange: [20, 22]}", "guestPortRange' must be ports"},
        {"{guestPortRange: [0, 30]}", "guestPortRange' must be ports"},
        {"{guestPortRange: [81, 80]}", "guestPortRange' must ascend, not [81, 80]"},
        {"{guestPortRange: [80, 82], hostPortRange: [80, 81]}",
         "hostPortRange' must be as wide as the guest's [80, 82], not [80, 81]"},
        {"{hostPort: 80}", "hostPortRange' must be as wide as the guest's [1, 65535]"},
        {"{guestPortRange: [80, 82], hostSocket: /x}", "hostSocket' must have one guestPort"},
        {"{hostSocket: /x}", "hostSocket' must have one guestPort or a guestSocket"},
        {"{guestSocket: /x}", "guestSocket' must have a hostSocket or a hostPort"},
        {"{guestSocket: /x, hostPortRange: [80, 81]}", "hostPortRange' must be one port"},
        {"{guestSocket: x, hostSocket: /y}", "guestSocket' must be an absolute path, not 'x'"},
        {"{guestSocket: '{{', hostSocket: /y}", "'portForwards[0].guestSocket': "},
        {"{guestIP: 127.0.0.1, guestIPMustBeZero: true}", "guestIPMustBeZero' must be false or"},
        {"{guestIP: '::', guestIPMustBeZero: true}", "guestIPMustBeZero' must be false or"},
        {"{guestPort: 80, onConflict: ask}", "must be 'skip', 'fail' or 'remap', not 'ask'"},
        {"{guestPort: 80, hostSocket: /x, onConflict: remap}", "onConflict' must be skip or fail"},
        {"{reverse: true}", "reverse' must have a guestSocket and a hostSocket"},
        {"{reverse: true, guestSocket: /x}", "reverse' must have"},
        {"{guestPort: 80, hostSocket: /0123456789012345678901234567890123456789012345678901234567"
         "89012345678901234567890123456789012345678901234567890}",
         "hostSocket' must be shorter than 108 bytes"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *text = xasprintf(IMAGE "portForwards: [%s]\n", cases[i].rule);

        assert_refused(*state, text, cases[i].part);
    }
}

static void test_port_22_inside_a_range_is_fine(void **state)
{
    scoped(config_free) struct config *config =
        fixture_config(*state, IMAGE "portForwards: [{guestPortRange: [20, 30]}]\n");

    assert_int_equal(config->port_forward_count, 1);
}

static void test_plain_allows_sudo_with_a_password(void **state)
{
    scoped(config_free) struct config *config =
        fixture_config(*state, IMAGE "plain: true\nuser: {passwordlessSudo: false}\n");

    assert_false(config->user.passwordless_sudo);
}

static void test_malformed_params_are_refused(void **state)
{
    static const struct {
        const char *param, *part;
    } cases[] = {
        {"1a: x", "'param.1a' name must be a letter"},
        {"a-b: x", "'param.a-b' name must be a letter"},
        {"'': x", "name must be a letter"},
        {"_a: x", "name must be a letter"},
        {"a: \"a\\n\"", "'param.a' value must have only printable"},
        {"a: \"\\x7f\"", "value must have only printable"},
        {"a: \"\\u0085\"", "value must have only printable"},
        {"a: [x]", "'param.a' must be text, not a list"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *text =
            xasprintf(IMAGE "param: {%s}\nprovision: [{script: PARAM_a}]\n", cases[i].param);

        assert_refused(*state, text, cases[i].part);
    }
}

static void test_blanks_and_emoji_are_fine_in_params(void **state)
{
    scoped(config_free) struct config *config =
        fixture_config(*state, IMAGE "param: {a: \"x\\t y \\U0001F600\", b: }\n"
                                     "provision: [{script: 'PARAM_a {{.Param.b}}'}]\n");

    assert_string_equal(config->param.items[0].value, "x\t y \xf0\x9f\x98\x80");
    assert_string_equal(config->param.items[1].value, "");
}

static void test_every_param_has_to_be_used(void **state)
{
    static const struct {
        const char *text;
        bool used;
    } cases[] = {
        {"provision: [{script: 'x $PARAM_key'}]\n", true},
        {"provision: [{script: 'x ${PARAM_key}y'}]\n", true},
        {"provision: [{script: '{{ if .Param.key }}a{{end}}'}]\n", true},
        {"provision: [{mode: data, path: /x, content: '{{.Param.key}}'}]\n", true},
        {"probes: [{script: '#!x {{.Param.key}}'}]\n", true},
        {"mounts: [{location: '/{{.Param.key}}'}]\n", true},
        {"copyToHost: [{guest: '/{{.Param.key}}', host: /x}]\n", true},
        {"portForwards: [{guestSocket: '/{{.Param.key}}', hostSocket: x}]\n", true},
        {"", false},
        {"message: '{{.Param.key}}'\n", false},
        {"env: {A: PARAM_key}\n", false},
        {"provision: [{script: 'x $PARAM_key2'}]\n", false},
        {"provision: [{script: 'x $MYPARAM_key'}]\n", false},
        {"provision: [{script: 'x .Param.key'}]\n", false},
        {"provision: [{script: '{{.Param.keys}}'}]\n", false},
        {"provision: [{script: '{{.User}} .Param.key {{.User}}'}]\n", false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *text = xasprintf(IMAGE "param: {key: x}\n%s", cases[i].text);

        if (cases[i].used) {
            config_free(fixture_config(*state, text));
        } else {
            assert_refused(*state, text, "lima.yaml:2:14: 'param.key' is used nowhere");
        }
    }
}

static void test_the_seeds_own_param_needs_no_use(void **state)
{
    config_free(fixture_config(*state, IMAGE "param: {internal_netplanOptional: true}\n"));
}

static void test_scripts_with_internal_variables_warn(void **state)
{
    config_free(fixture_config(*state, IMAGE "provision: [{script: 'echo $LIMA_CIDATA_USER'}]\n"));
    assert_true(fixture_warned(*state, "'provision[0].script' uses LIMA_CIDATA"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_rules_are_named),
        cmocka_unit_test(test_an_image_is_required_and_whole),
        cmocka_unit_test(test_port_forwards_that_make_no_sense_are_refused),
        cmocka_unit_test(test_port_22_inside_a_range_is_fine),
        cmocka_unit_test(test_plain_allows_sudo_with_a_password),
        cmocka_unit_test(test_malformed_params_are_refused),
        cmocka_unit_test(test_blanks_and_emoji_are_fine_in_params),
        cmocka_unit_test(test_every_param_has_to_be_used),
        cmocka_unit_test(test_the_seeds_own_param_needs_no_use),
        cmocka_unit_test(test_scripts_with_internal_variables_warn),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
