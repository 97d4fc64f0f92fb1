/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include <sys/wait.h>

#include <signal.h>
#include <unistd.h>
#include "util/loop.h"
#include "util/process.h"

static void test_missing_program_is_an_error_at_start(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct process_options o = PROCESS_OPTIONS_INIT;
    const char *argv[] = {"no-such-program-here", NULL};
    pid_t pid;

    assert_fails(process_start(argv, &o, &pid, &err), &err, ENOENT, "'no-such-program-here'");
}

static void test_capture_takes_both_streams_and_the_status(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf out = BUF_INIT;
    scoped(buf_done) struct buf errs = BUF_INIT;
    const char *argv[] = {"sh", "-c", "cat; echo oops >&2; exit 7", NULL};

    assert_int_equal(process_capture(argv, "hello", 0, &out, &errs, &err), 7);
    assert_string_equal(out.data, "hello");
    assert_string_equal(errs.data, "oops\n");
}

static void test_capture_of_a_killed_child_is_128_and_the_signal(void **state)
{
    const char *argv[] = {"sh", "-c", "kill -9 $$", NULL};

    assert_int_equal(process_capture(argv, NULL, 0, NULL, NULL, NULL), 128 + SIGKILL);
}

static void test_capture_kills_at_the_deadline(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    const char *argv[] = {"sleep", "1000", NULL};

    assert_fails(process_capture(argv, NULL, 50, NULL, NULL, &err), &err, ETIMEDOUT, "'sleep'");
}

static void test_more_output_than_the_limit_does_not_block(void **state)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    const char *argv[] = {"head", "-c", "6000000", "/dev/zero", NULL};

    assert_int_equal(process_capture(argv, NULL, 0, &out, NULL, NULL), 0);
    assert_int_equal(out.len, 4u << 20);
}

static void test_check_puts_stderr_into_the_error(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    const char *argv[] = {"sh", "-c", "echo no space >&2; exit 3", NULL};

    assert_fails(process_check(argv, 0, NULL, &err), &err, EIO, "status 3: no space");
}

static void test_passed_descriptors_begin_at_three(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct process_options o = PROCESS_OPTIONS_INIT;
    const char *argv[] = {"sh", "-c", "printf one >&4; printf two >&3; test ! -e /dev/fd/5", NULL};
    int a[2], b[2], fds[2];
    char text[4] = "";
    pid_t pid;

    assert_int_equal(pipe(a) + pipe(b), 0);
    fds[0] = b[1];
    fds[1] = a[1];
    o.pass_fds = fds;
    o.pass_count = 2;
    assert_works(process_start(argv, &o, &pid, &err), &err);
    assert_int_equal(process_wait(pid, 5000), 0);
    assert_int_equal(read(a[0], text, 3), 3);
    assert_string_equal(text, "one");
    assert_int_equal(read(b[0], text, 3), 3);
    assert_string_equal(text, "two");
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}

static void on_child_end(pid_t pid, int status, void *arg)
{
    struct loop *loop = arg;

    loop_quit(loop, status);
}

static void test_loop_reports_the_wait_status_of_a_child(void **state)
{
    scoped(loop_free) struct loop *loop = loop_new();
    scoped(error_done) struct error err = ERROR_INIT;
    struct process_options o = PROCESS_OPTIONS_INIT;
    const char *argv[] = {"sh", "-c", "exit 9", NULL};
    struct loop_child *child;
    scoped(free) char *text = NULL;
    pid_t pid;

    assert_works(process_start(argv, &o, &pid, &err), &err);
    assert_works(loop_child_new(loop, pid, on_child_end, loop, &child, &err), &err);
    text = process_status_text(loop_run(loop));
    assert_string_equal(text, "exit status 9");
    loop_child_free(child);
}

static void test_a_process_is_named_by_when_it_began(void **state)
{
    unsigned long long own = process_start_time(getpid());
    pid_t pid = fork();

    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_true(own > 0);
    assert_int_equal(process_start_time(getpid()), own);
    assert_true(process_start_time(pid) >= own);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(process_start_time(pid), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_process_is_named_by_when_it_began),
        cmocka_unit_test(test_missing_program_is_an_error_at_start),
        cmocka_unit_test(test_capture_takes_both_streams_and_the_status),
        cmocka_unit_test(test_capture_of_a_killed_child_is_128_and_the_signal),
        cmocka_unit_test(test_capture_kills_at_the_deadline),
        cmocka_unit_test(test_more_output_than_the_limit_does_not_block),
        cmocka_unit_test(test_check_puts_stderr_into_the_error),
        cmocka_unit_test(test_passed_descriptors_begin_at_three),
        cmocka_unit_test(test_loop_reports_the_wait_status_of_a_child),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
