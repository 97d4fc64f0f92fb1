/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "test.h"
#include "util/file.h"
#include "util/path.h"

struct world {
    char *top;
    struct tree *tree;
};

static void make_link(const char *folder, const char *name, const char *target)
{
    scoped(free) char *path = path_join(folder, name);

    assert_int_equal(symlink(target, path), 0);
}

static int setup(void **state)
{
    struct world *world = xnew(struct world);
    scoped(free) char *shared = NULL, *inner = NULL, *file = NULL, *beside = NULL;

    world->top = xstrdup("/tmp/test-tree-XXXXXX");
    assert_non_null(mkdtemp(world->top));
    shared = path_join(world->top, "shared");
    inner = path_join(shared, "a/b");
    file = path_join(inner, "file");
    beside = path_join(world->top, "beside");
    assert_int_equal(file_mkdirs(inner, 0755, NULL), 0);
    assert_int_equal(file_write_text(file, "x", 0644, NULL), 0);
    assert_int_equal(file_write_text(beside, "x", 0644, NULL), 0);
    make_link(shared, "to-file", "a/b/file");
    make_link(shared, "to-folder", "a");
    make_link(shared, "out", "../beside");
    make_link(shared, "absolute", beside);
    make_link(inner, "round", "../../a/b/file");
    assert_int_equal(tree_open(shared, true, &world->tree, NULL), 0);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    tree_free(world->tree);
    file_remove_tree(world->top, NULL);
    free(world->top);
    free(world);
    return 0;
}

/* 0, or -errno. */
static int try(const struct world *world, const char *path, int flags, bool follow)
{
    int fd = tree_open_path(world->tree, path, flags, follow);

    fd_close(fd);
    return MIN(fd, 0);
}

static void test_paths_lead_to_what_is_there(void **state)
{
    assert_int_equal(try(*state, "", O_PATH, false), 0);
    assert_int_equal(try(*state, "", O_RDONLY | O_DIRECTORY, false), 0);
    assert_int_equal(try(*state, "a/b/file", O_RDONLY, false), 0);
    assert_int_equal(try(*state, "a/b/none", O_RDONLY, false), -ENOENT);
    assert_int_equal(try(*state, "a/b/file/x", O_RDONLY, false), -ENOTDIR);
}

static void test_links_are_not_followed(void **state)
{
    assert_int_equal(try(*state, "to-file", O_RDONLY, false), -ELOOP);
    assert_int_equal(try(*state, "to-folder/b/file", O_RDONLY, false), -ELOOP);
    assert_int_equal(try(*state, "out", O_RDONLY, false), -ELOOP);
    assert_int_equal(try(*state, "to-file", O_PATH, false), 0); /* the link itself */
}

static void test_links_are_followed_as_far_as_they_stay_inside(void **state)
{
    assert_int_equal(try(*state, "to-file", O_RDONLY, true), 0);
    assert_int_equal(try(*state, "to-folder/b/file", O_RDONLY, true), 0);
    assert_int_equal(try(*state, "a/b/round", O_RDONLY, true), 0);
    assert_int_equal(try(*state, "out", O_RDONLY, true), -EXDEV);
    assert_int_equal(try(*state, "absolute", O_RDONLY, true), -EXDEV);
    assert_int_equal(try(*state, "absolute", O_PATH | O_NOFOLLOW, true), 0);
}

static void test_a_parent_is_the_folder_of_the_last_name(void **state)
{
    const struct world *world = *state;
    const char *name = NULL;
    scoped(fd_close) int fd = tree_open_parent(world->tree, "a/b/new", false, &name);
    scoped(fd_close) int top = -1;

    assert_true(fd >= 0);
    assert_string_equal(name, "new");
    assert_int_equal(faccessat(fd, "file", F_OK, 0), 0);
    top = tree_open_parent(world->tree, "a", false, &name);
    assert_true(top >= 0);
    assert_string_equal(name, "a");
    assert_int_equal(tree_open_parent(world->tree, "", false, &name), -EBUSY);
    assert_int_equal(tree_open_parent(world->tree, "none/x", false, &name), -ENOENT);
    assert_int_equal(tree_open_parent(world->tree, "to-folder/x", false, &name), -ENOTDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths_lead_to_what_is_there),
        cmocka_unit_test(test_links_are_not_followed),
        cmocka_unit_test(test_links_are_followed_as_far_as_they_stay_inside),
        cmocka_unit_test(test_a_parent_is_the_folder_of_the_last_name),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
