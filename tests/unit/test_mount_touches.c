/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/touches.h"

#include <errno.h>
#include <stdio.h>
#include "test.h"

#define T LIMA_TOUCH_TOUCH
#define F LIMA_TOUCH_FOLDER
#define R LIMA_TOUCH_REMOVED

/* A host on which all paths have this status, or none is there. */
struct host {
    struct stat st;
    bool gone;
};

static int look(const char *path, struct stat *ret, void *arg)
{
    const struct host *host = arg;

    *ret = host->st;
    return host->gone ? -ENOENT : 0;
}

static struct host host;
static struct touches *touches;
static struct buf text;

static int setup(void **state)
{
    host = (struct host){.st = {.st_mode = S_IFREG | 0644, .st_mtim = {.tv_nsec = 5}}};
    touches = touches_new(look, &host);
    text = BUF_INIT;
    return 0;
}

static int teardown(void **state)
{
    touches_free(touches);
    buf_done(&text);
    return 0;
}

/* The records that go out: "touch a, removed+touch b". Valid until the next call. */
static const char *take(int64_t now_ms, int *ret_again_ms)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    int again_ms = touches_take(touches, now_ms, &out);

    buf_drop(&text, text.len);
    for (size_t at = 0; at < out.len;) {
        struct lima_touch touch = lima_touch_decode((const uint8_t *)out.data + at);
        const char *sep = text.len ? ", " : "";

        buf_printf(&text, "%s%s%s%s%s%.*s", sep, touch.what & LIMA_TOUCH_RESET ? "reset " : "",
                   touch.what & R ? "removed " : "", touch.what & F ? "folder " : "",
                   touch.what & T ? "touch " : "", (int)touch.path_len,
                   out.data + at + LIMA_TOUCH_HEAD);
        at += LIMA_TOUCH_HEAD + touch.path_len;
    }
    if (ret_again_ms) {
        *ret_again_ms = again_ms;
    }
    return buf_str(&text);
}

static void test_what_happens_often_while_it_waits_is_told_once(void **state)
{
    for (int i = 0; i < 100; i++) {
        assert_true(touches_put(touches, "a", T, 1));
        assert_true(touches_put(touches, "b/c", T, 1));
    }
    assert_string_equal(take(0, NULL), "touch a, touch b/c");
    assert_string_equal(take(0, NULL), "");
}

static void test_what_happens_on_the_way_is_told_once_more_and_later(void **state)
{
    int again_ms;

    touches_put(touches, "a", T, 1);
    assert_string_equal(take(0, NULL), "touch a");
    touches_put(touches, "a", T, 2);
    touches_put(touches, "a", T, 3);
    assert_string_equal(take(0, NULL), "");
    assert_int_equal(touches_done(touches, 1, 100), 0);
    assert_string_equal(take(100, &again_ms), "");
    assert_int_equal(again_ms, TOUCHES_AGAIN_MS);
    assert_string_equal(take(100 + TOUCHES_AGAIN_MS, NULL), "touch a");
}

static void test_what_the_touch_does_to_the_file_is_not_told(void **state)
{
    touches_put(touches, "a", T, 1);
    assert_string_equal(take(0, NULL), "touch a");
    touches_put_attributes(touches, "a", 2); /* on its way, */
    touches_done(touches, 1, 10);
    touches_put_attributes(touches, "a", 3); /* after it, */
    touches_put_attributes(touches, "a", 4); /* and by another guest */
    assert_string_equal(take(1000, NULL), "");
}

static void test_another_change_of_attributes_is_told(void **state)
{
    touches_put(touches, "a", T, 1);
    take(0, NULL);
    host.st.st_mode = S_IFREG | 0755;
    touches_put_attributes(touches, "a", 2);
    touches_done(touches, 1, 10);
    assert_string_equal(take(1000, NULL), "touch a");
    touches_done(touches, 1, 1000);
    host.st.st_mtim.tv_nsec++;
    touches_put_attributes(touches, "a", 3);
    assert_string_equal(take(2000, NULL), "touch a");
}

static void test_new_content_is_told_even_if_nothing_shows_it(void **state)
{
    touches_put(touches, "a", T, 1);
    take(0, NULL);
    touches_done(touches, 1, 10);
    touches_put(touches, "a", T, 2);
    assert_string_equal(take(20, NULL), "touch a");
}

static void test_what_is_gone_is_told_only_as_that(void **state)
{
    host.gone = true;
    touches_put(touches, "a", T, 1);
    touches_put(touches, "b", T | F, 1);
    touches_put(touches, "b", R, 1);
    assert_string_equal(take(0, NULL), "removed b");
    host.gone = false;
    touches_put(touches, "c", R, 1);
    touches_put(touches, "c", T | F, 1); /* made again, as a file */
    assert_string_equal(take(0, NULL), "removed touch c");
    host.st.st_mode = S_IFDIR | 0755;
    touches_put(touches, "d", R, 1);
    touches_put(touches, "d", T | F, 1);
    assert_string_equal(take(0, NULL), "removed folder touch d");
}

static void put_many(int from, int count)
{
    for (int i = from; i < from + count; i++) {
        scoped(free) char *path = xasprintf("%d", i);

        assert_true(touches_put(touches, path, T, i));
    }
}

static size_t count_records(int64_t now_ms)
{
    const char *p = take(now_ms, NULL);
    size_t count = 0;

    for (; (p = strstr(p, "touch ")); p++) {
        count++;
    }
    return count;
}

static void test_no_more_are_on_their_way_than_the_window_allows(void **state)
{
    put_many(0, 200);
    assert_int_equal(count_records(0), LIMA_TOUCH_WINDOW);
    assert_int_equal(count_records(0), 0);
    touches_done(touches, 3, 0);
    assert_int_equal(count_records(0), 3);
}

static void test_an_answer_too_many_is_refused(void **state)
{
    touches_put(touches, "a", T, 1);
    take(0, NULL);
    assert_int_equal(touches_done(touches, 2, 0), -EBADMSG);
}

static void test_what_is_too_much_is_forgotten_and_since_when_is_known(void **state)
{
    put_many(1000, TOUCHES_MAX);
    assert_int_equal(touches_room(touches), 0);
    assert_false(touches_put(touches, "another", T, 900000));
    assert_true(touches_put(touches, "1000", T, 900000)); /* waits already */
    assert_int_equal(count_records(0), LIMA_TOUCH_WINDOW);
    assert_int_equal(touches_reset(touches, 900000), 1000 + LIMA_TOUCH_WINDOW);
    assert_int_equal(touches_room(touches), TOUCHES_MAX);
    touches_put(touches, "new", T, 900001);
    assert_string_equal(take(0, NULL), ""); /* behind all that is on its way */
    touches_done(touches, LIMA_TOUCH_WINDOW, 0);
    assert_string_equal(take(0, NULL), "reset , touch new");
    assert_int_equal(touches_done(touches, 2, 0), 0);
}

static void test_a_reset_forgets_what_was_to_be_told_again(void **state)
{
    touches_put(touches, "a", T, 10);
    take(0, NULL);
    touches_put(touches, "a", T, 20);
    assert_int_equal(touches_reset(touches, 30), 20);
    touches_done(touches, 1, 0);
    assert_string_equal(take(1000, NULL), "reset ");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_happens_often_while_it_waits_is_told_once),
        TEST(test_what_happens_on_the_way_is_told_once_more_and_later),
        TEST(test_what_the_touch_does_to_the_file_is_not_told),
        TEST(test_another_change_of_attributes_is_told),
        TEST(test_new_content_is_told_even_if_nothing_shows_it),
        TEST(test_what_is_gone_is_told_only_as_that),
        TEST(test_no_more_are_on_their_way_than_the_window_allows),
        TEST(test_an_answer_too_many_is_refused),
        TEST(test_what_is_too_much_is_forgotten_and_since_when_is_known),
        TEST(test_a_reset_forgets_what_was_to_be_told_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
