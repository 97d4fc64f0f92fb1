/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gets the first usable image of a configuration into an instance folder: `disk` (grown to the
 * configured size, format kept), and `kernel`, `kernel.cmdline`, `initrd` for direct boot. Each
 * appears complete or not at all. "image:NAME" names one built here; it is built on demand. Blocks;
 * the command line calls it.
 */
#pragma once

#include "base/error.h"
#include "config/config.h"

/* Nothing to do when `disk` exists, but growing it. Logs what it uses and why; draws progress on a
 * terminal. */
int image_prepare(const struct config *config, const char *lima_home, const char *dir,
                  struct error *err);
