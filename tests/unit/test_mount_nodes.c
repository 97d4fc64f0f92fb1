/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/nodes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "test.h"
#include "util/file.h"
#include "util/path.h"

struct world {
    char *dir;
    struct tree *tree;
    struct nodes *nodes;
    uint64_t dir_id;
    int closed, parents;
};

static int setup(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct world *world = xnew(struct world);

    world->dir = xstrdup("/tmp/test-nodes-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_works(tree_open(world->dir, true, &world->tree, &err), &err);
    world->nodes = nodes_new(world->tree);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    nodes_free(world->nodes);
    tree_free(world->tree);
    file_remove_tree(world->dir, NULL);
    free(world->dir);
    free(world);
    return 0;
}

static void make(const struct world *world, const char *name, const char *text)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(world->dir, name);

    assert_works(file_write_text(path, text, 0644, &err), &err);
}

static void make_dir(const struct world *world, const char *name)
{
    scoped(free) char *path = path_join(world->dir, name);

    assert_int_equal(mkdir(path, 0755), 0);
}

static struct node *enter(const struct world *world, struct node *dir, const char *name)
{
    struct node_stat st;
    struct node *node = NULL;
    int fd = nodes_path_fd(world->nodes, dir);

    assert_true(fd >= 0);
    assert_int_equal(nodes_stat_at(world->nodes, fd, name, &st), 0);
    assert_int_equal(nodes_enter(world->nodes, dir, name, &st, &node), 0);
    return node;
}

static struct node *root(const struct world *world)
{
    return nodes_find(world->nodes, NODES_ROOT);
}

static void test_one_file_is_one_node_whatever_its_names(void **state)
{
    struct world *world = *state;
    scoped(free) char *a = path_join(world->dir, "a");
    scoped(free) char *b = path_join(world->dir, "b");
    struct node *node;

    make(world, "a", "text");
    assert_int_equal(link(a, b), 0);
    node = enter(world, root(world), "a");
    assert_ptr_equal(enter(world, root(world), "b"), node);
    assert_int_equal(node->lookups, 2);
    assert_int_equal(nodes_count(world->nodes), 2);
}

static void test_what_is_forgotten_is_gone_and_its_number_used_again(void **state)
{
    struct world *world = *state;
    struct node *node;
    uint64_t id, generation;

    make(world, "a", "");
    make(world, "b", "");
    node = enter(world, root(world), "a");
    id = node->id;
    generation = node->generation;
    nodes_forget(world->nodes, node, 1);
    assert_null(nodes_find(world->nodes, id));
    node = enter(world, root(world), "b");
    assert_int_equal(node->id, id);
    assert_int_not_equal(node->generation, generation);
}

static void test_a_guest_that_forgets_more_than_it_has_does_no_harm(void **state)
{
    struct world *world = *state;

    make(world, "a", "");
    nodes_forget(world->nodes, enter(world, root(world), "a"), UINT64_MAX);
    nodes_forget(world->nodes, root(world), UINT64_MAX);
    assert_non_null(root(world));
    assert_null(nodes_find(world->nodes, 0));
    assert_null(nodes_find(world->nodes, UINT64_MAX));
}

static void test_a_folder_stays_for_what_is_in_it(void **state)
{
    struct world *world = *state;
    struct node *dir, *file;
    uint64_t id;

    make_dir(world, "d");
    make(world, "d/f", "text");
    dir = enter(world, root(world), "d");
    id = dir->id;
    file = enter(world, dir, "f");
    nodes_forget(world->nodes, dir, 1);
    assert_non_null(nodes_find(world->nodes, id));
    assert_true(nodes_io_fd(world->nodes, file, false) >= 0);
    nodes_forget(world->nodes, file, 1);
    assert_null(nodes_find(world->nodes, id));
}

static void test_a_name_that_leads_to_another_file_is_stale(void **state)
{
    struct world *world = *state;
    struct node_stat st;
    struct node *node;

    make(world, "a", "old");
    node = enter(world, root(world), "a");
    make(world, "a", "new"); /* by rename */
    assert_int_equal(nodes_path_fd(world->nodes, node), -ESTALE);
    assert_int_equal(nodes_stat(world->nodes, node, &st), -ESTALE);
    assert_ptr_not_equal(enter(world, root(world), "a"), node);
}

static void test_a_pinned_file_outlives_its_name(void **state)
{
    struct world *world = *state;
    scoped(free) char *path = path_join(world->dir, "a");
    struct node *node;
    char text[8] = "";
    int fd;

    make(world, "a", "kept");
    node = enter(world, root(world), "a");
    nodes_pin(world->nodes, node);
    unlink(path);
    fd = nodes_io_fd(world->nodes, node, false);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, text, sizeof(text)), 4);
    assert_string_equal(text, "kept");
}

static void test_descriptors_are_bounded(void **state)
{
    struct world *world = *state;
    scoped(free) char *dir = NULL;

    nodes_set_fd_max(world->nodes, 10);
    for (int i = 0; i < 200; i++) {
        scoped(free) char *name = xasprintf("f%d", i);

        make(world, name, name);
        assert_true(nodes_io_fd(world->nodes, enter(world, root(world), name), false) >= 0);
    }
    for (int i = 0; i < 200; i++) {
        scoped(free) char *name = xasprintf("f%d", i);

        assert_true(nodes_io_fd(world->nodes, enter(world, root(world), name), i % 2) >= 0);
    }
    dir = xstrdup("/proc/self/fd/40");
    assert_int_equal(access(dir, F_OK), -1);
}

static void test_only_regular_files_are_opened(void **state)
{
    struct world *world = *state;
    scoped(free) char *pipe_path = path_join(world->dir, "pipe");
    scoped(free) char *link_path = path_join(world->dir, "link");

    assert_int_equal(mkfifo(pipe_path, 0644), 0);
    assert_int_equal(symlink("/etc/passwd", link_path), 0);
    assert_int_equal(nodes_io_fd(world->nodes, enter(world, root(world), "pipe"), false), -EINVAL);
    assert_int_equal(nodes_io_fd(world->nodes, enter(world, root(world), "link"), false), -EINVAL);
    assert_int_equal(nodes_io_fd(world->nodes, root(world), false), -EISDIR);
}

static void test_what_was_written_is_given_up_and_still_readable(void **state)
{
    struct world *world = *state;
    scoped(free) char *path = path_join(world->dir, "a");
    struct node *node;
    int fd;

    make(world, "a", "1234");
    node = enter(world, root(world), "a");
    fd = nodes_io_fd(world->nodes, node, true);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_true(nodes_end_writing(world->nodes));
    assert_false(nodes_end_writing(world->nodes));
    unlink(path);
    fd = nodes_io_fd(world->nodes, node, false);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

static void on_closing(struct node *node, void *arg)
{
    struct world *world = arg;

    world->closed++;
    world->parents += nodes_find(world->nodes, world->dir_id) == node->parent;
}

static void test_who_hears_of_a_file_that_is_closed_finds_its_folder(void **state)
{
    struct world *world = *state;
    struct node *dir;

    make_dir(world, "d");
    make(world, "d/f", "text");
    dir = enter(world, root(world), "d");
    world->dir_id = dir->id;
    assert_true(nodes_io_fd(world->nodes, enter(world, dir, "f"), true) >= 0);
    nodes_set_closing(world->nodes, on_closing, world);
    nodes_reset(world->nodes);
    nodes_set_closing(world->nodes, NULL, NULL);
    assert_int_equal(world->closed, 1);
    assert_int_equal(world->parents, 1);
    assert_int_equal(nodes_count(world->nodes), 1);
}

static void test_pinned_files_leave_room_for_others(void **state)
{
    struct world *world = *state;
    struct node *kept = NULL, *lost = NULL;

    nodes_set_fd_max(world->nodes, 10);
    for (int i = 0; i < 100; i++) {
        scoped(free) char *name = xasprintf("f%d", i);
        scoped(free) char *path = path_join(world->dir, name);

        make(world, name, "");
        lost = enter(world, root(world), name);
        kept = kept ? kept : lost;
        nodes_pin(world->nodes, lost);
        unlink(path);
    }
    assert_true(nodes_path_fd(world->nodes, kept) >= 0);
    make(world, "last", "");
    assert_true(nodes_io_fd(world->nodes, enter(world, root(world), "last"), false) >= 0);
    assert_int_equal(nodes_path_fd(world->nodes, lost), -ESTALE);
    nodes_forget(world->nodes, kept, 1); /* which makes room for one */
    make(world, "next", "");
    kept = enter(world, root(world), "next");
    nodes_pin(world->nodes, kept);
    assert_true(kept->pinned);
}

#define DEEP 300000

static void on_journal_session(const struct journal_session *session, void *arg)
{
}

static void on_journal_node(const struct journal_node *node, void *arg)
{
    nodes_restore_node(arg, node);
}

static void on_journal_lookups(uint64_t id, int64_t change, void *arg)
{
    nodes_restore_lookups(arg, id, change);
}

static const struct journal_events events = {
    .session = on_journal_session, .node = on_journal_node, .lookups = on_journal_lookups};

/* No stack is deep enough for a walk that calls itself. */
static void test_a_very_deep_folder_is_kept_and_restored(void **state)
{
    static const uint8_t id[JOURNAL_ID_LEN] = {1};
    scoped(error_done) struct error err = ERROR_INIT;
    struct world *world = *state;
    scoped(free) char *path = path_join(world->dir, "state");
    scoped(journal_free) struct journal *journal = NULL;
    struct node *dir = root(world);

    assert_works(journal_open(path, id, &events, world->nodes, &journal, &err), &err);
    for (uint64_t i = 0; i < DEEP; i++) {
        struct node_stat st = {.ino = 1000000 + i, .st = {.st_mode = S_IFDIR}};

        assert_int_equal(nodes_enter(world->nodes, dir, "d", &st, &dir), 0);
    }
    nodes_renamed(world->nodes, dir, root(world), "moved"); /* ids are not in the order of depth */
    nodes_renamed(world->nodes, nodes_find(world->nodes, 2), dir, "below");
    journal_rewrite_begin(journal);
    nodes_save(world->nodes, journal);
    assert_int_equal(journal_rewrite_end(journal), 0);
    journal_free(steal(journal));
    nodes_reset(world->nodes);
    assert_works(journal_open(path, id, &events, world->nodes, &journal, &err), &err);
    assert_int_equal(nodes_count(world->nodes), DEEP + 1);
    dir = nodes_find(world->nodes, 2);
    assert_string_equal(dir->name, "below");
    assert_string_equal(dir->parent->name, "moved");
    assert_ptr_equal(nodes_find(world->nodes, 3)->parent, dir);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_one_file_is_one_node_whatever_its_names),
        T(test_what_is_forgotten_is_gone_and_its_number_used_again),
        T(test_a_guest_that_forgets_more_than_it_has_does_no_harm),
        T(test_a_folder_stays_for_what_is_in_it),
        T(test_a_name_that_leads_to_another_file_is_stale),
        T(test_a_pinned_file_outlives_its_name),
        T(test_descriptors_are_bounded),
        T(test_only_regular_files_are_opened),
        T(test_what_was_written_is_given_up_and_still_readable),
        T(test_who_hears_of_a_file_that_is_closed_finds_its_folder),
        T(test_pinned_files_leave_room_for_others),
        T(test_a_very_deep_folder_is_kept_and_restored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
