/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/mount.h"
#include "test.h"

static struct config_mount a_mount(const char *location, const char *point)
{
    return (struct config_mount){.location = (char *)location,
                                 .mount_point = (char *)point,
                                 .protocol_version = "9p2000.L",
                                 .cache = "mmap",
                                 .msize = 131072};
}

/* printf %s /home/me:/mnt | sha256sum */
static void test_a_tag_is_the_digest_of_both_paths(void **state)
{
    const struct config_mount mount = a_mount("/home/me", "/mnt");
    scoped(free) char *tag = mount_tag(&mount);

    assert_string_equal(tag, "lima-9e70599ff4fac515");
}

static void test_the_type_is_that_of_the_mount_then_of_the_instance(void **state)
{
    struct config_mount mount = a_mount("/a", "/a");

    assert_int_equal(mount_choose(&mount, CONFIG_MOUNT_DEFAULT).type, CONFIG_MOUNT_AGENT);
    assert_int_equal(mount_choose(&mount, CONFIG_MOUNT_9P).type, CONFIG_MOUNT_9P);
    mount.type = CONFIG_MOUNT_AGENT;
    assert_int_equal(mount_choose(&mount, CONFIG_MOUNT_9P).type, CONFIG_MOUNT_AGENT);
    assert_null(mount_choose(&mount, CONFIG_MOUNT_9P).instead);
    mount.type = CONFIG_MOUNT_VIRTIOFS;
    assert_int_equal(mount_choose(&mount, CONFIG_MOUNT_9P).type, CONFIG_MOUNT_VIRTIOFS);
    assert_null(mount_choose(&mount, CONFIG_MOUNT_9P).instead);
    mount.type = CONFIG_MOUNT_REVERSE_SSHFS;
    assert_int_equal(mount_choose(&mount, CONFIG_MOUNT_9P).type, CONFIG_MOUNT_REVERSE_SSHFS);
    assert_null(mount_choose(&mount, CONFIG_MOUNT_9P).instead);
    mount.type = CONFIG_MOUNT_WSL2;
    assert_int_equal(mount_choose(&mount, CONFIG_MOUNT_9P).type, CONFIG_MOUNT_AGENT);
    assert_non_null(mount_choose(&mount, CONFIG_MOUNT_9P).instead);
}

static void test_9p_has_its_options(void **state)
{
    const struct config_mount mount = a_mount("/a", "/a");
    scoped(free) char *options = mount_9p_options(&mount);

    assert_string_equal(options, "trans=virtio,version=9p2000.L,msize=131072,cache=mmap");
}

static void test_sshfs_is_told_what_the_configuration_says(void **state)
{
    static const struct {
        bool cache, follow;
        const char *options;
    } cases[] = {{true, false, ""},
                 {false, false, "cache=no"},
                 {true, true, "follow_symlinks"},
                 {false, true, "cache=no,follow_symlinks"}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config_mount mount = a_mount("/a", "/a");
        scoped(free) char *options = NULL;

        mount.sshfs_cache = cases[i].cache;
        mount.follow_symlinks = cases[i].follow;
        options = mount_sshfs_options(&mount);
        assert_string_equal(options, cases[i].options);
    }
}

static void test_what_the_guest_cannot_be_shown_is_said(void **state)
{
    struct config_mount mount = a_mount("/a", "/a");

    assert_null(mount_untold(&mount, CONFIG_MOUNT_AGENT));
    assert_non_null(strstr(mount_untold(&mount, CONFIG_MOUNT_9P), "read-only"));
    assert_non_null(strstr(mount_untold(&mount, CONFIG_MOUNT_VIRTIOFS), "read-only"));
    assert_non_null(strstr(mount_untold(&mount, CONFIG_MOUNT_REVERSE_SSHFS), "read-only"));
    mount.writable = true;
    assert_null(mount_untold(&mount, CONFIG_MOUNT_9P));
    assert_null(mount_untold(&mount, CONFIG_MOUNT_VIRTIOFS));
    assert_null(mount_untold(&mount, CONFIG_MOUNT_REVERSE_SSHFS));
    mount.sshfs_cache = true;
    assert_non_null(strstr(mount_untold(&mount, CONFIG_MOUNT_REVERSE_SSHFS), "'sshfs.cache'"));
    mount.cache = "fscache";
    assert_non_null(strstr(mount_untold(&mount, CONFIG_MOUNT_9P), "'cache'"));
    mount.cache = "none";
    assert_null(mount_untold(&mount, CONFIG_MOUNT_9P));
    mount.protocol_version = "9p2000.u";
    assert_non_null(strstr(mount_untold(&mount, CONFIG_MOUNT_9P), "'protocolVersion'"));
    assert_null(mount_untold(&mount, CONFIG_MOUNT_VIRTIOFS));
}

static void test_a_mount_comes_before_what_lies_in_it(void **state)
{
    const struct config_mount above = a_mount("/x", "/mnt"), below = a_mount("/y", "/mnt/in");

    assert_true(mount_compare(&above, &below) < 0);
    assert_true(mount_compare(&below, &above) > 0);
    assert_int_equal(mount_compare(&below, &below), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tag_is_the_digest_of_both_paths),
        cmocka_unit_test(test_the_type_is_that_of_the_mount_then_of_the_instance),
        cmocka_unit_test(test_9p_has_its_options),
        cmocka_unit_test(test_sshfs_is_told_what_the_configuration_says),
        cmocka_unit_test(test_what_the_guest_cannot_be_shown_is_said),
        cmocka_unit_test(test_a_mount_comes_before_what_lies_in_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
