/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/coherence.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "test.h"
#include "util/file.h"
#include "util/path.h"

struct world {
    char *dir;
    struct tree *tree;
    struct nodes *nodes;
    struct coherence *coherence;
    struct ahead ahead; /* off */
    struct buf out;
};

static int setup(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct world *world = xnew(struct world);

    world->dir = xstrdup("/tmp/test-coherence-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_works(tree_open(world->dir, true, &world->tree, &err), &err);
    world->nodes = nodes_new(world->tree);
    world->coherence = coherence_new(world->nodes, &world->ahead, 1000);
    coherence_look(world->coherence, nodes_find(world->nodes, NODES_ROOT));
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    coherence_free(world->coherence);
    nodes_free(world->nodes);
    tree_free(world->tree);
    buf_done(&world->out);
    file_remove_tree(world->dir, NULL);
    free(world->dir);
    free(world);
    return 0;
}

static struct node *root(const struct world *world)
{
    return nodes_find(world->nodes, NODES_ROOT);
}

static void make(const struct world *world, const char *name)
{
    scoped(free) char *path = path_join(world->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    close(fd);
}

static void move(const struct world *world, const char *from, const char *to)
{
    scoped(free) char *old = path_join(world->dir, from);
    scoped(free) char *new = path_join(world->dir, to);

    assert_int_equal(rename(old, new), 0);
}

/* How many notifications say that @name of the shared folder leads elsewhere. */
static int told(const struct world *world, const char *name)
{
    int count = 0;

    for (size_t at = 0; at < world->out.len;) {
        const char *message = world->out.data + at;
        struct fuse_out_header head;

        memcpy(&head, message, sizeof(head));
        if (head.error == FUSE_NOTIFY_INVAL_ENTRY) {
            count += strcmp(message + sizeof(head) + sizeof(struct fuse_notify_inval_entry_out),
                            name) == 0;
        }
        at += head.len;
    }
    return count;
}

static void begin(struct world *world)
{
    coherence_begin_own(world->coherence, &world->out);
    buf_drop(&world->out, world->out.len);
}

static void test_what_the_host_does_is_told(void **state)
{
    struct world *world = *state;

    make(world, "file");
    move(world, "file", "moved");
    coherence_run(world->coherence, &world->out);
    assert_true(told(world, "file") > 0);
    assert_true(told(world, "moved") > 0);
}

static void test_what_the_guest_does_itself_is_not_told(void **state)
{
    struct world *world = *state;

    begin(world);
    make(world, "file");
    coherence_end_own(world->coherence, root(world), "file", NULL, NULL, 1, NULL, &world->out);
    assert_int_equal(world->out.len, 0);
    begin(world);
    move(world, "file", "moved");
    coherence_end_own(world->coherence, root(world), "file", root(world), "moved", 1, NULL,
                      &world->out);
    assert_int_equal(world->out.len, 0);
}

static void test_an_exchange_of_names_is_not_told(void **state)
{
    struct world *world = *state;
    scoped(free) char *a = path_join(world->dir, "a");
    scoped(free) char *b = path_join(world->dir, "b");

    make(world, "a");
    make(world, "b");
    begin(world);
    assert_int_equal(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), 0);
    coherence_end_own(world->coherence, root(world), "a", root(world), "b", 2, NULL, &world->out);
    assert_int_equal(world->out.len, 0);
}

static void test_what_the_host_does_while_a_request_fails_is_told(void **state)
{
    struct world *world = *state;

    begin(world);
    make(world, "file");
    coherence_end_own(world->coherence, root(world), "file", NULL, NULL, 0, NULL, &world->out);
    assert_true(told(world, "file") > 0);
}

/* By somebody who waits for the file and takes it away at once, as a queue's reader does. */
static void test_what_the_host_does_at_the_same_time_to_the_same_name_is_told(void **state)
{
    struct world *world = *state;

    begin(world);
    make(world, "file");
    move(world, "file", "taken");
    coherence_end_own(world->coherence, root(world), "file", NULL, NULL, 1, NULL, &world->out);
    assert_true(told(world, "file") > 0);
    assert_true(told(world, "taken") > 0);
}

static void test_a_name_that_the_guest_gives_and_the_host_gives_again_is_told(void **state)
{
    struct world *world = *state;

    make(world, "file");
    make(world, "other");
    begin(world);
    move(world, "file", "target");
    move(world, "other", "target");
    coherence_end_own(world->coherence, root(world), "file", root(world), "target", 1, NULL,
                      &world->out);
    assert_true(told(world, "target") > 0);
    assert_int_equal(told(world, "file"), 0);
}

static void test_a_file_that_the_host_replaces_while_the_guest_writes_to_it_is_told(void **state)
{
    struct world *world = *state;
    struct node_stat st;
    struct node *node;

    make(world, "file");
    make(world, "new");
    assert_int_equal(
        nodes_stat_at(world->nodes, nodes_path_fd(world->nodes, root(world)), "file", &st), 0);
    assert_int_equal(nodes_enter(world->nodes, root(world), "file", &st, &node), 0);
    begin(world);
    assert_int_equal(write(nodes_io_fd(world->nodes, node, true), "text", 4), 4);
    coherence_end_own(world->coherence, NULL, NULL, NULL, NULL, 1, node, &world->out);
    assert_int_equal(world->out.len, 0);
    begin(world);
    assert_int_equal(write(nodes_io_fd(world->nodes, node, true), "text", 4), 4);
    move(world, "new", "file");
    coherence_end_own(world->coherence, NULL, NULL, NULL, NULL, 1, node, &world->out);
    assert_true(told(world, "file") > 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_what_the_host_does_is_told),
        T(test_what_the_guest_does_itself_is_not_told),
        T(test_an_exchange_of_names_is_not_told),
        T(test_what_the_host_does_while_a_request_fails_is_told),
        T(test_what_the_host_does_at_the_same_time_to_the_same_name_is_told),
        T(test_a_name_that_the_guest_gives_and_the_host_gives_again_is_told),
        T(test_a_file_that_the_host_replaces_while_the_guest_writes_to_it_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
