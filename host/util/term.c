/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drawn line remembers how many columns it filled. To clear it after the terminal became
 * narrower, the cursor first moves up over the rows into which the terminal has wrapped it.
 */
#include "util/term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "util/file.h"
#include "util/loop.h"
#include "util/strv.h"
#include "util/units.h"

#define DEFAULT_WIDTH 80
#define BAR_WIDTH     80
#define BAR_PERIOD_MS 200
#define CLEAR_BELOW   "\r\033[J"

bool term_stdin_is_tty(void)
{
    return isatty(STDIN_FILENO) == 1;
}

bool term_stdout_is_tty(void)
{
    const char *forced = getenv("_LIMA_OUTPUT_IS_TTY");

    return (forced && *forced) || isatty(STDOUT_FILENO) == 1;
}

bool term_stderr_is_tty(void)
{
    return isatty(STDERR_FILENO) == 1;
}

static int width_of(int fd)
{
    struct winsize size;

    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : DEFAULT_WIDTH;
}

int term_width(void)
{
    return width_of(STDOUT_FILENO);
}

int term_confirm(const char *question, bool def, bool *ret, struct error *err)
{
    scoped(free) char *line = NULL;
    scoped(free) char *answer = NULL;
    size_t cap = 0;

    fprintf(stderr, "? %s %s ", question, def ? "(Y/n)" : "(y/N)");
    errno = 0;
    if (getline(&line, &cap, stdin) < 0) {
        fputc('\n', stderr);
        return errno == EINTR ? error_set(err, EINTR, "interrupted by user")
                              : error_set(err, EIO, "no answer: end of input");
    }
    answer = str_trim(line);
    *ret = *answer ? strchr("yYtT1", *answer) != NULL : def;
    return 0;
}

char *term_fit(const char *text, int columns)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    int width = 0;

    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        width += (c & 0xc0) != 0x80;
        if (width > columns) {
            break;
        }
        buf_putc(&out, c == '\t' ? ' ' : c < 0x20 || c == 0x7f ? '?' : (char)c);
    }
    return buf_steal(&out);
}

static int text_width(const char *text)
{
    int width = 0;

    for (; *text; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

/* --- one line on stderr --- */

struct line {
    bool active; /* stderr is a terminal */
    char *text;  /* what is drawn, NULL: nothing */
};

static void line_clear(struct line *line)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    int rows;

    if (!line->text) {
        return;
    }
    rows = MAX(text_width(line->text) - 1, 0) / width_of(STDERR_FILENO);
    if (rows > 0) {
        buf_printf(&out, "\033[%dA", rows);
    }
    buf_puts(&out, CLEAR_BELOW);
    fd_write_all(STDERR_FILENO, out.data, out.len);
    free(steal(line->text));
}

static void line_draw(struct line *line, const char *text)
{
    char *fitted;

    if (!line->active) {
        return;
    }
    fitted = term_fit(text, width_of(STDERR_FILENO) - 1);
    line_clear(line);
    fd_write_all(STDERR_FILENO, fitted, strlen(fitted));
    line->text = fitted;
}

/* --- status --- */

struct term_status {
    struct line line;
    char *stage;
    char *detail;
    int64_t start_ms;
    int64_t stage_ms; /* when the stage began */
};

static void status_draw(struct term_status *status)
{
    int64_t now = loop_now_ms();
    scoped(free) char *text = NULL;

    if (!status->stage || !status->line.active) {
        return;
    }
    text = xasprintf("WAIT[%04lld] %s (%llds)%s%s", (long long)((now - status->start_ms) / 1000),
                     status->stage, (long long)((now - status->stage_ms) / 1000),
                     status->detail ? ": " : "", str_or_empty(status->detail));
    line_draw(&status->line, text);
}

static void on_status_log(bool after, void *arg)
{
    struct term_status *status = arg;

    if (after) {
        status_draw(status);
    } else {
        line_clear(&status->line);
    }
}

struct term_status *term_status_new(void)
{
    struct term_status *status = xnew(struct term_status);

    status->line.active = term_stderr_is_tty();
    status->start_ms = loop_now_ms();
    return status;
}

void term_status_set(struct term_status *status, const char *stage, const char *detail)
{
    bool same = str_eq(status->stage, stage);
    char *copy = xstrdup(detail);

    free(status->detail);
    status->detail = copy;
    if (!same) {
        free(status->stage);
        status->stage = xstrdup(stage);
        status->stage_ms = loop_now_ms();
    }
    if (!stage) {
        line_clear(&status->line);
        log_set_terminal_hook(NULL, NULL);
        return;
    }
    if (!status->line.active) {
        if (!same) {
            log_info("%s", stage);
        }
        return;
    }
    log_set_terminal_hook(on_status_log, status);
    status_draw(status);
}

void term_status_tick(struct term_status *status)
{
    status_draw(status);
}

void term_status_free(struct term_status *status)
{
    if (!status) {
        return;
    }
    if (status->stage) {
        term_status_set(status, NULL, NULL);
    }
    free(status->detail);
    free(status->line.text);
    free(status);
}

/* --- bar --- */

struct term_bar {
    struct line line;
    char *what;
    int64_t done, total;
    int64_t start_ms;
    int64_t drawn_ms;
};

static void put_meter(struct buf *out, int64_t done, int64_t total, int width)
{
    int filled = (int)((double)done / (double)total * width);

    buf_putc(out, '[');
    for (int i = 0; i < width; i++) {
        buf_putc(out, i < filled ? '=' : i == filled ? '>' : ' ');
    }
    buf_printf(out, "] %3.0f%% ", (double)done / (double)total * 100);
}

char *term_bar_format(const char *what, int64_t done, int64_t total, int64_t elapsed_ms,
                      int columns)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    scoped(buf_done) struct buf meter = BUF_INIT;
    scoped(free) char *done_text = size_format(done);
    scoped(free) char *total_text = size_format(total);
    scoped(free) char *speed = size_format(elapsed_ms > 0 ? done * 1000 / elapsed_ms : 0);
    int room;

    buf_printf(&out, "%s%s%s", what, *what ? " " : "", done_text);
    if (total > 0) {
        done = MIN(done, total);
        buf_printf(&out, " / %s", total_text);
        room = MIN(columns, BAR_WIDTH) - text_width(buf_str(&out)) - (int)strlen(speed) - 12;
        buf_putc(&out, ' ');
        put_meter(&meter, done, total, MAX(room, 3));
        buf_puts(&out, buf_str(&meter));
    } else {
        buf_putc(&out, ' ');
    }
    buf_printf(&out, "%s/s", speed);
    return term_fit(buf_str(&out), columns);
}

static void bar_draw(struct term_bar *bar)
{
    scoped(free) char *text = NULL;

    if (!bar->line.active) {
        return;
    }
    text = term_bar_format(bar->what, bar->done, bar->total, loop_now_ms() - bar->start_ms,
                           width_of(STDERR_FILENO) - 1);
    line_draw(&bar->line, text);
}

static void on_bar_log(bool after, void *arg)
{
    struct term_bar *bar = arg;

    if (after) {
        bar_draw(bar);
    } else {
        line_clear(&bar->line);
    }
}

struct term_bar *term_bar_new(const char *what)
{
    struct term_bar *bar = xnew(struct term_bar);

    bar->line.active = term_stderr_is_tty() && log_get_format() == LOG_FORMAT_TEXT;
    bar->what = xstrdup(what);
    bar->start_ms = loop_now_ms();
    if (bar->line.active) {
        log_set_terminal_hook(on_bar_log, bar);
    }
    return bar;
}

void term_bar_update(struct term_bar *bar, int64_t done, int64_t total)
{
    int64_t now = loop_now_ms();

    bar->done = done;
    bar->total = total;
    if (bar->drawn_ms == 0 || now - bar->drawn_ms >= BAR_PERIOD_MS) {
        bar->drawn_ms = now;
        bar_draw(bar);
    }
}

void term_bar_free(struct term_bar *bar)
{
    if (!bar) {
        return;
    }
    if (bar->line.active) {
        log_set_terminal_hook(NULL, NULL);
        if (bar->drawn_ms) {
            bar_draw(bar);
            fd_write_all(STDERR_FILENO, "\n", 1);
        }
    }
    free(bar->line.text);
    free(bar->what);
    free(bar);
}
