/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/owners.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "test.h"
#include "util/file.h"
#include "util/path.h"

struct world {
    char *dir;
    int fd;
    struct owners *owners;
};

static int setup(void **state)
{
    struct world *world = xnew(struct world);

    world->dir = xstrdup("/var/tmp/test-owners-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    world->fd = open(world->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    world->owners = owners_new(world->fd);
    assert_int_equal(mknodat(world->fd, "file", S_IFREG | 0644, 0), 0);
    assert_int_equal(mkdirat(world->fd, "folder", 0755), 0);
    assert_int_equal(symlinkat("file", world->fd, "link"), 0);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    owners_free(world->owners);
    close(world->fd);
    file_remove_tree(world->dir, NULL);
    free(world->dir);
    free(world);
    return 0;
}

/* Some file systems have no attributes of users, such as older tmpfs. */
static const struct world *world_of(void **state)
{
    const struct world *world = *state;
    scoped(free) char *path = path_join(world->dir, "file");

    if (setxattr(path, "user.probe", "", 0, 0) < 0) {
        skip();
    }
    return world;
}

static const struct owner somebody = {.uid = 999, .gid = 4294967294u};

static void test_an_owner_is_kept_until_it_is_unset(void **state)
{
    const struct world *world = world_of(state);
    scoped(owners_free) struct owners *later = NULL;
    struct owner got;

    assert_false(owners_any(world->owners));
    assert_false(owners_get(world->owners, world->fd, "file", S_IFREG, &got));
    assert_int_equal(owners_set(world->owners, world->fd, "file", S_IFREG, &somebody), 0);
    assert_int_equal(owners_set(world->owners, world->fd, "folder", S_IFDIR, &somebody), 0);
    assert_true(owners_get(world->owners, world->fd, "folder", S_IFDIR, &got));
    later = owners_new(world->fd);
    assert_true(owners_any(later));
    assert_true(owners_get(later, world->fd, "file", S_IFREG, &got));
    assert_int_equal(got.uid, 999);
    assert_int_equal(got.gid, 4294967294u);
    assert_int_equal(got.type, 0);
    assert_int_equal(owners_unset(later, world->fd, "file", S_IFREG), 0);
    assert_int_equal(owners_unset(later, world->fd, "file", S_IFREG), 0);
    assert_false(owners_get(later, world->fd, "file", S_IFREG, &got));
}

static void test_a_descriptor_does_as_well_as_a_name(void **state)
{
    const struct world *world = world_of(state);
    scoped(fd_close) int fd = openat(world->fd, "file", O_PATH | O_CLOEXEC);
    struct owner got;

    assert_int_equal(owners_set(world->owners, fd, "", S_IFREG, &somebody), 0);
    assert_true(owners_get(world->owners, world->fd, "file", S_IFREG, &got));
    assert_true(owners_get(world->owners, fd, "", S_IFREG, &got));
    assert_int_equal(owners_unset(world->owners, fd, "", S_IFREG), 0);
    assert_false(owners_get(world->owners, fd, "", S_IFREG, &got));
}

static void test_a_link_is_never_followed(void **state)
{
    const struct world *world = world_of(state);
    struct owner got;

    assert_int_equal(owners_set(world->owners, world->fd, "link", S_IFLNK, &somebody), -EPERM);
    /* A name that has become a link since it was looked at. */
    assert_true(owners_set(world->owners, world->fd, "link", S_IFREG, &somebody) < 0);
    assert_false(owners_get(world->owners, world->fd, "file", S_IFREG, &got));
}

static void test_a_device_has_its_type_and_number(void **state)
{
    const struct world *world = world_of(state);
    const struct owner device = {.uid = 0, .gid = 6, .type = S_IFBLK, .rdev = 0x801};
    struct owner got;

    assert_int_equal(owners_set(world->owners, world->fd, "file", S_IFREG, &device), 0);
    assert_true(owners_get(world->owners, world->fd, "file", S_IFREG, &got));
    assert_memory_equal(&got, &device, sizeof(got));
}

static void test_what_makes_no_sense_is_no_owner(void **state)
{
    static const char *const values[] = {
        "",
        "x",
        "1",
        "1:",
        ":2",
        "1:2:",
        "1:2:3",
        "1:2:100000:1",
        "1:2:40000:1",
        "1:2:120000:1",
        "1:2:20000:",
        "99999999999999999999999999999999999999999999999999999999"};
    const struct world *world = world_of(state);
    scoped(free) char *path = path_join(world->dir, "file");
    struct owner got;

    assert_int_equal(owners_set(world->owners, world->fd, "folder", S_IFDIR, &somebody), 0);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        assert_int_equal(setxattr(path, OWNERS_ATTRIBUTE, values[i], strlen(values[i]), 0), 0);
        assert_false(owners_get(world->owners, world->fd, "file", S_IFREG, &got));
    }
    /* A folder is no device. */
    path = (free(path), path_join(world->dir, "folder"));
    assert_int_equal(setxattr(path, OWNERS_ATTRIBUTE, "1:2:20000:1", 11, 0), 0);
    assert_false(owners_get(world->owners, world->fd, "folder", S_IFDIR, &got));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_an_owner_is_kept_until_it_is_unset), T(test_a_descriptor_does_as_well_as_a_name),
        T(test_a_link_is_never_followed),           T(test_a_device_has_its_type_and_number),
        T(test_what_makes_no_sense_is_no_owner),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
