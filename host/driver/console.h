/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads along on a serial console to find a boot that cannot succeed: nothing to boot, a firmware,
 * boot loader or emergency shell that waits for somebody, a kernel panic. Pure: text in, causes
 * out; the text may be cut anywhere and holds terminal sequences, which are skipped. Memory is
 * bounded whatever a hostile guest writes.
 */
#pragma once

#include <stddef.h>
#include "base/macros.h"

struct console_watch;

struct console_watch *console_watch_new(void) _nonnull_;
void console_watch_free(struct console_watch *watch);
SCOPED_PTR(struct console_watch, console_watch_free)

/*
 * Takes new text. Returns the cause the first time one is found, as a clause that holds the
 * console's own words ("the guest's kernel panicked: ..."), else NULL. The caller frees it.
 */
char *console_watch_feed(struct console_watch *watch, const char *text, size_t len);

/*
 * The last lines (at most 16), without blank ones and terminal sequences, in printable ASCII.
 * Caller frees.
 */
char *console_watch_tail(const struct console_watch *watch) _nonnull_;
