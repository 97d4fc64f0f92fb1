/* SPDX-License-Identifier: Apache-2.0 */
/* The host agent is a shell script that writes the lines of a case to the files of the instance. */
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/log.h"
#include "instance/layout.h"
#include "lifecycle/follow.h"
#include "util/file.h"
#include "util/loop.h"
#include "util/path.h"
#include "util/process.h"

#define EVENT(status)   "{\"time\":\"2026-01-02T03:04:05.000000006Z\",\"status\":" status "}"
#define PUT(file, line) "printf '%s\\n' '" line "' >>\"$1/" file "\"\n"

struct fixture {
    char *dir;
    pid_t agent;
    struct lifecycle_result result;
};

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    f->dir = xstrdup("/tmp/lima-follow-XXXXXX");
    f->result = LIFECYCLE_RESULT_INIT;
    log_set_level(LOG_LEVEL_FATAL);
    *state = f;
    return mkdtemp(f->dir) ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->agent) {
        process_kill(f->agent, SIGKILL, 5000, NULL);
        waitpid(f->agent, NULL, 0);
    }
    lifecycle_result_done(&f->result);
    file_remove_tree(f->dir, NULL);
    free(f->dir);
    free(f);
    return 0;
}

static void run_agent(struct fixture *f, const char *script)
{
    const char *argv[] = {"sh", "-c", script, "agent", f->dir, NULL};
    struct process_options options = PROCESS_OPTIONS_INIT;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(process_start(argv, &options, &f->agent, &err), &err);
}

static enum lifecycle_end follow(struct fixture *f, struct lifecycle_follow_options options)
{
    scoped(error_done) struct error err = ERROR_INIT;

    options.dir = f->dir;
    options.agent = f->agent;
    assert_works(lifecycle_follow(&options, &f->result, &err), &err);
    return f->result.end;
}

static enum lifecycle_end follow_script(void **state, const char *script)
{
    run_agent(*state, script);
    return follow(*state, (struct lifecycle_follow_options){.goal = LIFECYCLE_GOAL_READY,
                                                            .timeout_ms = 20000});
}

static void test_running_is_ready(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        follow_script(state, PUT(LAYOUT_HA_STDOUT, EVENT("{\"sshLocalPort\":4022}")) PUT(
                                 LAYOUT_HA_STDOUT, EVENT("{\"progress\":{\"stage\":\"booting\"}}"))
                                 PUT(LAYOUT_HA_STDOUT, EVENT("{\"running\":true}")) "sleep 60"),
        LIFECYCLE_END_READY);
    assert_int_equal(f->result.ssh_port, 4022);
    assert_string_equal(f->result.stage, "booting");
    assert_null(f->result.detail);
}

static void test_last_progress_is_kept_for_who_waited_too_long(void **state)
{
    struct fixture *f = *state;

    run_agent(
        f, PUT(LAYOUT_HA_STDOUT,
               EVENT("{\"progress\":{\"stage\":\"running\",\"detail\":\"probe/0\"}}")) "sleep 60");
    assert_int_equal(follow(f, (struct lifecycle_follow_options){.goal = LIFECYCLE_GOAL_READY,
                                                                 .stall_ms = 1500}),
                     LIFECYCLE_END_STALLED);
    assert_string_equal(f->result.stage, "running");
    assert_string_equal(f->result.detail, "probe/0");
}

static void test_what_is_there_already_counts(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *path = path_join(f->dir, LAYOUT_HA_STDOUT);

    file_write_text(path, EVENT("{\"running\":true}") "\n", 0600, NULL);
    run_agent(f, "sleep 60");
    assert_int_equal(follow(f, (struct lifecycle_follow_options){.goal = LIFECYCLE_GOAL_READY}),
                     LIFECYCLE_END_READY);
    assert_true(f->result.at_once);
}

static void test_degraded_brings_its_errors_once(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        follow_script(
            state, PUT(LAYOUT_HA_STDOUT, EVENT("{\"errors\":[\"a script failed\"]}"))
                       PUT(LAYOUT_HA_STDOUT, EVENT("{\"running\":true,\"degraded\":true,\"errors\":"
                                                   "[\"a script failed\"]}")) "sleep 60"),
        LIFECYCLE_END_DEGRADED);
    assert_int_equal(f->result.errors.len, 1);
}

static void test_the_end_is_awaited_after_exiting(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        follow_script(state, PUT(LAYOUT_HA_STDOUT,
                                 EVENT("{\"exiting\":true,\"errors\":[\"no disk\"]}")) "exit 3"),
        LIFECYCLE_END_GONE);
    assert_string_equal(f->result.errors.items[0], "no disk");
    assert_int_equal(WEXITSTATUS(f->result.status), 3);
    f->agent = 0;
}

static void test_a_killed_agent_is_gone_at_once(void **state)
{
    struct fixture *f = *state;
    int64_t before = loop_now_ms();

    assert_int_equal(follow_script(state, "kill -KILL $$"), LIFECYCLE_END_GONE);
    assert_true(loop_now_ms() - before < 2000);
    assert_int_equal(WTERMSIG(f->result.status), SIGKILL);
    f->agent = 0;
}

static void test_lines_that_are_no_events_are_skipped(void **state)
{
    assert_int_equal(
        follow_script(state, PUT(LAYOUT_HA_STDOUT, "not json") PUT(LAYOUT_HA_STDOUT, "{}")
                                 PUT(LAYOUT_HA_STDOUT, "") PUT(LAYOUT_HA_STDERR, "neither is this")
                                     PUT(LAYOUT_HA_STDOUT, EVENT("{\"running\":true}")) "sleep 60"),
        LIFECYCLE_END_READY);
}

static void test_no_progress_is_a_stall(void **state)
{
    struct fixture *f = *state;

    run_agent(f, "sleep 60");
    assert_int_equal(
        follow(f, (struct lifecycle_follow_options){.goal = LIFECYCLE_GOAL_READY, .stall_ms = 100}),
        LIFECYCLE_END_STALLED);
}

static void test_finished_lines_on_the_console_are_progress(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *path = path_join(f->dir, LAYOUT_SERIAL_LOG);

    file_write_text(path, "", 0600, NULL);
    run_agent(f, "for i in 1 2 3 4 5 6; do sleep 0.4; echo line >>\"$1/" LAYOUT_SERIAL_LOG "\"; "
                 "done\n" PUT(LAYOUT_HA_STDOUT, EVENT("{\"running\":true}")) "sleep 60");
    assert_int_equal(follow(f, (struct lifecycle_follow_options){.goal = LIFECYCLE_GOAL_READY,
                                                                 .stall_ms = 1500}),
                     LIFECYCLE_END_READY);
}

static void test_the_timeout_is_for_all_of_it(void **state)
{
    struct fixture *f = *state;

    run_agent(f, "while sleep 0.05; do echo line >>\"$1/" LAYOUT_SERIAL_LOG "\"; done");
    assert_int_equal(follow(f, (struct lifecycle_follow_options){.goal = LIFECYCLE_GOAL_READY,
                                                                 .timeout_ms = 300,
                                                                 .stall_ms = 10000}),
                     LIFECYCLE_END_TIMEOUT);
}

static void test_signals_interrupt_and_leave_the_agent_alone(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *script = xasprintf("while kill -INT %d; do sleep 0.05; done", (int)getpid());

    /* Sent until it is heard: nobody tells when follow() listens. */
    signal(SIGINT, SIG_IGN);
    run_agent(f, script);
    assert_int_equal(follow(f, (struct lifecycle_follow_options){.goal = LIFECYCLE_GOAL_READY,
                                                                 .timeout_ms = 20000}),
                     LIFECYCLE_END_INTERRUPTED);
    assert_int_equal(kill(f->agent, 0), 0);
}

static void test_the_lock_is_given_back_at_the_first_event(void **state)
{
    struct fixture *f = *state;
    int lock = dup(STDIN_FILENO);

    run_agent(f, PUT(LAYOUT_HA_STDOUT, EVENT("{\"sshLocalPort\":1}")) "sleep 60");
    assert_int_equal(follow(f, (struct lifecycle_follow_options){.goal = LIFECYCLE_GOAL_READY,
                                                                 .stall_ms = 500,
                                                                 .lock_fd = &lock}),
                     LIFECYCLE_END_STALLED);
    assert_int_equal(lock, -1);
}

static void test_waiting_for_the_end_ignores_old_events(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *path = path_join(f->dir, LAYOUT_HA_STDOUT);

    file_write_text(path, EVENT("{\"running\":true,\"errors\":[\"old\"]}") "\n", 0600, NULL);
    run_agent(f, "sleep 0.1");
    assert_int_equal(follow(f, (struct lifecycle_follow_options){.goal = LIFECYCLE_GOAL_EXIT}),
                     LIFECYCLE_END_GONE);
    assert_int_equal(f->result.errors.len, 0);
    f->agent = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_running_is_ready),
        TEST(test_last_progress_is_kept_for_who_waited_too_long),
        TEST(test_what_is_there_already_counts),
        TEST(test_degraded_brings_its_errors_once),
        TEST(test_the_end_is_awaited_after_exiting),
        TEST(test_a_killed_agent_is_gone_at_once),
        TEST(test_lines_that_are_no_events_are_skipped),
        TEST(test_no_progress_is_a_stall),
        TEST(test_finished_lines_on_the_console_are_progress),
        TEST(test_the_timeout_is_for_all_of_it),
        TEST(test_signals_interrupt_and_leave_the_agent_alone),
        TEST(test_the_lock_is_given_back_at_the_first_event),
        TEST(test_waiting_for_the_end_ignores_old_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
