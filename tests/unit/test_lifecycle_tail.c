/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "lifecycle/tail.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"

struct fixture {
    char *dir;
    char *path;
    struct loop *loop;
    struct lifecycle_tail *tail;
    struct strv lines;
};

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    char *dir = xstrdup("/tmp/lima-tail-XXXXXX");

    f->dir = mkdtemp(dir);
    f->path = path_join(dir, "log");
    f->loop = loop_new();
    *state = f;
    return f->dir ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    lifecycle_tail_free(f->tail);
    loop_free(f->loop);
    file_remove_tree(f->dir, NULL);
    strv_done(&f->lines);
    free(f->dir);
    free(f->path);
    free(f);
    return 0;
}

static void on_line(const char *line, void *arg)
{
    struct fixture *f = arg;

    strv_add(&f->lines, line);
}

static void append(struct fixture *f, const char *text)
{
    int fd = open(f->path, O_WRONLY | O_APPEND | O_CREAT, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    close(fd);
}

static void begin(struct fixture *f, bool from_end)
{
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(lifecycle_tail_new(f->loop, f->dir, "log", from_end, on_line, f, &f->tail, &err),
                 &err);
    lifecycle_tail_drain(f->tail);
}

static void wait_for_lines(struct fixture *f, size_t count)
{
    while (f->lines.len < count) {
        loop_once(f->loop);
    }
}

static void test_lines_that_are_there_are_read_at_once(void **state)
{
    struct fixture *f = *state;

    append(f, "one\ntwo\nhal");
    begin(f, false);
    assert_int_equal(f->lines.len, 2);
    append(f, "f\n");
    wait_for_lines(f, 3);
    assert_string_equal(f->lines.items[2], "half");
}

static void test_old_lines_can_be_skipped(void **state)
{
    struct fixture *f = *state;

    append(f, "old\n");
    begin(f, true);
    append(f, "new\n");
    wait_for_lines(f, 1);
    assert_string_equal(f->lines.items[0], "new");
}

static void test_a_file_may_come_later_and_be_replaced(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *fresh = path_join(f->dir, "fresh");

    begin(f, false);
    append(f, "first\n");
    wait_for_lines(f, 1);
    assert_int_equal(file_write_text(fresh, "second\n", 0600, NULL), 0);
    assert_int_equal(rename(fresh, f->path), 0);
    wait_for_lines(f, 2);
    append(f, "third\n");
    wait_for_lines(f, 3);
    assert_string_equal(f->lines.items[0], "first");
    assert_string_equal(f->lines.items[1], "second");
    assert_string_equal(f->lines.items[2], "third");
}

static void test_an_endless_line_is_cut(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *big = xcalloc(1, 100001);

    memset(big, 'x', 100000);
    for (int i = 0; i < 12; i++) {
        append(f, big);
    }
    append(f, "\nnext\n");
    begin(f, false);
    assert_int_equal(f->lines.len, 2);
    assert_true(strlen(f->lines.items[0]) <= LIFECYCLE_LINE_MAX);
    assert_string_equal(f->lines.items[1], "next");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines_that_are_there_are_read_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_old_lines_can_be_skipped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_may_come_later_and_be_replaced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_an_endless_line_is_cut, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
