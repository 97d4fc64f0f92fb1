/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal of a command: is it one, how wide, a status line that is redrawn in place, a yes/no
 * question, a progress bar for downloads. On anything but a terminal the status line prints each
 * new stage once as a log line and the bar nothing. A status line and a bar may exist at the same
 * time if the status is cleared meanwhile; log lines are written above whichever is drawn.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

bool term_stdin_is_tty(void);
bool term_stdout_is_tty(void); /* also true with _LIMA_OUTPUT_IS_TTY set */
bool term_stderr_is_tty(void);
int term_width(void); /* columns of stdout, 80 when unknown */

/* Asks on stderr, reads stdin; @def on an empty answer. Errors: EINTR (Ctrl-C), EIO (end of input).
 */
int term_confirm(const char *question, bool def, bool *ret, struct error *err);

/* Stages with elapsed time on stderr, one line in place; hooks itself into the log sink. */
struct term_status;
struct term_status *term_status_new(void);
/*
 * @stage such as "booting the kernel"; NULL clears the line. @detail, may be NULL, changes more
 * often and is shown on a terminal only. Redraw is the caller's, once a second.
 */
void term_status_set(struct term_status *status, const char *stage, const char *detail);
void term_status_tick(struct term_status *status);
/* Clears the line. */
void term_status_free(struct term_status *status);
SCOPED_PTR(struct term_status, term_status_free)

/* A bar: DONE / TOTAL [====>   ] PERCENT SPEED/s. @total 0: unknown. Draws at most 5 times a
 * second. */
struct term_bar;
struct term_bar *term_bar_new(const char *what);
void term_bar_update(struct term_bar *bar, int64_t done, int64_t total);
/* Leaves the last state of the bar on a line of its own. */
void term_bar_free(struct term_bar *bar);
SCOPED_PTR(struct term_bar, term_bar_free)

/* One line for the width of a terminal: control characters replaced, cut at @columns. Caller frees.
 */
char *term_fit(const char *text, int columns) _nonnull_;
/* The text of a bar for @columns. Caller frees. */
char *term_bar_format(const char *what, int64_t done, int64_t total, int64_t elapsed_ms,
                      int columns) _nonnull_;
