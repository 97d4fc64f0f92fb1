/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/log.h"
#include "util/term.h"

static void test_fitted_text_has_no_control_characters_and_no_line_break(void **state)
{
    static const struct {
        const char *text;
        int columns;
        const char *want;
    } cases[] = {
        {"abc", 10, "abc"},
        {"abcdef", 3, "abc"},
        {"a\x1b[31mb", 20, "a?[31mb"},
        {"a\nb\tc\x7f", 20, "a?b c?"},
        {"\xc3\xa4\xc3\xb6\xc3\xbc", 2, "\xc3\xa4\xc3\xb6"},
        {"", 5, ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *got = term_fit(cases[i].text, cases[i].columns);

        assert_string_equal(got, cases[i].want);
    }
}

static void test_bar_shows_share_and_speed_and_fits(void **state)
{
    scoped(free) char *half = term_bar_format("x", 512 << 10, 1 << 20, 1000, 79);
    scoped(free) char *unknown = term_bar_format("x", 1 << 20, 0, 500, 79);
    scoped(free) char *narrow = term_bar_format("long-name.qcow2", 1 << 20, 1 << 20, 1000, 20);

    assert_true(strstr(half, "x 512KiB / 1MiB [") == half);
    assert_non_null(strstr(half, "=>"));
    assert_non_null(strstr(half, " 50% 512KiB/s"));
    assert_true(strlen(half) <= 79);
    assert_string_equal(unknown, "x 1MiB 2MiB/s");
    assert_true(strlen(narrow) <= 20);
}

/* A terminal in place of stderr; what was written to it is read from the other side. */
struct screen {
    int primary;
    int saved;
};

static int setup(void **state)
{
    struct screen *screen = xnew(struct screen);
    struct winsize size = {.ws_row = 24, .ws_col = 40};
    int secondary;

    if (openpty(&screen->primary, &secondary, NULL, NULL, &size) < 0) {
        return -1;
    }
    fcntl(screen->primary, F_SETFL, O_NONBLOCK);
    screen->saved = dup(STDERR_FILENO);
    dup2(secondary, STDERR_FILENO);
    close(secondary);
    *state = screen;
    return 0;
}

static int teardown(void **state)
{
    struct screen *screen = *state;

    dup2(screen->saved, STDERR_FILENO);
    close(screen->saved);
    close(screen->primary);
    free(screen);
    return 0;
}

static char *written(struct screen *screen)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    char chunk[512];
    ssize_t n;

    while ((n = read(screen->primary, chunk, sizeof(chunk))) > 0) {
        buf_put(&out, chunk, (size_t)n);
    }
    return buf_steal(&out);
}

static void test_status_line_makes_room_for_log_lines(void **state)
{
    struct screen *screen = *state;
    struct term_status *status = term_status_new();
    scoped(free) char *text = NULL;
    const char *cleared, *line, *again;

    term_status_set(status, "booting", "a detail");
    log_warn("a log line");
    term_status_free(status);
    text = written(screen);
    assert_non_null(strstr(text, "WAIT[0000] booting (0s): a detail"));
    cleared = strstr(text, "\r\033[J");
    assert_non_null(cleared);
    line = strstr(cleared, "a log line");
    assert_non_null(line);
    again = strstr(line, "WAIT[0000] booting");
    assert_non_null(again);
    assert_non_null(strstr(again, "\r\033[J"));
}

static void test_status_line_is_cut_at_the_width(void **state)
{
    struct screen *screen = *state;
    struct term_status *status = term_status_new();
    scoped(free) char *text = NULL;

    term_status_set(status, "0123456789012345678901234567890123456789", NULL);
    text = written(screen);
    assert_int_equal(strlen(text), 39);
    term_status_free(status);
}

static void test_narrower_terminal_is_cleared_over_all_wrapped_rows(void **state)
{
    struct screen *screen = *state;
    struct winsize size = {.ws_row = 24, .ws_col = 10};
    struct term_status *status = term_status_new();
    scoped(free) char *text = NULL;

    term_status_set(status, "0123456789012345678901234567890123456789", NULL);
    free(written(screen));
    ioctl(screen->primary, TIOCSWINSZ, &size);
    term_status_tick(status);
    text = written(screen);
    assert_true(strstr(text, "\033[3A\r\033[J") == text); /* 39 columns are 4 rows of 10 */
    term_status_free(status);
}

static void test_without_a_terminal_each_stage_is_one_log_line(void **state)
{
    struct screen *screen = *state;
    int pipe_fds[2];
    char text[1024];
    ssize_t n;
    struct term_status *status;

    assert_int_equal(pipe(pipe_fds), 0);
    dup2(pipe_fds[1], STDERR_FILENO);
    close(pipe_fds[1]);
    status = term_status_new();
    term_status_set(status, "booting", "one");
    term_status_set(status, "booting", "two");
    term_status_tick(status);
    term_status_set(status, "ready", NULL);
    term_status_free(status);
    dup2(screen->saved, STDERR_FILENO);
    n = read(pipe_fds[0], text, sizeof(text) - 1);
    close(pipe_fds[0]);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "level=info msg=booting\n"));
    assert_null(strstr(strstr(text, "booting") + 1, "booting"));
    assert_non_null(strstr(text, "msg=ready\n"));
    assert_null(strchr(text, '\r'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fitted_text_has_no_control_characters_and_no_line_break),
        cmocka_unit_test(test_bar_shows_share_and_speed_and_fits),
        cmocka_unit_test_setup_teardown(test_status_line_makes_room_for_log_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_status_line_is_cut_at_the_width, setup, teardown),
        cmocka_unit_test_setup_teardown(test_narrower_terminal_is_cleared_over_all_wrapped_rows,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_terminal_each_stage_is_one_log_line, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
