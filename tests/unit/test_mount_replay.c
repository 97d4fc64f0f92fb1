/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/replay.h"

#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "test.h"
#include "util/file.h"
#include "util/path.h"

struct world {
    char *dir;
    struct tree *tree;
    struct nodes *nodes;
    struct node *root;
    struct replay *replay;
    uint64_t sequence;
    struct buf out;
};

static int setup(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct world *world = xnew(struct world);

    world->dir = xstrdup("/tmp/test-replay-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_works(tree_open(world->dir, true, &world->tree, &err), &err);
    world->nodes = nodes_new(world->tree);
    world->root = nodes_find(world->nodes, NODES_ROOT);
    world->replay = replay_new(world->nodes);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    buf_done(&world->out);
    replay_free(world->replay);
    nodes_free(world->nodes);
    tree_free(world->tree);
    file_remove_tree(world->dir, NULL);
    free(world->dir);
    free(world);
    return 0;
}

/* What goes to the guest at @now_ms: "MAKE a", "MOVE a b", "" for nothing. Valid until the next
 * call. */
static const char *next(struct world *world, uint64_t now_ms)
{
    static const char *const names[] = {[LIMA_REPLAY_MAKE] = "MAKE",
                                        [LIMA_REPLAY_REMOVE] = "REMOVE",
                                        [LIMA_REPLAY_MOVE] = "MOVE",
                                        [LIMA_REPLAY_MODIFY] = "MODIFY",
                                        [LIMA_REPLAY_ATTRIBUTES] = "ATTRIBUTES",
                                        [LIMA_REPLAY_CLOSE] = "CLOSE"};
    static char text[600];
    struct fuse_out_header head;
    struct lima_replay event;
    const char *name;

    buf_drop(&world->out, world->out.len);
    if (!replay_next(world->replay, world->sequence + 1, now_ms, &world->out)) {
        return "";
    }
    world->sequence++;
    memcpy(&head, world->out.data, sizeof(head));
    assert_int_equal(head.len, world->out.len);
    assert_int_equal(head.unique, 0);
    assert_int_equal(head.error, LIMA_MOUNT_REPLAY);
    memcpy(&event, world->out.data + sizeof(head), sizeof(event));
    name = (const char *)world->out.data + sizeof(head) + sizeof(event);
    assert_int_equal(strlen(name), event.name_len);
    assert_int_equal(strlen(name + event.name_len + 1), event.name2_len);
    snprintf(text, sizeof(text), "%s %s%s%s", names[event.op], name, event.name2_len ? " " : "",
             name + event.name_len + 1);
    return text;
}

static void put(const struct world *world, enum lima_replay_op op, const char *name)
{
    assert_true(replay_put(world->replay, op, world->root, name, false));
}

static void test_events_go_in_their_order_and_a_few_at_a_time(void **state)
{
    struct world *world = *state;

    for (char name[] = "a"; *name <= 'z'; ++*name) {
        put(world, LIMA_REPLAY_MAKE, name);
    }
    assert_string_equal(next(world, 0), "MAKE a");
    assert_string_equal(next(world, 0), "MAKE b");
    while (*next(world, 0)) {
    }
    assert_in_range(world->sequence, 3, 25);
    replay_taken(world->replay, 1);
    assert_true(*next(world, 0));
    assert_string_equal(next(world, 0), "");
}

static void test_what_repeats_itself_is_one_event(void **state)
{
    struct world *world = *state;

    put(world, LIMA_REPLAY_MODIFY, "a");
    put(world, LIMA_REPLAY_MODIFY, "b");
    put(world, LIMA_REPLAY_MODIFY, "a");
    put(world, LIMA_REPLAY_CLOSE, "a");
    put(world, LIMA_REPLAY_MODIFY, "a");
    put(world, LIMA_REPLAY_MAKE, "c");
    put(world, LIMA_REPLAY_REMOVE, "c");
    put(world, LIMA_REPLAY_MAKE, "c");
    assert_string_equal(next(world, 0), "MODIFY a");
    assert_string_equal(next(world, 0), "MODIFY b");
    assert_string_equal(next(world, 0), "CLOSE a");
    assert_string_equal(next(world, 0), "MODIFY a");
    assert_string_equal(next(world, 0), "MAKE c");
    assert_string_equal(next(world, 0), "REMOVE c");
    assert_string_equal(next(world, 0), "MAKE c");
    assert_string_equal(next(world, 0), "");
}

static void test_halves_of_a_move_find_each_other(void **state)
{
    struct world *world = *state;

    assert_true(replay_moved_from(world->replay, world->root, "a", false, 7, 100));
    put(world, LIMA_REPLAY_MODIFY, "other");
    assert_true(replay_waits(world->replay));
    assert_string_equal(next(world, 100 + REPLAY_PAIR_MS - 1), "");
    assert_true(replay_moved_to(world->replay, world->root, "b", false, 7));
    assert_false(replay_waits(world->replay));
    assert_string_equal(next(world, 101), "MOVE a b");
    assert_string_equal(next(world, 101), "MODIFY other");
}

static void test_a_half_that_stays_alone_goes_elsewhere(void **state)
{
    struct world *world = *state;
    const struct replay_event *event;

    assert_true(replay_moved_from(world->replay, world->root, "a", false, 7, 100));
    assert_true(replay_moved_to(world->replay, world->root, "b", false, 8));
    assert_string_equal(next(world, 100), "");
    assert_string_equal(next(world, 100 + REPLAY_PAIR_MS), "MOVE a 1");
    assert_string_equal(next(world, 100 + REPLAY_PAIR_MS), "MOVE 2 b");
    assert_int_equal(replay_find(world->replay, NODES_ROOT, "a", &event), REPLAY_ROLE_MOVED);
    assert_int_equal(event->dir2, LIMA_REPLAY_ELSEWHERE_NODE);
    assert_int_equal(replay_find(world->replay, LIMA_REPLAY_ELSEWHERE_NODE, "1", &event),
                     REPLAY_ROLE_ABSENT);
    assert_int_equal(replay_find(world->replay, LIMA_REPLAY_ELSEWHERE_NODE, "2", &event),
                     REPLAY_ROLE_MOVED);
    assert_int_equal(replay_find(world->replay, NODES_ROOT, "b", &event), REPLAY_ROLE_ABSENT);
    assert_int_equal(replay_find(world->replay, NODES_ROOT, "1", &event), REPLAY_ROLE_NONE);
}

static void test_a_name_is_what_the_event_on_its_way_makes_of_it(void **state)
{
    struct world *world = *state;
    const struct replay_event *event;

    put(world, LIMA_REPLAY_MAKE, "a");
    put(world, LIMA_REPLAY_REMOVE, "a");
    assert_int_equal(replay_find(world->replay, NODES_ROOT, "a", &event), REPLAY_ROLE_NONE);
    assert_null(event);
    assert_string_equal(next(world, 0), "MAKE a");
    assert_string_equal(next(world, 0), "REMOVE a");
    assert_int_equal(replay_find(world->replay, NODES_ROOT, "a", &event), REPLAY_ROLE_ABSENT);
    replay_done(world->replay, NODES_ROOT, "a");
    assert_int_equal(replay_find(world->replay, NODES_ROOT, "a", &event), REPLAY_ROLE_GONE);
    replay_done(world->replay, NODES_ROOT, "a");
    assert_int_equal(replay_find(world->replay, NODES_ROOT, "a", &event), REPLAY_ROLE_NONE);
    replay_taken(world->replay, world->sequence);
    assert_int_equal(replay_find(world->replay, NODES_ROOT, "a", &event), REPLAY_ROLE_NONE);
}

/* Its requests look like those of the event before, which has none that would show its end. */
static void test_a_name_that_was_opened_is_removed_when_that_is_over(void **state)
{
    struct world *world = *state;

    put(world, LIMA_REPLAY_CLOSE, "a");
    put(world, LIMA_REPLAY_REMOVE, "a");
    assert_string_equal(next(world, 0), "CLOSE a");
    assert_string_equal(next(world, 0), "");
    replay_taken(world->replay, world->sequence);
    assert_string_equal(next(world, 0), "REMOVE a");
}

static void test_what_was_on_its_way_is_sent_again(void **state)
{
    struct world *world = *state;

    put(world, LIMA_REPLAY_MAKE, "a");
    put(world, LIMA_REPLAY_MAKE, "b");
    put(world, LIMA_REPLAY_MAKE, "c");
    assert_string_equal(next(world, 0), "MAKE a");
    assert_string_equal(next(world, 0), "MAKE b");
    replay_taken(world->replay, 1);
    replay_restart(world->replay);
    assert_string_equal(next(world, 0), "MAKE b");
    assert_string_equal(next(world, 0), "MAKE c");
    assert_string_equal(next(world, 0), "");
    replay_restart(world->replay);
    replay_clear(world->replay);
    assert_string_equal(next(world, 0), "");
}

static void test_too_many_are_refused(void **state)
{
    struct world *world = *state;
    unsigned count = 0;
    char name[16];

    do {
        snprintf(name, sizeof(name), "%u", count++);
    } while (count < 1000000 &&
             replay_put(world->replay, LIMA_REPLAY_MAKE, world->root, name, false));
    assert_in_range(count, 10000, 999999);
    assert_false(replay_moved_from(world->replay, world->root, "x", false, 1, 0));
    assert_false(replay_moved_to(world->replay, world->root, "x", false, 1));
    assert_false(replay_removed(world->replay, world->root, "x", NULL));
    assert_false(replay_is_prompt(world->replay));
}

/* Each one that came in alone was looked for among all that wait. */
static void test_a_host_that_moves_much_in_is_followed(void **state)
{
    struct world *world = *state;
    clock_t begin = clock();
    char name[16];

    for (unsigned i = 1; i <= 60000; i++) {
        snprintf(name, sizeof(name), "%u", i);
        assert_true(replay_moved_to(world->replay, world->root, name, false, i));
    }
    assert_in_range((clock() - begin) * 1000 / CLOCKS_PER_SEC, 0, 1500);
}

static void test_the_longest_names_fit(void **state)
{
    struct world *world = *state;
    char a[256], b[256];

    memset(a, 'a', 255);
    memset(b, 'b', 255);
    a[255] = b[255] = '\0';
    assert_true(replay_moved_from(world->replay, world->root, a, false, 7, 0));
    assert_true(replay_moved_to(world->replay, world->root, b, false, 7));
    assert_true(*next(world, 0));
    assert_true(world->out.len <= LIMA_REPLAY_MAX);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_events_go_in_their_order_and_a_few_at_a_time),
        T(test_what_repeats_itself_is_one_event),
        T(test_halves_of_a_move_find_each_other),
        T(test_a_half_that_stays_alone_goes_elsewhere),
        T(test_a_name_is_what_the_event_on_its_way_makes_of_it),
        T(test_a_name_that_was_opened_is_removed_when_that_is_over),
        T(test_what_was_on_its_way_is_sent_again),
        T(test_too_many_are_refused),
        T(test_a_host_that_moves_much_in_is_followed),
        T(test_the_longest_names_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
