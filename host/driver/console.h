/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a serial console, cut anywhere, for signs that a boot cannot succeed: a kernel panic, a
 * firmware that finds nothing to boot or stands in its shell or menu, a boot loader's prompt, an
 * initramfs or emergency shell. Pure; the console belongs to the guest and is hostile: lengths are
 * bounded.
 */
#pragma once

#include <stddef.h>
#include "base/macros.h"

struct console_watch;

struct console_watch *console_watch_new(void);
void console_watch_free(struct console_watch *watch);
SCOPED_PTR(struct console_watch, console_watch_free)

/*
 * Feeds text. Returns the cause as a sentence without full stop ("the kernel panicked: ..."), once,
 * or NULL. The caller frees it.
 */
char *console_watch_feed(struct console_watch *watch, const char *text, size_t len);
/* The last lines (at most 20), without escape sequences, printable. Caller frees; never NULL. */
char *console_watch_tail(const struct console_watch *watch);
