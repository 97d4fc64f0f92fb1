/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/file.h"
#include "util/path.h"

static int setup(void **state)
{
    char *dir = xstrdup("/tmp/test_util_file.XXXXXX");

    *state = dir;
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    int r = file_remove_tree(*state, NULL);

    free(*state);
    return r;
}

static void test_write_replaces_a_symlink_and_leaves_no_temporary(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *target = path_join(*state, "target"), *link = path_join(*state, "link");
    scoped(buf_done) struct buf text = BUF_INIT;
    struct stat st;

    assert_works(file_write_text(target, "old", 0600, &err), &err);
    assert_int_equal(symlink(target, link), 0);
    assert_works(file_write_text(link, "new", 0444, &err), &err);
    assert_works(file_read(target, 100, &text, &err), &err);
    assert_string_equal(text.data, "old");
    assert_int_equal(lstat(link, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0444);
    assert_int_equal(unlink(link) + unlink(target) + rmdir(*state), 0);
    assert_int_equal(mkdir(*state, 0700), 0);
}

static void test_read_refuses_more_than_the_limit(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(*state, "big");
    scoped(buf_done) struct buf text = BUF_INIT;

    assert_works(file_write_text(path, "12345", 0600, &err), &err);
    assert_works(file_read(path, 5, &text, &err), &err);
    assert_fails(file_read(path, 4, &text, &err), &err, EFBIG, "larger than 4 bytes");
}

static void test_remove_tree_does_not_follow_links(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *deep = path_join(*state, "tree/a/b"), *keep = path_join(*state, "keep");
    scoped(free) char *link = path_join(*state, "tree/a/link"), *tree = path_join(*state, "tree");

    assert_works(file_mkdirs(deep, 0700, &err), &err);
    assert_works(file_mkdirs(keep, 0700, &err), &err);
    assert_int_equal(symlink(keep, link), 0);
    assert_works(file_remove_tree(tree, &err), &err);
    assert_false(file_exists(tree));
    assert_true(file_is_dir(keep));
    assert_works(file_remove_tree(tree, &err), &err);
}

static void test_copy_keeps_content_and_holes(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *from = path_join(*state, "from"), *to = path_join(*state, "to");
    struct stat st;
    char tail[4] = "";
    int fd = open(from, O_RDWR | O_CREAT, 0600);

    assert_int_equal(pwrite(fd, "end", 3, 64 << 20), 3);
    close(fd);
    assert_works(file_copy(from, to, 0640, &err), &err);
    assert_int_equal(stat(to, &st), 0);
    assert_int_equal(st.st_size, (64 << 20) + 3);
    assert_true(st.st_blocks < 2048);
    assert_int_equal(st.st_mode & 0777, 0640);
    fd = open(to, O_RDONLY);
    assert_int_equal(pread(fd, tail, 3, 64 << 20), 3);
    assert_string_equal(tail, "end");
    close(fd);
}

static void test_second_lock_is_refused_without_blocking(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(*state, "lock");
    int first, second;

    assert_works(file_lock(path, true, &first, &err), &err);
    assert_fails(file_lock(path, true, &second, &err), &err, EAGAIN, "locked by another");
    close(first);
    assert_works(file_lock(path, true, &second, &err), &err);
    close(second);
}

static void test_long_socket_path_is_named(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    char path[200];
    int fd;

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_fails(file_listen_unix(path, 1, &fd, &err), &err, ENAMETOOLONG, "107 bytes");
}

/* The first connection is let in by the backlog of 0, the second is not. */
static void test_a_server_that_accepts_nobody_is_not_waited_for(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(*state, "deaf.sock");
    int server, first, second;

    assert_works(file_listen_unix(path, 0, &server, &err), &err);
    assert_works(file_connect_unix_now(path, &first, &err), &err);
    assert_true(fcntl(first, F_GETFL) & O_NONBLOCK);
    assert_fails(file_connect_unix_now(path, &second, &err), &err, EAGAIN, "connecting to");
    close(first);
    close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_replaces_a_symlink_and_leaves_no_temporary),
        cmocka_unit_test(test_read_refuses_more_than_the_limit),
        cmocka_unit_test(test_remove_tree_does_not_follow_links),
        cmocka_unit_test(test_copy_keeps_content_and_holes),
        cmocka_unit_test(test_second_lock_is_refused_without_blocking),
        cmocka_unit_test(test_long_socket_path_is_named),
        cmocka_unit_test(test_a_server_that_accepts_nobody_is_not_waited_for),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
