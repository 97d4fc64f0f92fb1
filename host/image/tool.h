/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the programs that make an image, one after another, in the foreground: their output goes to
 * a log file, the stage to the status line, and Ctrl-C ends the running one and with it the series.
 * As an unprivileged user they run in a user namespace in which that user is root.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "util/strv.h"

struct tool;

/* @dir: where the programs work and where their output is kept, as "build.log". */
int tool_open(const char *dir, struct tool **ret, struct error *err);
/* Waits for nothing: no program runs between two calls. */
void tool_close(struct tool *tool);
SCOPED_PTR(struct tool, tool_close)

/* The next stage; NULL clears the line. */
void tool_stage(struct tool *tool, const char *stage);
/*
 * Runs @argv to its end, as root of the image. @input (may be NULL) becomes its standard input.
 * @ret_output (may be NULL) gets its standard output, which else goes to the log.
 * Errors: EINTR (Ctrl-C), EIO (non-zero exit; the message has the last lines of output), ENOENT.
 */
int tool_run(struct tool *tool, const struct strv *argv, const char *input, struct buf *ret_output,
             struct error *err);
/* The same for a short list, which ends with NULL. */
int tool_call(struct tool *tool, struct error *err, ...) __attribute__((sentinel));
/* EINTR after Ctrl-C, else 0. */
int tool_check(struct tool *tool, struct error *err);

/* rm -rf of what such programs made, whoever owns it now; works after Ctrl-C too. */
int tool_remove_tree(const char *path, struct error *err);
/* Full path of a program in PATH or the folders of the administrator, or NULL. Caller frees. */
char *tool_find(const char *program);
/*
 * Errors: EPERM with what is missing and how to get it, when the caller is neither root nor allowed
 * a user namespace with a range of ids.
 */
int tool_check_privilege(struct error *err);
