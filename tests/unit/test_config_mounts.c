/* SPDX-License-Identifier: Apache-2.0 */
#include "config/mounts.h"
#include "config_fixture.h"
#include "test.h"

static void test_an_entry_is_filled_with_defaults(void **state)
{
    scoped(config_free) struct config *config =
        fixture_config(*state, IMAGE "mounts: [{location: /srv/./a/../b}]\n");
    const struct config_mount *mount = &config->mounts[0];

    assert_int_equal(config->mount_count, 1);
    assert_string_equal(mount->location, "/srv/b");
    assert_string_equal(mount->mount_point, "/srv/b");
    assert_false(mount->writable);
    assert_int_equal(mount->type, CONFIG_MOUNT_DEFAULT);
    assert_string_equal(mount->security_model, "none");
    assert_string_equal(mount->protocol_version, "9p2000.L");
    assert_int_equal(mount->msize, 128 << 10);
    assert_string_equal(mount->cache, "fscache");
    assert_true(mount->sshfs_cache);
}

static void test_templates_are_expanded_for_their_side(void **state)
{
    const struct fixture *fixture = *state;
    scoped(config_free) struct config *config = fixture_config(
        *state, IMAGE "user: {name: me, home: /home/me}\n"
                      "mounts: [{location: '{{.Dir}}/x', mountPoint: '{{.Home}}/{{.Name}}', "
                      "writable: true}]\n");
    scoped(free) char *location = path_join(fixture->home, "box", "x");

    assert_string_equal(config->mounts[0].location, location);
    assert_string_equal(config->mounts[0].mount_point, "/home/me/box");
    assert_string_equal(config->mounts[0].cache, "mmap");
}

static void test_a_later_entry_of_one_mount_point_overrides(void **state)
{
    scoped(config_free) struct config *config =
        fixture_config(*state, IMAGE "mounts:\n"
                                     "- {location: /srv, mountPoint: /m, 9p: {msize: 64KiB}}\n"
                                     "- {location: /var, mountPoint: /n}\n"
                                     "- {location: /opt, mountPoint: /m, writable: true, "
                                     "9p: {cache: none}}\n");

    assert_int_equal(config->mount_count, 2);
    assert_string_equal(config->mounts[0].location, "/srv");
    assert_true(config->mounts[0].writable);
    assert_int_equal(config->mounts[0].msize, 64 << 10);
    assert_string_equal(config->mounts[0].cache, "none");
    assert_string_equal(config->mounts[1].mount_point, "/n");
}

static void test_plain_mode_has_none(void **state)
{
    scoped(config_free) struct config *config =
        fixture_config(*state, IMAGE "plain: true\nmounts: [{location: /srv}]\n");

    assert_int_equal(config->mount_count, 0);
}

static void test_what_cannot_be_mounted_is_refused(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"mounts: [{location: srv}]\n", "'mounts[0].location' must be an absolute path"},
        {"mounts: [{mountPoint: /x}]\n", "'mounts[0].location' must be an absolute path"},
        {"mounts: [{location: /etc/passwd}]\n", "must be a folder, which '/etc/passwd' is not"},
        {"mounts: [{location: /srv, mountPoint: x}]\n", "must be an absolute path, not 'x'"},
        {"mounts: [{location: /srv, mountPoint: '~/x'}]\n", "must not begin with '~'"},
        {"mounts: [{location: /srv, mountPoint: /usr/}]\n", "must not be the guest's own '/usr'"},
        {"mounts: [{location: /srv, mountPoint: /a/..}]\n", "must not be the guest's own '/'"},
        {"user: {name: me, home: /home/me}\nmounts: [{location: /srv, mountPoint: /home/me}]\n",
         "must not be the user's home"},
        {"mounts: [{location: /srv, type: nfs}]\n", "'mounts[0].type' must be"},
        {"mountType: 9p\nmountTypesUnsupported: [virtiofs, 9p]\n", "'mountType' is '9p', which"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        struct config *config = NULL;
        scoped(free) char *text = xasprintf("%s%s", IMAGE, cases[i].text);

        assert_fails(fixture_load(*state, text, &config, &err), &err, EINVAL, cases[i].part);
    }
}

static void test_one_entry_is_read_alone(void **state)
{
    const struct fixture *fixture = *state;
    scoped(config_free) struct config *config = fixture_config(*state, IMAGE);
    scoped(config_mount_done) struct config_mount mount = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    jv good = JV_OBJECT(jv_string("location"), jv_string("/srv"), jv_string("mountPoint"),
                        jv_string("{{.Home}}/srv"), jv_string("writable"), jv_true());
    jv bad = JV_OBJECT(jv_string("location"), jv_string("relative"));
    scoped(free) char *point = path_join(config->user.home, "srv");

    assert_works(config_mount_parse(good, fixture->home, config, &mount, &err), &err);
    assert_string_equal(mount.mount_point, point);
    assert_true(mount.writable);
    config_mount_done(&mount);
    assert_fails(config_mount_parse(bad, fixture->home, config, &mount, &err), &err, EINVAL,
                 "absolute");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_entry_is_filled_with_defaults),
        cmocka_unit_test(test_templates_are_expanded_for_their_side),
        cmocka_unit_test(test_a_later_entry_of_one_mount_point_overrides),
        cmocka_unit_test(test_plain_mode_has_none),
        cmocka_unit_test(test_what_cannot_be_mounted_is_refused),
        cmocka_unit_test(test_one_entry_is_read_alone),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
