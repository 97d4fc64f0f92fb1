/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "agent/boot.h"
#include "api/events.h"

struct seen {
    struct boot *boot;
    struct strv progress;
    int ready, failed;
    struct strv errors;
};

static void on_progress(const char *stage, const char *detail, void *arg)
{
    struct seen *seen = arg;

    strv_addf(&seen->progress, "%s|%s", stage, detail ? detail : "");
}

static void on_ready(const struct strv *errors, void *arg)
{
    struct seen *seen = arg;

    seen->ready++;
    strv_extend(&seen->errors, errors);
}

static void on_failed(const struct strv *errors, void *arg)
{
    struct seen *seen = arg;

    seen->failed++;
    strv_extend(&seen->errors, errors);
}

static const struct boot_events events = {on_progress, on_ready, on_failed};

static int setup(void **state)
{
    struct seen *seen = xnew(struct seen);

    seen->boot = boot_new(&events, seen);
    *state = seen;
    return 0;
}

static int teardown(void **state)
{
    struct seen *seen = *state;

    boot_free(seen->boot);
    strv_done(&seen->progress);
    strv_done(&seen->errors);
    free(seen);
    return 0;
}

static void test_ready_comes_once_with_the_last_stage(void **state)
{
    struct seen *seen = *state;

    boot_started(seen->boot);
    boot_stage(seen->boot, PEER_STAGE_AGENT, "");
    boot_stage(seen->boot, PEER_STAGE_SSH, "");
    assert_int_equal(seen->ready, 0);
    boot_stage(seen->boot, PEER_STAGE_READY, "");
    boot_stage(seen->boot, PEER_STAGE_AGENT, ""); /* a reboot of the guest */
    boot_stage(seen->boot, PEER_STAGE_READY, "");
    assert_int_equal(seen->ready, 1);
    assert_int_equal(seen->progress.len, 3);
    assert_string_equal(seen->progress.items[0], "booting|");
    assert_string_equal(seen->progress.items[2], "ssh is ready|");
}

static void test_failed_script_is_an_error_of_a_ready_instance(void **state)
{
    struct seen *seen = *state;
    struct peer_script script = {
        .name = "provision.system/00000000", .exit_status = 7, .tail = "a\nb", .hint = ""};

    boot_started(seen->boot);
    boot_stage(seen->boot, PEER_STAGE_PROVISION, "1");
    boot_script(seen->boot, &script);
    boot_stage(seen->boot, PEER_STAGE_READY, "");
    assert_int_equal(seen->ready, 1);
    assert_int_equal(seen->errors.len, 1);
    assert_string_equal(seen->errors.items[0],
                        "'provision.system/00000000' failed with exit status 7; its last lines:\n"
                        "a\nb");
}

static void test_failure_ends_everything_once(void **state)
{
    struct seen *seen = *state;

    boot_started(seen->boot);
    boot_fail(seen->boot, "the kernel panicked");
    boot_fail(seen->boot, "again");
    boot_stage(seen->boot, PEER_STAGE_READY, "");
    assert_int_equal(seen->failed, 1);
    assert_int_equal(seen->ready, 0);
    assert_string_equal(seen->errors.items[0], "the kernel panicked");
}

static void test_a_ready_instance_does_not_fail_any_more(void **state)
{
    struct seen *seen = *state;

    boot_started(seen->boot);
    boot_ssh_answers(seen->boot);
    boot_fail(seen->boot, "late");
    assert_int_equal(seen->ready, 1);
    assert_int_equal(seen->failed, 0);
}

static void test_console_is_shown_only_while_booting_and_not_too_often(void **state)
{
    struct seen *seen = *state;
    char noise[5000];

    memset(noise, 'x', sizeof(noise));
    boot_console(seen->boot, "early\n", 6);
    assert_int_equal(seen->progress.len, 0);
    boot_started(seen->boot);
    boot_console(seen->boot, noise, sizeof(noise));
    boot_console(seen->boot, "\x1b[0;1;31m\x01\n", 11);
    boot_console(seen->boot, "second\nthird\n", 13);
    assert_int_equal(seen->progress.len, 2);
    assert_int_equal(strlen(seen->progress.items[1]), strlen("booting|") + 120);
}

static void test_escape_sequences_are_not_shown_even_when_cut(void **state)
{
    static const char text[] = "\x1b[2J[\x1b[0;32m  OK  \x1b[0m] Started \x1b"
                               "cssh\n";
    struct seen *seen = *state;

    boot_started(seen->boot);
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        boot_console(seen->boot, &text[i], 1);
    }
    assert_string_equal(seen->progress.items[1], "booting|[  OK  ] Started ssh");
}

static void test_event_with_all_errors_of_a_hostile_guest_can_be_read_back(void **state)
{
    struct seen *seen = *state;
    char tail[4096] = "";
    struct peer_script script = {.name = "x", .exit_status = 1, .tail = tail, .hint = ""};
    FILE *file = tmpfile();
    struct api_event event = {.errors = &seen->errors};
    struct api_event_in back;
    scoped(free) char *line = NULL;
    size_t size = 0;

    memset(tail, '"', sizeof(tail) - 1);
    boot_started(seen->boot);
    boot_stage(seen->boot, PEER_STAGE_PROVISION, "100");
    for (int i = 0; i < 100; i++) {
        boot_script(seen->boot, &script);
    }
    boot_stage(seen->boot, PEER_STAGE_READY, "");
    assert_in_range(seen->errors.len, 20, 65);
    assert_int_equal(api_event_write(fileno(file), &event, NULL), 0);
    rewind(file);
    assert_true(getline(&line, &size, file) > 0);
    fclose(file);
    assert_int_equal(api_event_parse(line, &back, NULL), 0);
    jv_free(back.status);
}

static void test_guest_that_never_gets_ready_cannot_tell_without_end(void **state)
{
    struct seen *seen = *state;
    struct peer_script script = {.name = "x", .running = true, .tail = "", .hint = ""};

    boot_started(seen->boot);
    for (int i = 0; i < 10000; i++) {
        boot_stage(seen->boot, PEER_STAGE_SSH, "");
        boot_script(seen->boot, &script);
    }
    assert_in_range(seen->progress.len, 100, 3000);
    boot_stage(seen->boot, PEER_STAGE_READY, "");
    assert_int_equal(seen->ready, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ready_comes_once_with_the_last_stage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_script_is_an_error_of_a_ready_instance, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_failure_ends_everything_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_ready_instance_does_not_fail_any_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_console_is_shown_only_while_booting_and_not_too_often,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_escape_sequences_are_not_shown_even_when_cut, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_event_with_all_errors_of_a_hostile_guest_can_be_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_guest_that_never_gets_ready_cannot_tell_without_end,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
