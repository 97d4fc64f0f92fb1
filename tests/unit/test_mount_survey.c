/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/survey.h"

#include <fcntl.h>
#include <poll.h>
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
    struct survey *survey;
    struct buf text;
    int64_t now_ms;
};

static int setup(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct world *world = xnew(struct world);

    world->dir = xstrdup("/tmp/test-survey-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_works(tree_open(world->dir, false, &world->tree, &err), &err);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    survey_free(world->survey);
    tree_free(world->tree);
    buf_done(&world->text);
    file_remove_tree(world->dir, NULL);
    free(world->dir);
    free(world);
    return 0;
}

static void make_folder(struct world *world, const char *name)
{
    scoped(free) char *path = path_join(world->dir, name);

    assert_int_equal(mkdir(path, 0755), 0);
}

static void write_file(struct world *world, const char *name, const char *text)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(world->dir, name);
    scoped(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void begin(struct world *world, struct survey_options options)
{
    scoped(error_done) struct error err = ERROR_INIT;

    options.tree = world->tree;
    options.source = world->dir;
    options.share = options.share ? options.share : 100;
    assert_works(survey_new(&options, &world->survey, &err), &err);
    while (survey_step(world->survey)) {
    }
}

/* What goes to a guest that does all at once: " t:a/b", with what in front. Valid until the next.
 */
static const char *told(struct world *world)
{
    struct pollfd fd = {.fd = survey_fd(world->survey), .events = POLLIN};
    scoped(buf_done) struct buf out = BUF_INIT;

    buf_drop(&world->text, world->text.len);
    do {
        size_t count = 0;

        survey_read(world->survey);
        while (survey_step(world->survey)) {
        }
        buf_drop(&out, out.len);
        world->now_ms += TOUCHES_AGAIN_MS;
        touches_take(survey_touches(world->survey), world->now_ms, &out);
        for (size_t at = 0; at < out.len; count++) {
            struct lima_touch touch = lima_touch_decode((const uint8_t *)out.data + at);

            buf_printf(&world->text, " %s%s%s%s:%.*s", touch.what & LIMA_TOUCH_RESET ? "x" : "",
                       touch.what & LIMA_TOUCH_REMOVED ? "r" : "",
                       touch.what & LIMA_TOUCH_FOLDER ? "f" : "",
                       touch.what & LIMA_TOUCH_TOUCH ? "t" : "", (int)touch.path_len,
                       out.data + at + LIMA_TOUCH_HEAD);
            at += LIMA_TOUCH_HEAD + touch.path_len;
        }
        assert_int_equal(touches_done(survey_touches(world->survey), count, world->now_ms), 0);
    } while (out.len || poll(&fd, 1, 0) > 0);
    return buf_str(&world->text);
}

static void test_what_is_there_is_not_told(void **state)
{
    struct world *world = *state;

    make_folder(world, "a");
    write_file(world, "a/file", "x");
    begin(world, (struct survey_options){0});
    assert_string_equal(told(world), "");
    assert_true(survey_is_alive(world->survey));
}

static void test_folders_are_named_from_the_top_down_as_far_as_the_guest_holds_them(void **state)
{
    struct world *world = *state;

    make_folder(world, "a");
    make_folder(world, "a/b");
    make_folder(world, "a/b/c");
    begin(world, (struct survey_options){.folders_told = 3});
    assert_string_equal(told(world), " f: f:a f:a/b");
}

static void test_a_change_in_a_folder_below_is_told(void **state)
{
    struct world *world = *state;

    make_folder(world, "a");
    make_folder(world, "a/b");
    write_file(world, "a/b/file", "x");
    begin(world, (struct survey_options){0});
    write_file(world, "a/b/file", "y");
    write_file(world, "a/b/file", "z");
    assert_string_equal(told(world), " t:a/b/file");
}

static void test_new_folders_are_told_with_what_was_put_into_them_at_once(void **state)
{
    struct world *world = *state;
    const char *text;

    begin(world, (struct survey_options){0});
    make_folder(world, "new");
    make_folder(world, "new/er");
    write_file(world, "new/er/file", "x");
    text = told(world);
    assert_non_null(strstr(text, " ft:new "));
    assert_non_null(strstr(text, " ft:new/er "));
    assert_non_null(strstr(text, " t:new/er/file"));
    write_file(world, "new/er/file", "y");
    assert_string_equal(told(world), " t:new/er/file");
}

static void test_a_removal_is_told_and_its_folder_touched(void **state)
{
    struct world *world = *state;
    scoped(free) char *path = path_join(world->dir, "a/file");

    make_folder(world, "a");
    write_file(world, "a/file", "x");
    begin(world, (struct survey_options){0});
    unlink(path);
    assert_string_equal(told(world), " r:a/file t:a");
}

static void test_a_folder_that_is_moved_is_followed(void **state)
{
    struct world *world = *state;
    scoped(free) char *old = path_join(world->dir, "a"), *new = path_join(world->dir, "b");
    const char *text;

    make_folder(world, "a");
    make_folder(world, "a/in");
    begin(world, (struct survey_options){0});
    assert_int_equal(rename(old, new), 0);
    text = told(world);
    assert_non_null(strstr(text, " r:a"));
    assert_non_null(strstr(text, " ft:b"));
    assert_non_null(strstr(text, " ft:b/in"));
    write_file(world, "b/in/file", "x");
    assert_string_equal(told(world), " t:b/in/file");
}

static void test_links_are_told_and_not_followed(void **state)
{
    struct world *world = *state;
    scoped(free) char *link = path_join(world->dir, "link");

    begin(world, (struct survey_options){0});
    assert_int_equal(symlink("/", link), 0);
    assert_string_equal(told(world), " t:link");
}

static void test_a_folder_is_left_out(void **state)
{
    struct world *world = *state;
    scoped(free) char *path = path_join(world->dir, "own");

    make_folder(world, "own");
    make_folder(world, "own/in");
    begin(world, (struct survey_options){.without = path});
    write_file(world, "own/file", "x");
    write_file(world, "own/in/file", "x");
    assert_string_equal(told(world), "");
}

static void test_what_has_changed_since_is_found(void **state)
{
    struct world *world = *state;
    const struct timespec tick = {.tv_nsec = 100000000}; /* more than times may lag */
    struct timespec now;

    make_folder(world, "a");
    write_file(world, "a/old", "x");
    write_file(world, "a/changed", "x");
    nanosleep(&tick, NULL);
    clock_gettime(CLOCK_REALTIME, &now);
    write_file(world, "a/changed", "y");
    begin(world,
          (struct survey_options){.since_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec});
    assert_string_equal(told(world), " t:a/changed");
}

/* More than may wait, all at once: looked for, and found. */
static void test_what_is_too_much_is_found_later(void **state)
{
    struct world *world = *state;
    const char *text;

    begin(world, (struct survey_options){.folders_told = 10});
    make_folder(world, "a");
    told(world);
    for (int i = 0; i < TOUCHES_MAX + 100; i++) {
        scoped(free) char *name = xasprintf("a/%d", i);

        write_file(world, name, "");
        if (i % 1000 == 0) {
            survey_read(world->survey);
        }
    }
    text = told(world);
    assert_non_null(strstr(text, " x: "));
    assert_non_null(strstr(text, " ft:a "));
    for (int i = 0; i < TOUCHES_MAX + 100; i++) {
        scoped(free) char *name = xasprintf(" t:a/%d", i);

        assert_non_null(strstr(text, name));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_there_is_not_told),
        TEST(test_folders_are_named_from_the_top_down_as_far_as_the_guest_holds_them),
        TEST(test_a_change_in_a_folder_below_is_told),
        TEST(test_new_folders_are_told_with_what_was_put_into_them_at_once),
        TEST(test_a_removal_is_told_and_its_folder_touched),
        TEST(test_a_folder_that_is_moved_is_followed),
        TEST(test_links_are_told_and_not_followed),
        TEST(test_a_folder_is_left_out),
        TEST(test_what_has_changed_since_is_found),
        TEST(test_what_is_too_much_is_found_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
